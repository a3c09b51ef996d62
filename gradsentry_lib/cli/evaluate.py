"""`gradsentry eval`: how well do filters work on this data set?"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gradsentry_lib.cli.options import told
from gradsentry_lib.errors import UnusableFile, UnusableOption
from gradsentry_lib.files import write_text

COLUMNS = {
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "auc": "AUC",
    "recall_at_fpr1": "recall at FPR 1 %",
    "recall_at_fpr5": "recall at FPR 5 %",
    "auc_equal_length": "AUC, equal length",
    "clean_kept": "clean kept",
}


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("eval")(evaluate)


def list_attacks(wanted: bool) -> None:
    """Prints every attack with its source, and ends."""
    if not wanted:
        return
    from rich.console import Console
    from rich.table import Table

    from gradsentry_lib.evaluation.attacks import ATTACKS

    table = Table("attack", "source, and what differs here", "rows it needs")
    for name, attack in ATTACKS.items():
        table.add_row(name, attack.source, attack.needs)
    Console(width=max(Console().width, 120)).print(table)
    raise typer.Exit


def evaluate(
    file: Annotated[Path, typer.Argument(help="Clean data to poison, or labelled data (JSON lines, CSV, Parquet).")],
    attack: Annotated[
        str | None, typer.Option(help="Attack to poison the clean data with; --attacks lists them.")
    ] = None,
    attacks: Annotated[
        bool,
        typer.Option("--attacks", callback=list_attacks, is_eager=True, help="List the attacks with their sources."),
    ] = False,
    ratio: Annotated[float, typer.Option(help="Share of rows to poison.")] = 0.1,
    labels: Annotated[str | None, typer.Option(help="Column that says which rows are poisoned; never scored.")] = None,
    filters: Annotated[str, typer.Option(help="Filters, comma separated, or `all`.")] = "policy-paper,length,ngram",
    seed: Annotated[list[int] | None, typer.Option(help="Seed; give it several times for several runs.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many rows, drawn by the seed.")] = None,
    model: Annotated[str | None, told("model")] = None,
    device: Annotated[str | None, told("device")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "float32",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here, too.")] = None,
) -> None:
    """Measures filters: poisons clean data with an attack, or takes data with labels, and compares."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from gradsentry_lib import settings
    from gradsentry_lib.evaluation import harness
    from gradsentry_lib.evaluation.attacks import attack_named, poison
    from gradsentry_lib.evaluation.data import read_rows, split_labels, take, to_samples
    from gradsentry_lib.scoring.model import load_model

    if (attack is None) == (labels is None):
        raise UnusableOption("Give either --attack (the data is clean) or --labels (the data says what is poisoned).")
    if attack is not None:
        attack_named(attack)
    names = list(harness.FILTERS) if filters == "all" else [name.strip() for name in filters.split(",") if name.strip()]
    chosen = harness.filters_named(names)
    rows = read_rows(file)
    if labels is not None:
        split_labels(rows, labels)
    console = Console(stderr=True)
    loaded = load_model(settings.value("model", model), device=settings.value("device", device), dtype=dtype)
    lines: list[dict[str, Any]] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("loading", total=None)

        def advance(count: int) -> None:
            progress.advance(task, count)

        for one in seed or [0]:

            def start(name: str, one: int = one) -> None:
                progress.reset(task, description=f"{name} (seed {one})")

            kept = take(rows, limit, one)
            if attack is not None:
                poisoned = poison(kept, attack, ratio, one)
                kept, truth = poisoned.rows, poisoned.labels
            else:
                kept, truth = split_labels(kept, labels or "")
            lines += harness.evaluate(
                to_samples(kept),
                truth,
                loaded,
                chosen,
                seed=one,
                on_start=start,
                on_progress=advance,
            )
    _show(lines, console)
    text = json.dumps(lines, indent=2, allow_nan=False) + "\n"
    if json_path is not None:
        try:
            write_text(json_path, text)
        except OSError as error:
            raise UnusableFile(f"{json_path} can't be written: {error.strerror}") from error


def _show(lines: list[dict[str, Any]], console: Any) -> None:
    """The figures as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    head = lines[0]
    table = Table(title=f"{head['rows']} rows, {head['poisoned']} poisoned", title_justify="left")
    table.add_column("filter", no_wrap=True)
    several = len({line["seed"] for line in lines}) > 1
    if several:
        table.add_column("seed", justify="right")
    for title in (*COLUMNS.values(), "seconds", "MB"):
        table.add_column(title, justify="right")
    for line in lines:
        figures = ["-" if line[key] is None else f"{line[key]:.3f}" for key in COLUMNS]
        start = [line["filter"], *([str(line["seed"])] if several else [])]
        table.add_row(*start, *figures, f"{line['seconds']:.1f}", f"{line['peak_mb']:.0f}")
    Console(width=max(console.width, 120)).print(table)
