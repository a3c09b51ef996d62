"""Does the evidence still hold? Every record, every file, every verdict, every attestation, checked again.

The ledger is read once, in a short block; everything else happens after it is closed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from gradsentry_lib import settings
from gradsentry_lib.audit import check_attestations, check_files, check_verdicts, heads
from gradsentry_lib.audit.evidence import Finding, Records, load
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.store import journal


@dataclass(frozen=True)
class Verified:
    """The outcome: what was looked at, and what was found. `head`: note it down, a later check can start from it;
    `store`: the store's id; `continues`: the heads kept elsewhere that the ledger was found to continue from."""

    findings: tuple[Finding, ...]
    head: journal.Head
    records: int
    files: int
    decisions: int
    rows: int
    attestations: int
    store: str = ""
    continues: tuple[heads.NotedHead, ...] = ()

    @property
    def head_line(self) -> str:
        """What to keep elsewhere."""
        return heads.line(self.head, self.store)

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "problem")


Progress = Callable[[int, int, str], None]  # done, total, what is looked at


def verify(
    path: Path,
    *,
    key: Path | None = None,
    noted: Sequence[heads.NotedHead] = (),
    on_progress: Progress | None = None,
) -> Verified:
    """Checks a whole store.

    `key`: an ed25519 key, GRADSENTRY_SIGNING_KEY if left out; where there is one, every attestation must carry a
    signature of it. `noted`: heads that were kept elsewhere; the ledger must continue from them. Never raises on
    damaged evidence: it is a finding.
    """
    findings: list[Finding] = []
    records = Records(path.absolute().parent)
    try:
        findings += load(path, records)
    except (duckdb.Error, GradSentryError, UnicodeDecodeError) as error:
        findings.append(Finding(path.name, f"can't be read to its end: {str(error).splitlines()[0]}"))
        if not records.lines:
            return Verified(tuple(findings), records.head, records=0, files=0, decisions=0, rows=0, attestations=0)
    findings += check_heads(records, noted)
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
        found = _all(file.subject, check_files.check_file(records, file))
        findings += found
        if not found:
            sound.add(Path(file.ref.path))
    rows = 0
    for decision in records.decisions.values():
        step(f"decision {decision.seq}")
        rows += decision.clean + decision.flagged + decision.unscored
        findings += _all(f"decision {decision.seq}", check_verdicts.check_decision(records, decision, sound))
    findings += _all("gates", check_verdicts.check_gates(records))
    findings += _all("score cache", check_files.check_cache(records))
    findings += _all("sample indexes", check_files.check_indexes(records, sound))
    attestations = check_attestations.kept_attestations(records)
    key = key or settings.signing_key()
    findings += _all("attestations", check_attestations.check_attestations(records, attestations, key))
    findings += _all("clean sets", check_attestations.check_published(records))
    return Verified(
        findings=tuple(dict.fromkeys(findings)),
        head=records.head,
        records=len(records.lines),
        files=len(files),
        decisions=len(records.decisions),
        rows=rows,
        attestations=len(attestations),
        store=heads.store_id(records.lines),
        continues=tuple(head for head in noted if records.lines.get(head.seq) == head.sha256),
    )


def _all(subject: str, findings: Iterator[Finding]) -> list[Finding]:
    """What a check found; that it could not be made is a finding too. Evidence that somebody put together to make us
    fall over must not end the verification, so any error is caught."""
    found = []
    try:
        for finding in findings:
            found.append(finding)
    except Exception as error:  # a check that falls over is a finding, not the end
        found.append(Finding(subject, f"can't be checked: {type(error).__name__}: {error}"))
    return found


def check_heads(records: Records, noted: Sequence[heads.NotedHead]) -> Iterator[Finding]:
    """The chain must contain every head that was noted down: a chain that was cut off or made anew does not."""
    for what in heads.broken(noted, records.lines):
        yield Finding("ledger journal", what)
    log = records.paths.heads
    if not log.is_file():
        if records.lines:
            yield Finding(log.name, "is missing: it gets a line whenever the ledger grows")
        return
    own = []
    for told in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            own += heads.read_heads([told]) if heads.SHORT.fullmatch(told.strip()) else []
        except GradSentryError:
            continue
    for what in heads.broken(own, records.lines):
        yield Finding("ledger journal", f"{what} (by {log.name})")
        return  # the first says it for all that come after
