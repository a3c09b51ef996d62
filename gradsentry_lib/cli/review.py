"""`gradsentry review`: pages of all batches on this machine, decisions on them, and what came of those decisions."""

import json
import socket
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gradsentry_lib import settings
from gradsentry_lib.audit.lookup import find_batch
from gradsentry_lib.cli.show import as_json
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.files import write_json, write_text
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store

ABOUT = "Review flagged rows: a local page of all batches, decisions by name, and what came of them."

Batch = Annotated[str, typer.Argument(help="Batch key, or its unique beginning.")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help=ABOUT, invoke_without_command=True)
    group.callback()(review)
    group.command("apply")(apply_command)
    group.command("stats")(stats)
    group.command("page")(page)
    group.command("export")(export)
    app.add_typer(group, name="review")


def review(
    context: typer.Context,
    by: Annotated[str, typer.Option("--by", help="Your name, to decide; read-only without it.")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free one. [8765]")] = None,
) -> None:
    """Show all batches and their rows at an address of this machine, and record decisions under your name.

    Only this machine can reach it, by the printed link; it stops with Ctrl-C.
    """
    if context.invoked_subcommand is not None:
        return
    try:
        from gradsentry_lib.review.server import Desk, serve
    except ModuleNotFoundError as error:
        raise UnusableOption("the pages need the extra: pip install 'gradsentry[report]'") from error

    store = Store.default()
    desk = Desk(store, _free(settings.review_port() if port is None else port), by.strip())
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{rich_markup(str(store.home))}: {'deciding as ' + rich_markup(desk.by) if by else 'read-only'}")
    console.print(f"open {desk.link}  (Ctrl-C stops)", markup=False)
    serve(desk)


def _free(port: int) -> int:
    """The port itself, or a free one for 0. Raises UnusableOption where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UnusableOption(f"port {port} can't be had ({error.strerror}): name another with --port") from error
        return int(probe.getsockname()[1])


def apply_command(
    file: Annotated[Path, typer.Argument(help="decisions.json, as a report page saved it.")],
    by: Annotated[str, typer.Option("--by", help="Your name; it is recorded.")],
    json_output: Json = False,
) -> None:
    """Record the decisions that were made on a page: all of them or, where one no longer fits, none.

    Applying a file twice records it once. A file that was edited, or whose batch was judged or decided on since, is
    refused with what changed. The decisions count from the batch's next scan or materialization on.
    """
    from gradsentry_lib.review.decisions import apply, read_decisions

    if not by.strip():
        raise UnusableOption("give a name with --by: it is recorded")
    done = apply(Store.default().ledger, read_decisions(file), by)
    if json_output:
        typer.echo(json.dumps(as_json(done), indent=2))
        return
    console = Console(soft_wrap=True, highlight=False)
    what = f"{done.released:,} released, {done.kept_out:,} kept out"
    if not done.recorded:
        console.print(f"batch {rich_markup(done.batch)}: applied before ({what}), nothing recorded again")
        return
    console.print(f"batch {rich_markup(done.batch)}: {what}, by {rich_markup(by)}")
    console.print("counts from its next scan on")


def stats(json_output: Json = False) -> None:
    """Show how often people overruled which kind of evidence: the false positives of this place."""
    from gradsentry_lib.review.stats import overruled

    found = overruled(Store.default())
    if json_output:
        typer.echo(json.dumps(as_json(found), indent=2))
        return
    console = Console(soft_wrap=True, highlight=False)
    if not found:
        console.print("nobody decided on a row yet")
        return
    table = Table("evidence", "rows decided", "released", "kept out", "false positives", title="by people's last word")
    for each in found:
        share = f"{each.released / each.decided:.1%}" if each.decided else "-"
        figures = (f"{each.decided:,}", f"{each.released:,}", f"{each.kept_out:,}", share)
        table.add_row(rich_markup(each.evidence), *figures)
    console.print(table)


def page(
    batch: Batch,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    redact: Annotated[bool, typer.Option("--redact", help="Lengths and digests instead of text.")] = False,
) -> None:
    """Write the page of a batch as it stands now, for others to read; with --redact for readers outside."""
    from gradsentry_lib.pipeline.publish import gate_of
    from gradsentry_lib.pipeline.report import page_contents
    from gradsentry_lib.report.page import render_page
    from gradsentry_lib.report.redact import redact as without_text
    from gradsentry_lib.review.latest import latest

    store = Store.default()
    read, decided = latest(store, _key(batch))
    contents = page_contents(read, decided, store, gate_of(decided, store))
    write_text(out, render_page(without_text(contents) if redact else contents))
    Console(soft_wrap=True, highlight=False).print(f"{rich_markup(str(out))} written{', redacted' if redact else ''}")


def export(batch: Batch, out: Annotated[Path, typer.Option("--out", help="The file to write.")]) -> None:
    """Write the groups of a batch for other teams: trigger patterns, payload digests and counts, as JSON."""
    from gradsentry_lib.review.export import groups_json
    from gradsentry_lib.review.latest import latest

    store = Store.default()
    told = groups_json(store, *latest(store, _key(batch)))
    write_json(out, told)
    Console(soft_wrap=True, highlight=False).print(f"{rich_markup(str(out))}: {len(told['groups'])} groups")


def _key(batch: str) -> str:
    with open_ledger(read_only=True) as ledger:
        return find_batch(ledger, batch)
