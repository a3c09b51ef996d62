"""What an audit found, as tables for a terminal. Everything from data sets and ledgers is escaped."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from gradsentry_lib.audit.diff import Difference
from gradsentry_lib.audit.facts import BatchFacts, DecisionFacts, FileFacts, SampleFacts
from gradsentry_lib.cli.gate import COLOURS, checks_table, loosened_line
from gradsentry_lib.cli.show import moment, number, settings_line, short, turns_line
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.store import Override
from gradsentry_lib.store.acceptance import what

if TYPE_CHECKING:
    from gradsentry_lib.audit.verify import Verified

STATES = {"unaltered": "green", "altered": "red", "missing": "yellow", "not checked": "yellow", "unknown": "yellow"}
VERDICTS = {"clean": "green", "flagged": "red", "unscored": "yellow"}
TEXT = 100  # characters of a sample shown in a line


def file(console: Console, found: FileFacts, limit: int) -> None:
    name = rich_markup(str(found.path))
    if found.batch is None:
        console.print(f"{name}: [yellow]unknown[/]. No batch in this ledger read it, no scan wrote it.")
        console.print(f"SHA-256 {found.sha256}")
        return
    console.print(
        f"{name}: {found.role} file of batch {rich_markup(found.batch.batch.batch_key)}, {_state(found.state)}"
    )
    if found.details:
        console.print(f"[red]{rich_markup(found.details, 1000)}[/]")
    if found.mismatch:
        console.print(f"[red]does not belong together[/]: {rich_markup(found.mismatch, 1000)}")
    if found.later:
        console.print(f"[yellow]older[/]: decision {found.later} on this batch was published since")
    recorded = found.recorded.file.sha256 if found.recorded else found.batch.batch.source.sha256
    console.print(f"SHA-256 {found.sha256}" + ("" if recorded == found.sha256 else f", recorded was {recorded}"))
    batch(console, found.batch)
    if found.recorded is None:
        return
    table = Table("row", "line", "sample", "verdict", "entropy", "reasons", "text", title="rows kept out of it")
    for row in found.removed[:limit]:
        reasons = rich_markup("; ".join(row["reasons"]), 200)
        line = "" if row["line"] is None else str(row["line"])
        verdict = _verdict(row["verdict"])
        text = turns_line(row["turns"], TEXT)
        table.add_row(str(row["row"]), line, short(row["sample_id"]), verdict, number(row["entropy"]), reasons, text)
    if found.removed:
        console.print(table)
    _more(console, len(found.removed), limit)


def batch(console: Console, found: BatchFacts) -> None:
    facts = found.batch
    grid = Table.grid(padding=(0, 2))
    grid.add_row("batch", rich_markup(facts.batch_key))
    grid.add_row("source", f"{rich_markup(str(facts.source.path))} ({facts.kind}), {_state(found.source)}")
    grid.add_row("", f"SHA-256 {rich_markup(facts.source.sha256)}")
    if facts.options:
        grid.add_row("read with", rich_markup(settings_line(facts.options)))
    read, readable, rejected = facts.rows_read, facts.readable, facts.rejected_rows
    grid.add_row("rows", f"{read:,} read = {readable:,} readable + {rejected:,} rejected")
    if facts.truncated:
        grid.add_row("cut short", rich_markup(facts.truncated, 400))
    console.print(grid)
    if not found.decisions:
        console.print("no verdicts yet")
        return
    table = Table("decision", "when", "model", "policy", "tau", "clean", "flagged", "unscored", "gate", "overrides")
    for item in found.decisions:
        table.add_row(
            str(item.decision.seq),
            moment(item.decision.recorded_at),
            f"{rich_markup(item.scan.model, 40)} {short(item.scan.model_fingerprint)}",
            rich_markup(item.decision.policy),
            f"{number(item.threshold.tau)} {item.threshold.method}",
            f"{item.decision.clean:,}",
            f"{item.decision.flagged:,}",
            f"{item.decision.unscored:,}",
            f"[{COLOURS[item.gate.status]}]{item.gate.status}[/]",
            str(len(item.decision.overrides)),
        )
    console.print(table)
    _decision(console, found.decisions[-1])
    _overrides(console, "said of its samples", found.overrides)
    _overrides(console, "released for other batches, and here again", found.released_in_others)


def sample(console: Console, found: SampleFacts, limit: int) -> None:
    console.print(f"sample {found.sample_id}")
    for turn in found.turns:
        console.print(f"  [bold]{rich_markup(turn['role'])}[/] {rich_markup(turn['text'], 500)}")
    table = Table("batch", "row", "decision", "when", "model", "entropy", "tau", "policy", "verdict", "reasons")
    for line in found.history[-limit:]:
        table.add_row(
            rich_markup(line["batch_key"]),
            str(line["row"]),
            str(line["decision"]),
            moment(line["recorded_at"]),
            f"{rich_markup(line['model'], 40)} {short(line['model_fingerprint'])}",
            number(line["entropy"]),
            number(line["tau"]),
            rich_markup(line["policy"]),
            _verdict(line["verdict"]),
            rich_markup("; ".join(line["reasons"]), 200),
        )
    console.print(table if found.history else "no verdict on it yet")
    _more(console, len(found.history), limit)
    _overrides(console, "said of it", found.overrides)
    for path in found.missing:
        console.print(f"[yellow]missing[/] {rich_markup(str(path))}: its verdict there can't be shown")


def texts(console: Console, text: str, found: Sequence[Any], limit: int) -> None:
    if not found:
        console.print(f"no sample in the store holds the text {rich_markup(text, 200)} (letter case counts)")
        return
    table = Table("batch", "row", "sample", "text", title=f"samples with the text {rich_markup(text, 80)}")
    for row in found:
        around = _around(row["turns"], text)
        table.add_row(rich_markup(row["batch_key"]), str(row["row"]), short(row["sample_id"]), rich_markup(around, 200))
    console.print(table)
    if len(found) == limit:
        console.print(f"the first {limit}; see more with --limit")
    console.print("tell all about one: gradsentry audit SAMPLE")


def difference(console: Console, found: Difference, limit: int) -> None:
    before, after = found.before.seq, found.after.seq
    console.print(f"batch {rich_markup(found.before.batch_key)}: decision {before} -> decision {after}")
    if found.changes:
        table = Table("what changed", f"decision {before}", f"decision {after}")
        for change in found.changes:
            table.add_row(*(rich_markup(str(item), 60) for item in (change.name, change.before, change.after)))
        console.print(table)
    else:
        console.print("no setting changed")
    if not found.rows:
        console.print("no row changed its verdict")
        return
    table = Table("row", "sample", "verdict", "entropy", "cause", title=f"{len(found.rows):,} rows changed verdict")
    for row in found.rows[:limit]:
        verdicts = f"{_verdict(row['verdict_before'] or 'none')} -> {_verdict(row['verdict_after'] or 'none')}"
        entropies = f"{number(row['entropy_before'])} -> {number(row['entropy_after'])}"
        table.add_row(str(row["row"]), short(row["sample_id"]), verdicts, entropies, rich_markup(row["cause"], 200))
    console.print(table)
    _more(console, len(found.rows), limit)


def verification(console: Console, found: "Verified") -> None:
    for finding in found.findings:
        mark = "[bold red]altered[/]" if finding.severity == "problem" else "[yellow]note[/]"
        console.print(f"{mark} {rich_markup(finding.subject)}: {rich_markup(finding.message, 1000)}")
    looked = (
        f"{found.records:,} ledger records, {found.files:,} files, {found.decisions:,} decisions on {found.rows:,} "
        f"rows, {found.attestations:,} attestations"
    )
    if found.problems:
        count = len(found.problems)
        console.print(
            f"[bold red]{count} thing{'s' if count > 1 else ''} do{'es' * (count == 1)} not hold[/] among {looked}"
        )
    else:
        console.print(f"[green]everything holds[/]: {looked}")
    for head in found.continues:
        console.print(f"[green]continues[/] from the head of {rich_markup(str(head), 200)}")
    if not found.continues:
        console.print(
            "This shows that the store agrees with itself. Records cut off at its end, or an older copy put back, show "
            "only against a head kept elsewhere (--head)."
        )
    console.print(found.head_line)


def _decision(console: Console, item: DecisionFacts) -> None:
    """The settings, runs, gate and files of one decision."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row("decision", str(item.decision.seq))
    grid.add_row("model", f"{rich_markup(item.scan.model)}, weights {rich_markup(item.scan.model_fingerprint)}")
    grid.add_row("tokenizer", rich_markup(item.scan.tokenizer_fingerprint))
    grid.add_row("scoring", rich_markup(settings_line(item.scan.scoring)))
    grid.add_row(
        "threshold", f"{number(item.threshold.tau, 6)} ({item.threshold.method}): {rich_markup(item.threshold.reason)}"
    )
    grid.add_row("settings", rich_markup(settings_line(item.decision.settings)))
    for run in item.runs:
        where = f"{run.username}@{run.host}, gradsentry {run.code_version}, Python {run.python_version}"
        grid.add_row("run", f"{moment(run.recorded_at)} {run.tool} {short(run.run_id)}: {rich_markup(where)}")
        grid.add_row("", rich_markup(settings_line(run.packages)))
    for acceptance in item.acceptances:
        words = rich_markup(f"{acceptance.made_by}: {acceptance.reason}")
        grid.add_row("gate accepted", f"{moment(acceptance.recorded_at)} by {words}")
        grid.add_row("", rich_markup(what(acceptance)))
    if item.not_covered:
        grid.add_row("gate", f"[yellow]{rich_markup(item.not_covered)}[/]")
    if item.gates and item.gates[-1].loosened:
        grid.add_row("limits loosened", loosened_line(item.gates[-1].loosened))
    for fact in item.outputs:
        place = rich_markup(str(fact.output.file.path))
        rows = "" if fact.output.rows is None else f", {fact.output.rows:,} rows"
        grid.add_row(fact.output.kind, f"{place}{rows}, {_state(fact.state)}")
    console.print(grid)
    if item.gates:
        console.print(checks_table(item.gates[-1]))


def _overrides(console: Console, title: str, words: Sequence[Override]) -> None:
    if not words:
        return
    table = Table("when", "sample", "word", "scope", "by", "reason", title=title)
    for word in words:
        scope = rich_markup(word.batch_key) if word.batch_key else "all batches"
        by, reason = rich_markup(word.made_by), rich_markup(word.reason, 200)
        table.add_row(moment(word.recorded_at), short(word.sample_id), word.action, scope, by, reason)
    console.print(table)


def _around(turns: Sequence[Any], text: str) -> str:
    """The text where it stands, with a little before and after."""
    for turn in turns:
        at = turn["text"].find(text)
        if at >= 0:
            return ("… " if at > 40 else "") + turn["text"][max(at - 40, 0) : at + len(text) + 60]
    return ""


def _more(console: Console, total: int, limit: int) -> None:
    if total > limit:
        console.print(f"{limit:,} of {total:,}; see more with --limit, all with --json")


def _state(state: str) -> str:
    return f"[{STATES[state]}]{state}[/]"


def _verdict(verdict: str) -> str:
    return f"[{VERDICTS.get(verdict, 'white')}]{rich_markup(verdict)}[/]"
