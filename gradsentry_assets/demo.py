"""`make demo`: the whole graph on a bundled batch whose poison is known, and how well it was found.

    python -m gradsentry_assets.demo

Everything is written below the working directory, unless GRADSENTRY_HOME and DAGSTER_HOME name other places: the store
into `.gradsentry`, Dagster's history into `.dagster_home`. `make dev` reads the same two, so the UI shows these very
runs. The settings of scoring, judging and signing count as anywhere; which ones it found, and which it has no use for,
the demo says.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from upath import UPath

from gradsentry_assets import demo_data
from gradsentry_assets.arrivals import list_landing
from gradsentry_assets.definitions import defs
from gradsentry_assets.receiving import receive
from gradsentry_assets.stage import Names
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.settings import OPTIONS
from gradsentry_lib.store.paths import Store

NAMES = Names()  # of the stage in definitions.py
SHOWN = 5  # flagged rows on the terminal
NO_USE = ("landing", "service")  # groups of settings


def main() -> int:
    """Runs the demo; 0 where a clean file was made."""
    console = Console(highlight=False)
    for line in said_of_settings(os.environ):
        console.print(rich_markup(line), style="yellow", soft_wrap=True)
    store, instance = Store.default(), open_instance(Path(os.environ.get("DAGSTER_HOME") or ".dagster_home").absolute())
    batch = take_in(store, instance)
    console.print(
        f"\n[bold]GradSentry demo[/]: batch [cyan]{batch}[/], 600 questions with answers, one in ten poisoned.\n"
    )
    started = time.perf_counter()
    with console.status("raw_samples → gradient_entropy → entropy_threshold → gate → clean_dataset (about a minute)"):
        result = defs.resolve_job_def(NAMES.of("scan_batch")).execute_in_process(
            partition_key=batch,
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
    console.print(f"Four assets in {time.perf_counter() - started:.0f} s, run {result.run_id[:8]}.\n")
    if "entropy_threshold" not in {event.step_key for event in result.get_asset_materialization_events()}:
        console.print("[bold red]The run failed.[/] Open the UI with [bold]make dev[/] to see why.")
        return 1
    tell(console, store, instance, batch)
    return 0 if result.success else 1


def said_of_settings(environment: Mapping[str, str]) -> list[str]:
    """A line on the settings that count here, one on those that the demo has no use for, one on unknown names."""
    names = sorted(name for name, value in environment.items() if name.startswith("GRADSENTRY_") and value)
    known = {option.variable: option for option in OPTIONS.values()}
    used = [
        f"{name}={'***' if known[name].secret else environment[name]}"
        for name in names
        if name in known and known[name].group not in NO_USE
    ]
    if environment.get("DAGSTER_HOME"):
        used.insert(0, f"DAGSTER_HOME={environment['DAGSTER_HOME']}")
    idle = [name for name in names if name in known and known[name].group in NO_USE]
    unknown = [name for name in names if name not in known]
    said = (("From the environment", used), ("Not used by the demo", idle), ("Of no meaning", unknown))
    return [f"{what}: {', '.join(some)}." for what, some in said if some]


def open_instance(home: Path) -> dg.DagsterInstance:
    """Dagster's history in `home`, set up as the project ships it."""
    home.mkdir(parents=True, exist_ok=True)
    shipped = Path(__file__).parents[1] / "dagster.yaml"
    if shipped.exists() and not (home / "dagster.yaml").exists():
        shutil.copy(shipped, home)
    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.get()


def take_in(store: Store, instance: dg.DagsterInstance) -> str:
    """Delivers the bundled batch as the landing sensor would; gives its key."""
    with as_file(files(demo_data) / "demo_questions.jsonl") as path:
        folder = UPath(path.parent)
        landed = next(file for file in list_landing(folder).values() if file.name == path.name)
        arrival = receive(landed, folder, store.home, {landed.url}, [])
    instance.add_dynamic_partitions(NAMES.of("batches"), [arrival.batch])
    return arrival.batch


def tell(console: Console, store: Store, instance: dg.DagsterInstance, batch: str) -> None:
    """What was flagged, against the labels; where the files are; how to go on."""
    decision = _metadata(instance, "entropy_threshold", batch)
    verdicts = pq.read_table(decision["verdicts"]).select(["row", "verdict", "entropy", "reasons"]).to_pylist()
    lines = (files(demo_data) / "demo_labels.jsonl").read_text(encoding="utf-8").splitlines()
    poisoned = {label["row"] for label in map(json.loads, lines) if label["poisoned"]}
    flagged = {line["row"] for line in verdicts if line["verdict"] != "clean"}
    hits, rows = len(flagged & poisoned), len(verdicts)

    table = Table(title=f"threshold τ = {decision['tau']:.3f} ({decision['method']})", title_style="bold")
    for name in ("", "flagged", "kept"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("poisoned", str(hits), str(len(poisoned) - hits))
    table.add_row("honest", str(len(flagged) - hits), str(rows - len(poisoned) - len(flagged) + hits))
    console.print(table)
    recall, precision = hits / len(poisoned), hits / len(flagged) if flagged else 0.0
    f1 = 2 * hits / (len(flagged) + len(poisoned))
    console.print(f"recall [bold]{recall:.3f}[/]   precision [bold]{precision:.3f}[/]   F1 [bold]{f1:.3f}[/]\n")

    console.print("Flagged with the highest entropy:")
    for row in decision["top_flagged"].records[:SHOWN] if "top_flagged" in decision else []:
        said = row.data
        mark = "[red]poison[/]" if said["row"] in poisoned else "[yellow]honest[/]"
        answer = rich_markup(str(said["response"]), 70)
        console.print(f"  line {said['line']:>4}  {said['entropy']:.3f}  {mark}  {answer}", soft_wrap=True)

    console.print("\nFiles:")
    places = {"evidence": Path(decision["verdicts"]).parent}
    if clean := _metadata(instance, "clean_dataset", batch):
        places = {"clean rows": clean["clean_file"], "quarantine": clean["quarantine_file"], **places}
    else:
        console.print("  [red]The gate refused this batch: nothing was written as clean.[/]")
    for what, place in places.items():
        console.print(f"  {what:<11} {_short(Path(place))}", soft_wrap=True)
    console.print(
        "\n[bold]make dev[/] opens the UI on http://127.0.0.1:3000 with this run in it; "
        f"files dropped into [bold]{_short(store.landing)}[/] are scanned by themselves.\n"
    )


def _metadata(instance: dg.DagsterInstance, asset: str, batch: str) -> dict:
    asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[batch])
    records = instance.fetch_materializations(asked, limit=1).records
    found = records[0].asset_materialization if records else None
    return {} if found is None else {n: getattr(v, "value", v) for n, v in found.metadata.items()}


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # DuckDB's bindings list what they hold when the interpreter ends: noise below the result
