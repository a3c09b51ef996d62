"""Answers about one thing: a batch, a file, a sample, a piece of text.

The ledger is read in one short block; files are hashed and Parquet is searched after it is closed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from gradsentry_lib.audit import lookup
from gradsentry_lib.audit.statement_match import later, mismatch
from gradsentry_lib.errors import GradSentryError, UnusableFile
from gradsentry_lib.files import sha256_file
from gradsentry_lib.store.ledger import Ledger, open_ledger
from gradsentry_lib.store.records import (
    Batch,
    Decision,
    FileRef,
    GateAcceptance,
    GateResult,
    GateState,
    Output,
    Override,
    Run,
    Scan,
    ThresholdRecord,
)

State = Literal["unaltered", "altered", "missing", "not checked"]


def digest_of(path: Path, kind: str) -> str:
    """SHA-256 of a file, or of a folder of a kind of source."""
    from gradsentry_lib.samples.source import digest  # with all readers, which looking a sample up does without

    return digest(path, cast(Any, kind))


def state_of(file: FileRef, kind: str = "") -> State:
    """What has become of a file since it was recorded. A name with a scheme is not looked up."""
    if "://" in str(file.path) or kind == "hub":
        return "not checked"
    if not file.file.exists():
        return "missing"
    try:
        return "unaltered" if digest_of(file.file, kind) == file.sha256 else "altered"
    except (OSError, GradSentryError):
        return "altered"


@dataclass(frozen=True)
class FileFact:
    """An output and what has become of it."""

    output: Output
    state: State


@dataclass(frozen=True)
class DecisionFacts:
    """One decision with all that it rests on and all that came of it. The threshold comes without its curve.
    `not_covered`: why an earlier acceptance of the batch does not count for it, where it failed the gate."""

    decision: Decision
    scan: Scan
    threshold: ThresholdRecord
    runs: tuple[Run, ...]
    gates: tuple[GateResult, ...]
    gate: GateState
    acceptances: tuple[GateAcceptance, ...]
    not_covered: str
    outputs: tuple[FileFact, ...]


@dataclass(frozen=True)
class BatchFacts:
    """All about a batch; `decisions` oldest first. `overrides`: every word said on it or on all batches that counts
    or counted for its samples; `released_in_others`: releases of its samples that were meant for other batches."""

    batch: Batch
    source: State
    decisions: tuple[DecisionFacts, ...]
    overrides: tuple[Override, ...]
    active: tuple[Override, ...]
    released_in_others: tuple[Override, ...]


@dataclass(frozen=True)
class FileFacts:
    """A file against the ledger. `role`: what the ledger knows it as ("clean", "source", ..., "" for unknown).

    `state` compares its bytes with what was recorded: the file may lie anywhere if its bytes are known. `removed`: the
    rows that the decision kept out of it. `details`: of an altered clean set, which rows; `mismatch`: that the
    statement beside it is of another set; `later`: a later decision on the batch whose clean set was published, else 0.
    """

    path: Path
    sha256: str
    role: str
    state: State | Literal["unknown"]
    recorded: Output | None
    batch: BatchFacts | None
    removed: tuple[Mapping[str, Any], ...]
    details: str = ""
    mismatch: str = ""
    later: int = 0


@dataclass(frozen=True)
class SampleFacts:
    """A sample over time. `history`: one line a row and decision, oldest first; `missing`: verdict files not there."""

    sample_id: str
    turns: tuple[Mapping[str, str], ...]
    history: tuple[Mapping[str, Any], ...]
    overrides: tuple[Override, ...]
    missing: tuple[Path, ...]


def audit_batch(path: Path, batch_key: str) -> BatchFacts:
    """Raises BadInput for a batch that the ledger does not have."""
    with open_ledger(path, read_only=True) as ledger:
        facts = _batch_facts(ledger, ledger.batch(batch_key))
    return _look(facts)


def audit_file(path: Path, file: Path, by_content: bool = True) -> FileFacts:
    """Recognises a file by its bytes, wherever it lies; failing that by its place or, `by_content`, by what is in it or
    beside it, which means that it was altered."""
    with open_ledger(path, read_only=True) as ledger:
        batches = ledger.find(Batch)
        outputs = ledger.find(Output)
    sha256 = _recorded_digest(file, batches, outputs)
    place = file.absolute()
    by_bytes = [output for output in outputs if output.file.sha256 == sha256]
    at_place = [output for output in outputs if output.file.file == place]
    # Among equals the one that lies here, then the newest.
    output = max(by_bytes, key=lambda o: (o.file.file == place, o.seq), default=None)
    sources = [batch for batch in batches if sha256 == batch.source.sha256]
    moved_source = [batch for batch in batches if batch.source.file == place]
    if output is None and sources:
        return FileFacts(file, sha256, "source", "unaltered", None, audit_batch(path, sources[-1].batch_key), ())
    if output is None and at_place:
        output = at_place[-1]
    if output is None and not moved_source and by_content:
        from gradsentry_lib.audit.recognise import recognise  # reads the file as a source, with all readers

        with open_ledger(path, read_only=True) as ledger:
            output = recognise(ledger, file)
    if output is not None:
        state: State = "unaltered" if output.file.sha256 == sha256 else "altered"
        facts = audit_batch(path, output.batch_key)
        chosen = tuple(item for item in facts.decisions if item.decision.seq == output.decision)
        if output.decision:
            facts = replace(facts, decisions=chosen)
        rows = lookup.removed_rows(facts.batch, chosen[0].decision) if chosen else ()
        found = FileFacts(file, sha256, output.kind, state, output, facts, tuple(rows))
        if state == "altered" and output.kind == "clean" and chosen:
            found = replace(found, details=_details(facts.batch, chosen[0].decision, output, file))
        return replace(
            found,
            mismatch=mismatch(found.path, output, outputs) if state == "unaltered" else "",
            later=later(output, outputs),
        )
    if moved_source:
        facts = audit_batch(path, moved_source[-1].batch_key)
        return FileFacts(file, sha256, "source", "altered", None, facts, ())
    return FileFacts(file, sha256, "", "unknown", None, None, ())


def audit_sample(path: Path, prefix: str) -> SampleFacts:
    """A sample by its id or the beginning of it. Raises BadInput where none or several begin like this."""
    with open_ledger(path, read_only=True) as ledger:
        sample_id, found_in = lookup.find_sample(ledger, prefix)
        words = ledger.find(Override, sample_id=sample_id)
        batches = [ledger.batch(key) for key in found_in]
        decided = [facts for key in found_in for facts in ledger.scan_history(key)]
    present = [facts for facts in decided if facts[0].verdicts.file.exists()]
    missing = tuple(facts[0].verdicts.file for facts in decided if not facts[0].verdicts.file.exists())
    history = lookup.sample_history(sample_id, present)
    return SampleFacts(sample_id, lookup.sample_turns(sample_id, batches), tuple(history), tuple(words), missing)


def _batch_facts(ledger: Ledger, batch: Batch) -> BatchFacts:
    words = ledger.find(Override, batch_key=batch.batch_key) + ledger.find(Override, batch_key=None)
    present = ledger.present(batch.batch_key, {word.sample_id: word for word in words})
    return BatchFacts(
        batch=batch,
        source="not checked",
        decisions=tuple(_decision_facts(ledger, *facts) for facts in ledger.scan_history(batch.batch_key)),
        overrides=tuple(sorted((w for w in words if w.sample_id in present), key=lambda word: word.seq)),
        active=tuple(ledger.active_overrides(batch.batch_key)),
        released_in_others=tuple(ledger.released_in_others(batch.batch_key)),
    )


def _decision_facts(ledger: Ledger, decision: Decision, scan: Scan, threshold: ThresholdRecord) -> DecisionFacts:
    gates = ledger.find(GateResult, decision=decision.seq)
    runs = {run_id: run for run_id in (scan.run_id, decision.run_id) for run in ledger.find(Run, run_id=run_id)}
    outputs = ledger.find(Output, decision=decision.seq)
    inputs = gates[-1].inputs_sha256 if gates else ""
    return DecisionFacts(
        decision=decision,
        scan=scan,
        threshold=replace(threshold, grid=(), density=()),
        runs=tuple(runs.values()),
        gates=tuple(gates),
        gate=ledger.gate_state(inputs, decision.batch_key),
        acceptances=tuple(ledger.find(GateAcceptance, inputs_sha256=inputs, batch_key=decision.batch_key)),
        not_covered=ledger.not_covered(gates[-1]) if gates else "",
        outputs=tuple(FileFact(output, "not checked") for output in _latest(outputs)),
    )


def _latest(outputs: Sequence[Output]) -> list[Output]:
    """One output a place: the last that was recorded there."""
    return list({output.file.file: output for output in outputs}.values())


def _look(facts: BatchFacts) -> BatchFacts:
    """Fills in what has become of the files."""
    kind = facts.batch.kind
    decisions = tuple(
        replace(
            item,
            outputs=tuple(FileFact(f.output, state_of(f.output.file, kind)) for f in item.outputs),
        )
        for item in facts.decisions
    )
    return replace(facts, source=state_of(facts.batch.source, kind), decisions=decisions)


def _details(batch: Batch, decision: Decision, output: Output, file: Path) -> str:
    """Which rows of an altered clean set were, in words."""
    from gradsentry_lib.audit.recompute import clean_rows  # with what judges, which a look-up does without

    try:
        return clean_rows(batch, decision, output, file)
    except Exception as error:  # a file that somebody made to make us fall over is still altered
        return f"which rows, can't be told: {error}"


def _recorded_digest(file: Path, batches: Sequence[Batch], outputs: Sequence[Output]) -> str:
    """The digest of a file; of a folder, whose digest depends on what is in it, the one that the ledger knows."""
    try:
        if file.is_file():
            return sha256_file(file)
        is_folder = file.is_dir()
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, no permission
        raise UnusableFile(f"the file {str(file)[:200]} can't be read: {error}") from error
    if not is_folder:
        raise UnusableFile(f"there is no file {file}")
    known = {batch.source.sha256 for batch in batches} | {output.file.sha256 for output in outputs}
    digests = [digest_of(file, kind) for kind in ("dataset", "parquet")]
    return next((found for found in digests if found in known), digests[0])
