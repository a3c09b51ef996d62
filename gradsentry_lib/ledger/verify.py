"""Does the evidence still hold? Every record, every file, every verdict, every attestation, checked again.

The ledger is read once, in a short block; everything else happens after it is closed. What needs other rooms (reading
a source again, judging scores again) is handed in as functions, see `evidence.Recompute`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.ledger import check_attestations, check_files, check_verdicts, journal
from gradsentry_lib.ledger.connection import head_file
from gradsentry_lib.ledger.evidence import Finding, Recompute, Records, load


@dataclass(frozen=True)
class Verified:
    """The outcome: what was looked at, and what was found. `head`: note it down, a later check can start from it."""

    findings: tuple[Finding, ...]
    head: journal.Head
    records: int
    files: int
    decisions: int
    rows: int
    attestations: int

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "problem")


Progress = Callable[[int, int, str], None]  # done, total, what is looked at


def verify(
    path: Path,
    recompute: Recompute | None = None,
    *,
    key: Path | None = None,
    head: str = "",
    on_progress: Progress | None = None,
) -> Verified:
    """Checks a whole store.

    `key`: a public ed25519 key; every attestation must then carry a signature of it. `head`: "NUMBER:DIGEST" as an
    earlier verification printed it; the ledger must contain it. Never raises on damaged evidence: it is a finding.
    """
    recompute = recompute or Recompute()
    findings: list[Finding] = []
    records = Records(path.absolute().parent)
    try:
        findings += load(path, records)
    except (duckdb.Error, GradSentryError, UnicodeDecodeError) as error:
        findings.append(Finding(path.name, f"can't be read to its end: {str(error).splitlines()[0]}"))
        if not records.lines:
            return Verified(tuple(findings), records.head, records=0, files=0, decisions=0, rows=0, attestations=0)
    findings += check_heads(records, head)
    files = check_files.expected_files(records)
    total, done = len(files) + len(records.decisions), 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(done, total, what)

    sound: set[Path] = set()
    for file in files:
        step(file.subject)
        found = _all(file.subject, check_files.check_file(records, file, recompute))
        findings += found
        if not found:
            sound.add(Path(file.ref.path))
    rows = 0
    for decision in records.decisions.values():
        step(f"decision {decision.seq}")
        rows += decision.clean + decision.flagged + decision.unscored
        findings += _all(f"decision {decision.seq}", check_verdicts.check_decision(records, decision, recompute, sound))
    findings += _all("gates", check_verdicts.check_gates(records))
    findings += _all("score cache", check_files.check_cache(records))
    findings += _all("sample indexes", check_files.check_indexes(records, sound))
    attestations = check_attestations.kept_attestations(records)
    findings += _all("attestations", check_attestations.check_attestations(records, attestations, key))
    return Verified(
        findings=tuple(dict.fromkeys(findings)),
        head=records.head,
        records=len(records.lines),
        files=len(files),
        decisions=len(records.decisions),
        rows=rows,
        attestations=len(attestations),
    )


def _all(subject: str, findings: Iterator[Finding]) -> list[Finding]:
    """What a check found; that it could not be made is a finding too. Evidence that somebody put together to make us
    fall over must not end the verification, so any error is caught."""
    found = []
    try:
        for finding in findings:
            found.append(finding)
    except Exception as error:
        found.append(Finding(subject, f"can't be checked: {type(error).__name__}: {error}"))
    return found


def check_heads(records: Records, head: str) -> Iterator[Finding]:
    """The chain must contain every head that was noted down: a chain that was cut off or made anew does not."""
    noted = [head.strip()] if head else []
    log = head_file(records.store)
    if log.exists():
        noted += [line.split(" ")[0] for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    for said in dict.fromkeys(noted):
        number, _, digest = said.partition(":")
        if not number.isdecimal() or records.lines.get(int(number)) != digest:
            what = "ends before" if number.isdecimal() and int(number) > records.head.seq else "does not contain"
            yield Finding("ledger journal", f"{what} record {said[:30]}..., which it once had")
            return
