"""`gradsentry bench`: filters side by side on labelled sets; `gradsentry bench --suite` makes the public ones."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer

from gradsentry_lib.cli.options import told
from gradsentry_lib.errors import UnusableFile
from gradsentry_lib.files import write_text

FILTERS = ["policy-auto", "policy-paper", "length", "ngram"]


def register(app: typer.Typer) -> None:
    app.command("bench")(bench_command)


def bench_command(
    folder: Annotated[Path, typer.Argument(help="Folder of labelled sets: JSON lines, CSV or Parquet.")],
    suite: Annotated[bool, typer.Option("--suite", help="First make the public suite in that folder.")] = False,
    checkout: Annotated[
        Path | None, typer.Option(help="A checkout of github.com/ZrW00/GraCeFul, for the suite's released sets.")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="A filter's name, or NAME=COMMAND with {rows} and {verdicts} for the files that it reads and writes; "
            f"repeatable. If left out: {', '.join(FILTERS)}.",
        ),
    ] = None,
    labels: Annotated[str, typer.Option(help="Column that says which rows are poisoned; never shown.")] = "poisoned",
    only: Annotated[list[str] | None, typer.Option(help="Sets whose name holds this; repeatable.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="At most so many rows of a set, in their share; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of filters that draw.")] = 0,
    model: Annotated[str | None, told("model")] = None,
    device: Annotated[str | None, told("device")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "float32",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write figures and costs here.")] = None,
    beside: Annotated[
        Path | None, typer.Option(help="An earlier --json of the same sets: its other filters stand beside these.")
    ] = None,
    md_path: Annotated[Path | None, typer.Option("--md", help="Write the tables here, as Markdown.")] = None,
) -> None:
    """Compares filters on a folder of labelled sets: recall, false positives, F1, AUC, cost, with intervals.

    Figures are the same in every run; seconds and memory are the machine's and stand apart. A run that is stopped goes
    on where it stopped when it is begun again.
    """
    from rich.console import Console

    from gradsentry_lib import settings
    from gradsentry_lib.evaluation.bench import bench, filters_of, markdown, read_sets
    from gradsentry_lib.evaluation.bench_result import earlier, lines_of, made_how, result
    from gradsentry_lib.evaluation.kept import Kept
    from gradsentry_lib.scoring.model import load_model

    console = Console(stderr=True)
    chosen = filters_of(filters or FILTERS)
    if suite:
        from gradsentry_lib.evaluation.suite import write_suite

        made = write_suite(folder, checkout, seed)
        if made.missing:
            console.print(f"left out, for they need --checkout: {', '.join(made.missing)}", markup=False)
    sets = [one for one in read_sets(folder, labels) if not only or any(part in one.name for part in only)]
    sets = [one.part(rows, seed) for one in sets] if rows else sets
    name = settings.value("model", model)
    how = made_how(sets, model=name, dtype=dtype, seed=seed, rows_at_most=rows or None)
    old = None if beside is None else earlier(beside, how)

    @lru_cache(maxsize=1)
    def load() -> Any:
        return load_model(name, device=settings.value("device", device), dtype=dtype)

    kept, lines = Kept(settings.unfinished()), list[dict[str, Any]]()
    with console.status("starting") as status:
        for line in bench(sets, chosen, load, seed, kept, lambda what: status.update(what)):
            lines.append(line)
            told = f"{len(lines)} of {len(sets) * len(chosen)}: {line['set']}, {line['filter']}"
            console.print(f"{told}: {line.get('failed') or _said(line)}", markup=False, highlight=False)
    if kept.found:
        console.print(f"{kept.found} of them were made by a run that was stopped.", highlight=False)
    content = result(how, lines, old)
    table = markdown(lines_of(content))
    print(table, end="")
    for path, written in ((json_path, json.dumps(content, indent=2, allow_nan=False) + "\n"), (md_path, table)):
        if path is not None:
            try:
                write_text(path, written)
            except OSError as error:
                raise UnusableFile(f"{path} can't be written: {error.strerror}") from error
    kept.drop()


def _said(line: Mapping[str, Any]) -> str:
    return f"{line['found']} of {line['poisoned']} found, {line['false']} false, {line['cost']['seconds']:.1f} s"
