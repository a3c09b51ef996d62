"""`gradsentry release`, `flag`, `unset`: a person's word on samples, for one batch or for all."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from gradsentry_lib.audit.lookup import batches_with, find_batch, find_sample, is_sample_id
from gradsentry_lib.cli.show import moment
from gradsentry_lib.errors import NotFound, UnusableFile, UnusableOption
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.store import GateAcceptance, Ledger, Override, open_ledger, overrides_digest
from gradsentry_lib.store.acceptance import what

SHOWN = 5  # voided acceptances that are told

Action = Literal["release", "flag", "unset"]

Samples = Annotated[list[str] | None, typer.Argument(metavar="SAMPLE", help="Sample ids, or their unique beginnings.")]
By = Annotated[str, typer.Option("--by", help="Your name; it is recorded.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded and shown with the verdict.")]
Scope = Annotated[str | None, typer.Option("--batch", help="Only in this batch; in every batch if left out.")]
From = Annotated[
    Path | None,
    typer.Option("--from", help="File of samples: one id a line, CSV with a sample_id column, or quarantine.jsonl."),
]


def register(app: typer.Typer) -> None:
    app.command("release")(release)
    app.command("flag")(flag)
    app.command("unset")(unset)


def release(by: By, reason: Reason, samples: Samples = None, batch: Scope = None, source: From = None) -> None:
    """Put samples back: clean, whatever the policy says. Counts from the next scan or materialization on."""
    _speak("release", samples, by, reason, batch, source)


def flag(by: By, reason: Reason, samples: Samples = None, batch: Scope = None, source: From = None) -> None:
    """Keep samples out: quarantined, whatever the policy says. Counts from the next scan or materialization on."""
    _speak("flag", samples, by, reason, batch, source)


def unset(by: By, reason: Reason, samples: Samples = None, batch: Scope = None, source: From = None) -> None:
    """Take back what was said of samples in the same scope: the policy's own verdict counts again."""
    _speak("unset", samples, by, reason, batch, source)


def _speak(
    action: Action, samples: list[str] | None, by: str, reason: str, batch: str | None, source: Path | None
) -> None:
    named = [name.strip().lower() for name in [*(samples or []), *(read_ids(source) if source else [])]]
    if not named:
        raise UnusableOption("name at least one sample, or give a file of them with --from")
    if strange := [name for name in named if not is_sample_id(name)]:
        raise UnusableOption(f"{strange[0][:80]!r} is no sample id: give at least 6 of its 64 hex digits")
    with open_ledger(read_only=True) as ledger:
        scope = find_batch(ledger, batch) if batch else None
        sample_ids = list(dict.fromkeys(find_sample(ledger, name)[0] if len(name) < 64 else name for name in named))
        known = batches_with(ledger, sample_ids)
        if action == "unset":
            _check_set(ledger, scope, sample_ids)
    with open_ledger() as ledger:
        ledger.record_overrides(
            [
                Override(sample_id=sample_id, action=action, made_by=by, reason=reason, batch_key=scope)
                for sample_id in sample_ids
            ]
        )
    with open_ledger(read_only=True) as ledger:
        touched = sorted({key for keys in known.values() for key in keys if scope in (None, key)})
        voided = {key: acceptance for key in touched if (acceptance := _voided(ledger, key))}
    _tell(action, sample_ids, scope, known)
    _tell_voided(voided)


def _voided(ledger: Ledger, batch_key: str) -> GateAcceptance | None:
    """The acceptance that the batch's clean set rests on, if what was said changes its verdicts."""
    acceptance = ledger.standing_acceptance(batch_key)
    if acceptance is None:
        return None
    now = overrides_digest(ledger.active_overrides(batch_key))
    return acceptance if now != ledger.decision(batch_key).overrides_digest else None


def _tell_voided(voided: Mapping[str, GateAcceptance]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for key, acceptance in list(voided.items())[:SHOWN]:
        by = rich_markup(f"{acceptance.made_by} ({what(acceptance)})", 400)
        told = f"of {moment(acceptance.recorded_at)} by {by}"
        console.print(
            f"[yellow]this voids the acceptance[/] {told} of batch {rich_markup(key)}: its next scan has other "
            "verdicts, and if they fail the gate they need one of their own"
        )
    if len(voided) > SHOWN:
        console.print(f"and {len(voided) - SHOWN} more acceptances")


def read_ids(path: Path) -> Iterator[str]:
    """Sample ids from a file: JSON lines or CSV with a `sample_id`, or one id a line. Raises BadInput."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFile(f"{path} can't be read: {error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        if lines and lines[0].startswith("{"):
            yield from (str(json.loads(line)["sample_id"]) for line in lines)
        elif lines and "sample_id" in next(csv.reader([lines[0]])):
            yield from ((row["sample_id"] or "").strip() for row in csv.DictReader(lines))
        else:
            yield from lines
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise UnusableFile(f"{path}: a line has no sample_id ({error})") from error


def _check_set(ledger: Ledger, scope: str | None, sample_ids: list[str]) -> None:
    """Raises BadInput where there is nothing to take back in this very scope, saying where there is."""
    latest = {(word.sample_id, word.batch_key): word.action for word in ledger.find(Override)}
    for sample_id in sample_ids:
        if latest.get((sample_id, scope), "unset") == "unset":
            others = [key for (other, key), action in latest.items() if other == sample_id and action != "unset"]
            where = ", ".join("all batches (leave --batch out)" if key is None else f"--batch {key}" for key in others)
            raise NotFound(
                f"nothing is set for {sample_id[:12]} in {scope or 'all batches'}"
                + (f"; it is in {where}" if where else "")
            )


def _tell(action: Action, sample_ids: list[str], scope: str | None, known: dict[str, list[str]]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    done = {"release": "released", "flag": "flagged", "unset": "unset"}[action]
    count = f"{len(sample_ids):,} sample{'s' if len(sample_ids) > 1 else ''}"
    console.print(f"{count} {done} {f'in batch {rich_markup(scope)}' if scope else 'in all batches'}")
    batches = sorted({key for keys in known.values() for key in keys if scope in (None, key)})
    if batches:
        console.print(
            f"counts from their next scan on: {rich_markup(', '.join(batches[:5]))}{' ...' * (len(batches) > 5)}"
        )
    if unknown := [sample_id for sample_id in sample_ids if not known.get(sample_id)]:
        console.print(f"[yellow]{len(unknown):,} not seen in any batch yet[/] (first: {unknown[0][:12]})")
