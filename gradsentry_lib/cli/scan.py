"""`gradsentry scan`: a file in, a clean file, a quarantine and the reasons out, without Dagster."""

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.table import Table

from gradsentry_lib.api.incoming import bring_in
from gradsentry_lib.api.result import Result
from gradsentry_lib.api.scan import scan_incoming
from gradsentry_lib.cli import reading
from gradsentry_lib.cli.options import told
from gradsentry_lib.detection.verdict import NO_TRIGGER
from gradsentry_lib.errors import GateFailed, SourceChanged
from gradsentry_lib.pipeline.deliver import earlier_results, outputs_at
from gradsentry_lib.pipeline.fetch import is_url
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.report.progress import progress_bar
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.settings import OPTIONS, read
from gradsentry_lib.store.paths import Store

SHOWN = 10  # flagged rows on the terminal


def register(app: typer.Typer) -> None:
    app.command("scan")(scan_command)


def scan_command(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A file of JSON, CSV, Parquet or Arrow, plain or packed; a folder; a URL; a hub name.")
    ],
    out: Annotated[str, typer.Option("--out", help="Folder for the results, or a URL (s3://bucket/prefix).")],
    model: Annotated[str | None, told("model")] = None,
    revision: Annotated[str | None, told("revision")] = None,
    base_model: Annotated[str | None, told("base_model")] = None,
    device: Annotated[str | None, told("device")] = None,
    dtype: Annotated[str | None, told("dtype")] = None,
    policy: Annotated[str | None, told("policy")] = None,
    threshold: Annotated[float | None, told("threshold")] = None,
    max_flagged: Annotated[float | None, told("max_flagged")] = None,
    warn_flagged: Annotated[float | None, told("warn_flagged")] = None,
    max_unscored: Annotated[float | None, told("max_unscored")] = None,
    max_rejected: Annotated[float | None, told("max_rejected")] = None,
    min_power: Annotated[float | None, told("min_power")] = None,
    power: Annotated[str | None, told("power")] = None,
    limits_by: Annotated[str | None, told("limits_by")] = None,
    limits_reason: Annotated[str | None, told("limits_reason")] = None,
    control_tokens: Annotated[str | None, told("control_tokens")] = None,
    watched: Annotated[str | None, told("watched")] = None,
    known: Annotated[list[str] | None, told("known")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Scan the first rows only.")] = None,
    column: reading.Column = None,
    role: reading.Role = None,
    response_marker: reading.Marker = None,
    mapping: reading.Mapped = None,
    encoding: reading.Encoding = None,
    separator: reading.Separator = None,
    max_bytes: reading.MaxBytes = None,
    split: reading.Split = None,
    max_tokens: Annotated[int | None, told("max_tokens")] = None,
    module: Annotated[str | None, told("module")] = None,
    k: Annotated[int | None, told("k")] = None,
    crop: Annotated[int | None, told("crop")] = None,
    token_budget: Annotated[int | None, told("token_budget")] = None,
    engine: Annotated[str | None, told("engine")] = None,
    ray_address: Annotated[str | None, told("ray_address")] = None,
    workers: Annotated[int | None, told("workers")] = None,
    resident: Annotated[str | None, told("resident")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files in the way that no scan of this store wrote.")
    ] = False,
) -> None:
    """Scan a set of fine-tuning samples and write its clean part, its quarantine and the evidence to a folder.

    Ends with 0 when the clean file was written, 3 when the gate refused (nothing is written as clean), 4 when the
    source changed while it was scanned (nothing is published, what an earlier scan left in the folder is withdrawn), 2
    on bad input or where a file in the folder is in the way.
    """
    console = Console()
    given = context.params | {"known": os.pathsep.join(known or ())}
    settings = read(**{name: said for name, said in given.items() if name in OPTIONS})
    if settings.engine == "local" and not is_url(source) and Path(source).is_file():
        _without_pandas()
    options = reading.reading_options(
        source, column, role, response_marker, mapping, split, separator, encoding, max_bytes
    )
    store = Store.default()
    with earlier_results(out):
        incoming = bring_in(source, store)
        opened = open_as_told(str(incoming.source), options)
        target = outputs_at(out, store.home, incoming.origin, overwrite)
        target.check(opened.suffix)
        try:
            with progress_bar(console) as show:
                result = scan_incoming(
                    replace(incoming, source=opened),
                    store,
                    options=options | ({"limit": limit} if limit else {}),
                    settings=settings,
                    on_progress=show,
                )
        except SourceChanged:
            target.withdraw()
            raise
        target.write(result.files)
    _tell(console, result, out)
    if not result.gate:
        failed = "; ".join(check.message for check in result.gate.failed)
        raise GateFailed(f"the gate refused this batch: {failed}. Nothing was written as clean.")


