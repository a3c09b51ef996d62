"""The `gradsentry` command. One file a group of commands; what they do lives in the rooms below.

In: arguments and environment. Out: text or `--json` on the terminal, files in the user's folder, an exit code that is
read off the error's class. No judgement is made here.

A command's file is imported when the command is called, not before: looking a sample up must not wait for the
libraries that a scan needs.
"""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from gradsentry_lib import __version__
from gradsentry_lib.cli.plain_values import plain_values
from gradsentry_lib.errors import GradSentryError, MachineTrouble
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.system_errors import check_addresses, explain

# Command: the file it is in, and what `gradsentry --help` says of it, the first paragraph of its own help.
COMMANDS = {
    "scan": (
        "scan",
        "Scan a set of fine-tuning samples and write its clean part, its quarantine and the evidence to a folder.",
    ),
    "formats": (
        "formats",
        "Show how a file would be read, in a second and without a model.",
    ),
    "eval": (
        "evaluate",
        "Measures filters: poisons clean data with an attack, or takes data with labels, and compares.",
    ),
    "bench": (
        "bench",
        "Compares filters on a folder of labelled sets: recall, false positives, F1, AUC, cost, with intervals.",
    ),
    "release": (
        "override",
        "Put samples back: clean, whatever the policy says. Counts from the next scan or materialization on.",
    ),
    "flag": (
        "override",
        "Keep samples out: quarantined, whatever the policy says. Counts from the next scan or materialization on.",
    ),
    "unset": (
        "override",
        "Take back what was said of samples in the same scope: the policy's own verdict counts again.",
    ),
    "audit": (
        "audit",
        "Trace files, batches and samples: `gradsentry audit THING`, short for `audit show THING`. Check the evidence.",
    ),
    "gate": ("gate", "See how a batch's gate stands; accept a failed one by name; set the store's own limits."),
    "doctor": ("doctor", "Show versions, devices, caches, and what the scorer's self-tests found on this machine."),
    "serve": ("serve", "Keep a model loaded and score with it for every scan of this user here, until Ctrl-C."),
    "review": ("review", "Review flagged rows: a local page of all batches, decisions by name, and what came of them."),
    "store": ("store", "Bring the store of an earlier version up to this one."),
    "attest": ("attest", "Sign attestations, and make keys for that."),
}

SCORING = ("scan", "eval", "bench")  # commands that need a model


INTERRUPTED = 130  # exit code of what Ctrl-C stopped, as shells have it


def load_command(name: str) -> Any:
    """The command itself, from its file. Raises BadInput where there is no room for its libraries."""
    if name in SCORING:
        check_addresses()
    own = typer.Typer(rich_markup_mode="rich")
    import_module(f"gradsentry_lib.cli.{COMMANDS[name][0]}").register(own)
    command: Any = get_group(own).commands[name]
    parameters = command.get_params
    command.get_params = lambda context: plain_values(parameters(context))
    return command


class _Later(TyperCommand):
    """Stands for a command in the list of commands, and gives way to it when it is called."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return load_command(str(self.name)).make_context(info_name, args, parent, **extra)


class _Commands(TyperGroup):
    def __init__(self, **attrs: Any) -> None:
        later = {name: _Later(name, help=text, rich_markup_mode="rich") for name, (_, text) in COMMANDS.items()}
        super().__init__(**{**attrs, "commands": later})

    def get_params(self, ctx: Any) -> list[Any]:
        return plain_values(super().get_params(ctx))


app = typer.Typer(
    name="gradsentry",
    cls=_Commands,
    help="Finds backdoor poison in fine-tuning data before training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _about(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"gradsentry {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: errors meant for the user become one line and their exit code, never a traceback."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app()
    except GradSentryError as error:
        errors.print(f"[bold red]gradsentry:[/] {rich_markup(_with_notes(str(error), error))}")
        sys.exit(error.exit_code)
    except Exception as error:  # what the machine refused is told in a line, all else is a fault of ours: raised
        line = explain(error)
        if line is None:
            raise
        errors.print(f"[bold red]gradsentry:[/] {rich_markup(_with_notes(line, error))}")
        sys.exit(MachineTrouble.exit_code)
    except KeyboardInterrupt as error:
        line = "interrupted; what was scored is kept, the same command goes on from there"
        errors.print(f"gradsentry: {rich_markup(_with_notes(line, error))}")
        sys.exit(INTERRUPTED)


def _with_notes(line: str, error: BaseException) -> str:
    return "; ".join([line, *getattr(error, "__notes__", [])])
