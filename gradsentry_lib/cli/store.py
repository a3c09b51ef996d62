"""`gradsentry store`: the store as a whole."""

import typer
from rich.console import Console

from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.pipeline.upgrade import upgrade
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.store.paths import Store


def register(app: typer.Typer) -> None:
    store = typer.Typer(help="Bring the store of an earlier version up to this one.", no_args_is_help=True)
    store.command("upgrade")(upgrade_command)
    app.add_typer(store, name="store")


def upgrade_command() -> None:
    """Read every batch again that an earlier version read, under its old name, and say what became of each.

    Nothing has to be upgraded for the store to open: a scan does the same for its own batch. Nothing is scored here,
    and nothing published. A batch whose source is gone, or is other content by now, stays as it was read.
    """
    console = Console(soft_wrap=True, highlight=False)
    store = Store.default()
    done = left = 0
    for key, outcome in upgrade(store):
        if isinstance(outcome, GradSentryError):
            left += 1
            console.print(f"[yellow]left as it is[/] {rich_markup(f'{key}: {outcome}', 400)}")
        elif outcome is not None:
            done += 1
            told = f"{key}: {outcome.read:,} rows, {outcome.rejected:,} rejected"
            console.print(f"[green]read again[/] {rich_markup(told)}")
    if done or left:
        console.print(f"{done} batches read again, {left} left as they are; scan those read again to judge them anew")
    else:
        console.print(f"{rich_markup(str(store.home))} is a store of this version: nothing to do")