def _without_pandas() -> None:
    """Arrow imports pandas, a third of a second, before it looks at its first list, and does without one too old. It
    asks once; nothing on a file's way hands it a data frame. Only here, where the process is this command's own."""
    if "pandas" in sys.modules:
        return
    old = ModuleType("pandas")
    old.__version__ = "0"  # type: ignore[attr-defined]
    sys.modules["pandas"] = old
    try:
        with warnings.catch_warnings(action="ignore"):
            pa.array([0])
    finally:
        del sys.modules["pandas"]


def _tell(console: Console, result: Result, out: str) -> None:
    made, decided, scored = result.made, result.made.decided, result.made.scored
    counts = Table.grid(padding=(0, 2))
    counts.add_row("rows read", f"{made.batch.read:,}")
    counts.add_row("clean", f"{decided.clean:,}", "" if result.gate else "[red]not written: gate refused[/]")
    counts.add_row("flagged", f"{decided.flagged:,}", f"{decided.flagged_fraction:.1%} of the readable rows")
    counts.add_row("unscored", f"{decided.unscored:,}")
    counts.add_row("rejected", f"{decided.rejected:,}")
    counts.add_row("threshold", f"{decided.tau:.3f}", f"policy {decided.policy}; score {decided.trust}")
    rate = f"{1000 * scored.seconds / scored.computed:.1f} ms a row" if scored.computed else "all found in the store"
    counts.add_row("scored now", f"{scored.computed:,}", rate)
    console.print(counts)
    for check in result.gate.checks:
        if not check.passed:
            console.print(
                f"[{'red' if check.severity == 'error' else 'yellow'}]{check.severity}[/] {rich_markup(check.message)}"
            )
    for group in (*result.groups, *result.watched):
        payload, trigger = group.payload or "no wording", group.trigger or NO_TRIGGER
        told = f"{len(group.rows):,} rows: answers share {payload}; prompts hold {trigger}"
        how = "[yellow]watched, not flagged[/]" if group.watched else "[red]looks like one attack[/]"
        console.print(f"{how} {rich_markup(told, 400)}")
    for note in made.batch.notes:
        console.print(f"[cyan]note[/] {rich_markup(note, 400)}")
    if made.batch.unread:
        named = "; ".join(column.share(made.batch.readable) for column in made.batch.unread[:SHOWN])
        more = len(made.batch.unread) - SHOWN
        named += f"; and {more} more" if more > 0 else ""
        console.print(f"[yellow]not read[/] text in the columns {rich_markup(named, 2000)}")
    if result.power is not None:
        console.print(f"[cyan]power[/] {rich_markup(result.power.sentences()[0], 600)}")
    for remark in decided.remarks:
        console.print(f"[cyan]note[/] {rich_markup(remark, 600)}")
    for released in made.released_in_others:
        console.print(f"[cyan]note[/] {rich_markup(str(released), 400)}")
    _tell_flagged(console, result)
    console.print(f"results in {rich_markup(out)}")


def _tell_flagged(console: Console, result: Result) -> None:
    flagged = result.verdicts.filter(pc.equal(result.verdicts["verdict"], "flagged"))
    if not flagged.num_rows:
        return
    table = Table("row", "entropy", "tokens", "reasons", title=f"first flagged rows of {flagged.num_rows:,}")
    for line in flagged.slice(0, SHOWN).to_pylist():
        reasons = rich_markup("; ".join(line["reasons"]), 200)
        table.add_row(str(line["row"]), f"{line['entropy']:.3f}", str(line["supervised_tokens"]), reasons)
    console.print(table)
