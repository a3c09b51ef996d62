"""`gradsentry gate`: how a batch's gate stands, and letting a failed one pass, by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gradsentry_lib.audit.lookup import find_batch
from gradsentry_lib.cli.show import as_json, moment, settings_line
from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.errors import NotJudgedYet, UnusableOption
from gradsentry_lib.pipeline.limits import own_limits
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.store import GateResult, GateState, LimitPolicy, open_ledger
from gradsentry_lib.store.acceptance import what

ABOUT = "See how a batch's gate stands; accept a failed one by name; set the store's own limits."

COLOURS = {"passed": "green", "accepted": "yellow", "failed": "red", "never run": "red"}


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help=ABOUT)
    group.command("show")(show)
    group.command("accept")(accept)
    group.command("limits")(limits)
    app.add_typer(group, name="gate")


def show(
    batch: Annotated[str, typer.Argument(help="Batch key, or its unique beginning.")],
    json_output: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show the checks of a batch's latest gate, with observed values and limits, and who accepted it."""
    with open_ledger(read_only=True) as ledger:
        key = find_batch(ledger, batch)
        results = ledger.find(GateResult, batch_key=key)
        if not results:
            raise NotJudgedYet(f"the gate of {key} never ran")
        state = ledger.gate_state(results[-1].inputs_sha256, key)
        not_covered = ledger.not_covered(results[-1])
    if json_output:
        shown = {"batch": key, "open": state.open, "gate": state, "not_covered": not_covered}
        typer.echo(json.dumps(as_json(shown), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"gate of {rich_markup(key)}, decision {results[-1].decision}: {_word(state)}")
    if not_covered:
        console.print(f"[yellow]{rich_markup(not_covered, 1000)}[/]")
    if results[-1].loosened:
        console.print(f"[yellow]limits loosened[/] by {loosened_line(results[-1].loosened)}")
    console.print(checks_table(results[-1]))


def accept(
    batch: Annotated[str, typer.Argument(help="Batch key, or its unique beginning.")],
    by: Annotated[str, typer.Option("--by", help="Your name; it is recorded.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded and shown with the clean file.")],
    decision: Annotated[
        int | None, typer.Option("--decision", help="Of this decision (see `audit BATCH`), not of the latest.")
    ] = None,
) -> None:
    """Let a batch through a gate that it failed. Void as soon as its verdicts or the limits change."""
    with open_ledger() as ledger:
        key = find_batch(ledger, batch)
        acceptance = ledger.accept_gate(key, by, reason, decision)
    console = Console(highlight=False, soft_wrap=True)
    accepted = f"{rich_markup(acceptance.made_by)}: exactly {rich_markup(what(acceptance))}"
    console.print(f"gate of {rich_markup(key)} accepted by {accepted}")
    for check in acceptance.accepted["failed"] if acceptance.accepted else ():
        console.print(f"  [yellow]{rich_markup(check['name'])}[/] {rich_markup(check['message'], 400)}")
    console.print("now scan the batch again, or materialize clean_dataset, to write its clean file")


def limits(
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=FRACTION", help="Like max_flagged=0.3; repeatable.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Your name; it is recorded.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show the store's own gate limits, or set them from here on; a scan with looser ones needs a name and a reason."""
    changes = _settings(setting or [])
    if changes:
        with open_ledger() as ledger:
            changed = replace(own_limits(ledger), **changes)
            ledger.record_limits(LimitPolicy(limits=asdict(changed), made_by=by, reason=reason))
    elif by or reason:
        raise UnusableOption("say which limit: --set NAME=FRACTION")
    with open_ledger(read_only=True) as ledger:
        own, policies = own_limits(ledger), ledger.find(LimitPolicy)
    if json_output:
        typer.echo(json.dumps({"limits": asdict(own), "set": as_json(policies[-1]) if policies else None}, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for name, limit in asdict(own).items():
        console.print(f"{name} {limit:g}")
    if policies:
        last = policies[-1]
        console.print(f"set by {rich_markup(f'{last.made_by}: {last.reason}', 400)} on {moment(last.recorded_at)}")
    else:
        console.print("the usual ones: nobody set others for this store")


def _settings(told: Sequence[str]) -> dict[str, float]:
    """`--set` options. Raises BadInput."""
    found = {}
    known = [field.name for field in fields(GateLimits)]
    for item in told:
        name, _, value = item.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known:
            raise UnusableOption(f"--set {item}: write NAME=FRACTION, with one of {', '.join(known)}")
        try:
            found[name] = float(value)
        except ValueError:
            raise UnusableOption(f"--set {item}: {value!r} is no number") from None
    return found


def loosened_line(loosened: Mapping[str, Any]) -> str:
    """Who judged by limits looser than the store's own, and why."""
    own = settings_line(loosened["own"])
    return rich_markup(f"{loosened['made_by']}: {loosened['reason']} (the store's own then: {own})", 600)


def checks_table(result: GateResult) -> Table:
    """One line a check: what was observed, against what limit."""
    table = Table("check", "", "observed", "limit", "")
    for check in result.checks:
        failed = "[red]failed[/]" if check["severity"] == "error" else "[yellow]warning[/]"
        observed, limit = (_number(check[name]) for name in ("observed", "limit"))
        verdict = "[green]passed[/]" if check["passed"] else failed
        table.add_row(rich_markup(str(check["name"])), verdict, observed, limit, rich_markup(str(check["message"])))
    return table


def _word(state: GateState) -> str:
    word = f"[{COLOURS[state.status]}]{state.status}[/]"
    if state.acceptance is None or state.status != "accepted":
        return word
    by, reason = rich_markup(state.acceptance.made_by), rich_markup(state.acceptance.reason)
    return f"{word} by {by} on {moment(state.acceptance.recorded_at)}: {reason}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else rich_markup(str(value))
