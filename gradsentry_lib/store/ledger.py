"""The open ledger: what the steps of a scan write, and what they ask."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from gradsentry_lib.errors import DamagedStore, NotFound, NotJudgedYet, UnusableOption
from gradsentry_lib.files import atomic_path, sha256_json
from gradsentry_lib.store import acceptance, journal, views
from gradsentry_lib.store import sample_index as index
from gradsentry_lib.store.columns import AnyRecord, from_row, store_path, table_of, to_columns
from gradsentry_lib.store.connection import connect
from gradsentry_lib.store.lock import PATIENCE
from gradsentry_lib.store.paths import Store
from gradsentry_lib.store.records import (
    Batch,
    Decision,
    FileRef,
    Findings,
    GateAcceptance,
    GateResult,
    GateState,
    LimitPolicy,
    Output,
    Override,
    Record,
    Run,
    Scan,
    ScoreFile,
    ThresholdRecord,
)

Value = TypeVar("Value")


@contextmanager
def open_ledger(path: Path | None = None, *, read_only: bool = False, patience: float = PATIENCE) -> Iterator["Ledger"]:
    """The ledger at `path` (default: the store's). All that is written in one block is kept, or nothing is.

    The file is opened at the first question or record, not before, and closed at the end of the block. Waits up to
    `patience` seconds for other processes, then raises BusyStore, which names them.
    """
    path = (path or Store.default().ledger).absolute()
    with ExitStack() as stack:
        yield Ledger(path, stack, read_only, patience)


@contextmanager
def reading(path: Path) -> Iterator["Ledger"]:
    """The ledger held open for several questions: whoever opens it for reading in this block, and this thread, shares
    it. Opening takes longer than most questions."""
    with open_ledger(path, read_only=True) as ledger:
        ledger.head()
        yield ledger


@dataclass
class Ledger:
    """Made by `open_ledger`. `store` is the folder that the ledger lies in: relative paths start there."""

    path: Path
    _stack: ExitStack
    read_only: bool
    patience: float
    _connection: duckdb.DuckDBPyConnection | None = None
    _views: bool = False

    @property
    def store(self) -> Path:
        return self.path.parent

    @property
    def paths(self) -> Store:
        return Store(self.store)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The open connection, for SQL of one's own (with parameters, please). Holds the ledger from here on."""
        connection = self._opened
        if self.read_only and not self._views:
            views.refresh(connection, self.store, temporary=True)
            self._views = True
        return connection

    @property
    def _opened(self) -> duckdb.DuckDBPyConnection:
        """The open connection, for what asks no view: to see where one points takes as long as half an opening."""
        if self._connection is None:
            self._connection = self._stack.enter_context(
                connect(self.path, read_only=self.read_only, patience=self.patience)
            )
        return self._connection

    # Writing. Each gives back the record's number.

    def record_run(self, run: Run) -> int:
        """Once a run: a run that is known already keeps its first record."""
        known = self.find(Run, run_id=run.run_id)
        return known[-1].seq if known else self._append(run)

    def record_batch(self, batch: Batch) -> int:
        """Also makes the index that finds a sample's batches. Raises BadInput where the key is another content's."""
        for known in self.find(Batch, batch_key=batch.batch_key):
            if known.source.sha256 != batch.source.sha256:
                raise DamagedStore(f"{batch.batch_key} is the batch of SHA-256 {known.source.sha256}, and of no other")
        batch = replace(batch, samples=self._keep(batch.samples, self.paths.samples(batch.batch_key)))
        index.write_index(batch.samples.file, self.paths.sample_ids(batch.batch_key))
        return self._append(batch)

    def record_scan(self, scan: Scan) -> int:
        place = self.paths.scores(scan.batch_key, scan.score_key)
        return self._append(replace(scan, scores=self._keep(scan.scores, place)))

    def record_threshold(self, threshold: ThresholdRecord) -> int:
        return self._append(threshold)

    def record_verdicts(self, decision: Decision) -> int:
        """Raises BadInput where the verdicts do not add up to the batch's readable rows."""
        place = self.paths.decision(decision.batch_key, decision.decision_key).verdicts
        decision = replace(decision, verdicts=self._keep(decision.verdicts, place))
        batch, total = self.batch(decision.batch_key), decision.clean + decision.flagged + decision.unscored
        if total != batch.readable:
            raise DamagedStore(f"{decision.batch_key}: {total} verdicts for {batch.readable} readable rows")
        return self._append(decision)

    def record_findings(self, findings: Findings) -> int:
        return self._append(findings)

    def record_gate(self, result: GateResult) -> int:
        return self._append(result)

    def record_output(self, output: Output) -> int:
        return self._append(output)

    def record_score_file(self, file: ScoreFile) -> int:
        """To be called before the file gets its name: a file in the cache that has no record is not believed."""
        return self._append(file)

    def record_overrides(self, overrides: Sequence[Override]) -> None:
        """Raises BadInput where one has no name or reason; then none is recorded."""
        signed = []
        for override in overrides:
            made_by, reason = _signed(override.made_by, override.reason)
            signed.append(replace(override, made_by=made_by, reason=reason))
        if signed:
            self._append(*signed)

    def accept_gate(self, batch_key: str, made_by: str, reason: str, decision: int | None = None) -> GateAcceptance:
        """Accepts the batch's latest gate result, or a decision's. Raises BadInput where that did not fail."""
        results = self.find(GateResult, batch_key=self.batch(batch_key).batch_key)
        results = [result for result in results if decision in (None, result.decision)]
        if not results:
            raise NotJudgedYet(f"the gate of {batch_key} never ran: there is nothing to accept yet")
        if results[-1].passed:
            raise UnusableOption(f"the gate of {batch_key} passed: there is nothing to accept")
        made_by, reason = _signed(made_by, reason)
        accepted = GateAcceptance(
            batch_key=batch_key,
            inputs_sha256=results[-1].inputs_sha256,
            made_by=made_by,
            reason=reason,
            accepted=self.before_the_gate(results[-1]),
        )
        return self.get(GateAcceptance, self._append(accepted))

    def record_limits(self, policy: LimitPolicy) -> int:
        """The store's own gate limits from here on. Raises BadInput where name or reason is missing."""
        made_by, reason = _signed(policy.made_by, policy.reason)
        return self._append(replace(policy, made_by=made_by, reason=reason))

    # Asking.

    def score_files(self, cache: str) -> set[str]:
        """The digests of all files of scores that were ever made for one folder of the cache."""
        found = self._opened.execute("SELECT file_sha256 FROM score_files WHERE cache = ?", [cache])
        return {sha256 for (sha256,) in found.fetchall()}

    def find(self, kind: type[AnyRecord], /, **columns: Any) -> list[AnyRecord]:
        """All records of a kind whose columns have these values, oldest first."""
        where = " AND ".join(f"{name} IS NOT DISTINCT FROM ?" for name in columns) or "true"
        statement = f"SELECT * FROM {table_of(kind)} WHERE {where} ORDER BY seq"  # noqa: S608
        cursor = self._opened.execute(statement, list(columns.values()))
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
        return [from_row(kind, row, self.store) for row in rows]

    def get(self, kind: type[AnyRecord], seq: int) -> AnyRecord:
        """The record of that number. Raises BadInput."""
        return _last(self.find(kind, seq=seq), f"the ledger has no {kind.__name__.lower()} {seq}")

    def recorded(self, path: Path) -> str | None:
        """The digest that was recorded last for an output in this place."""
        found = self.find(Output, file_path=store_path(path, self.store))
        return found[-1].file.sha256 if found else None

    def batch_keys(self) -> list[str]:
        """Every batch, in the order of arrival."""
        found = self._opened.execute("SELECT batch_key FROM batches GROUP BY batch_key ORDER BY min(seq)")
        return [key for (key,) in found.fetchall()]

    def batch(self, batch_key: str) -> Batch:
        """As it was read last. Raises BadInput."""
        return _last(self.find(Batch, batch_key=batch_key), f"the ledger has no batch {batch_key!r}")

    def scan(self, batch_key: str, score_key: str | None = None) -> Scan:
        """The latest, of one scoring configuration if asked. Raises BadInput."""
        columns = {"batch_key": batch_key} | ({"score_key": score_key} if score_key else {})
        return _last(self.find(Scan, **columns), f"batch {batch_key!r} was not scored yet")

    def decision(self, batch_key: str, decision_key: str | None = None) -> Decision:
        """The latest, of one key if asked. Raises BadInput."""
        columns = {"batch_key": batch_key} | ({"decision_key": decision_key} if decision_key else {})
        return _last(self.find(Decision, **columns), f"batch {batch_key!r} has no verdicts yet")

    def scan_history(self, batch_key: str) -> list[tuple[Decision, Scan, ThresholdRecord]]:
        """Every decision on a batch with the scan and the threshold that it rests on, oldest first."""
        return [
            (decision, self.get(Scan, decision.scan), self.get(ThresholdRecord, decision.threshold))
            for decision in self.find(Decision, batch_key=batch_key)
        ]

    def gate_state(self, inputs_sha256: str, batch_key: str) -> GateState:
        """Whether exactly these inputs of this batch passed the gate, failed it, or were let through by a person.

        Two batches can have the same verdicts and differ in what could not be read, so the inputs alone say too little.
        """
        results = self.find(GateResult, inputs_sha256=inputs_sha256, batch_key=batch_key)
        if not results:
            return GateState("never run")
        if results[-1].passed:
            return GateState("passed", results[-1])
        accepted = self.find(GateAcceptance, inputs_sha256=inputs_sha256, batch_key=batch_key)
        accepted = [item for item in accepted if acceptance.covers(item, results[-1])]
        if accepted:
            return GateState("accepted", results[-1], accepted[-1])
        return GateState("failed", results[-1])

    def before_the_gate(self, result: GateResult, decision: Decision | None = None) -> dict[str, Any]:
        """What there is to accept of a gate result. `decision`: where it has no record yet."""
        decision = decision or self.get(Decision, result.decision)
        return acceptance.seen(self.batch(result.batch_key), decision, result)

    def not_covered(self, result: GateResult, decision: Decision | None = None) -> str:
        """Of the batch's latest acceptance, why it does not count for a failed result; empty where there is none, or
        where it does."""
        earlier = self.find(GateAcceptance, batch_key=result.batch_key)
        if result.passed or not earlier or any(acceptance.covers(item, result) for item in earlier):
            return ""
        return acceptance.not_covered(earlier[-1], self.before_the_gate(result, decision))

    def standing_acceptance(self, batch_key: str) -> GateAcceptance | None:
        """The acceptance that keeps the batch's latest decision publishable, None where it rests on none."""
        results = self.find(GateResult, batch_key=batch_key)
        return self.gate_state(results[-1].inputs_sha256, batch_key).acceptance if results else None

    def active_overrides(self, batch_key: str) -> list[Override]:
        """What people's words come to for the samples of a batch: releases and flags, by sample id.

        Words on other batches do not count, nor do words on samples that the batch does not have.
        """
        spoken = self.find(Override, batch_key=None) + self.find(Override, batch_key=batch_key)
        latest = {(word.batch_key, word.sample_id): word for word in spoken}
        standing = [word for word in latest.values() if word.action != "unset"]
        chosen = {word.sample_id: word for word in standing}  # those on this batch come last and win
        return [word for _, word in sorted(self.present(batch_key, chosen).items())]

    def released_in_others(self, batch_key: str) -> list[Override]:
        """Releases, now in force for another batch alone, of samples that are in this one too."""
        spoken = [word for word in self.find(Override) if word.batch_key not in (None, batch_key)]
        latest = {(word.batch_key, word.sample_id): word for word in spoken}
        released = {word.sample_id: word for word in latest.values() if word.action == "release"}
        return [word for _, word in sorted(self.present(batch_key, released).items())]

    def present(self, batch_key: str, words: Mapping[str, Value]) -> dict[str, Value]:
        """Those of `words` (by sample id) whose sample is in the batch; all of them while the batch is unknown."""
        path = self.paths.sample_ids(batch_key)
        if not words or not path.exists():
            return dict(words)
        here = index.members(index.read_index(path), list(words))
        return {sample_id: word for (sample_id, word), inside in zip(words.items(), here, strict=True) if inside}

    @property
    def layout(self) -> int:
        """How the store's files lie: `paths.LAYOUT`, or less before they were brought over."""
        ((version,),) = self._opened.execute("SELECT max(version) FROM store_layout").fetchall()
        return int(version)

    def set_layout(self, version: int) -> None:
        self._opened.execute("UPDATE store_layout SET version = ?", [version])

    def head(self) -> journal.Head:
        """The chain's newest link."""
        return journal.head(self._opened)

    def _append(self, *records: Record) -> int:
        columns = [to_columns(record, self.store) for record in records]
        return journal.append(self._opened, table_of(type(records[0])), columns)

    def _keep(self, file: FileRef, kept: Path) -> FileRef:
        """Evidence lies in the store, where nobody tidies up: a file from elsewhere is copied in."""
        if file.file.absolute() != kept:
            with atomic_path(kept) as temporary:
                shutil.copyfile(file.file, temporary)
        return FileRef(kept, file.sha256)


def gate_inputs_sha256(verdicts_sha256: str, limits: Mapping[str, Any]) -> str:
    """What a gate result and its acceptance are for: exactly these verdicts under exactly these limits."""
    return sha256_json({"verdicts": verdicts_sha256, "limits": dict(limits)})


def overrides_digest(overrides: Sequence[Override]) -> str:
    """Changes when the overrides in force for a batch change; empty where there are none."""
    words = sorted([word.sample_id, word.action, word.made_by, word.reason] for word in overrides)
    return sha256_json(words) if words else ""


def applied(overrides: Sequence[Override]) -> tuple[dict[str, Any], ...]:
    """The overrides that a decision honoured, as it records them."""
    return tuple(
        {"override": word.seq, "sample_id": word.sample_id, "action": word.action, "made_by": word.made_by}
        | {"reason": word.reason, "scope": word.batch_key or "all"}
        for word in overrides
    )


def _signed(made_by: str, reason: str) -> tuple[str, str]:
    """A person's name and reason. Raises BadInput where either is empty."""
    if not made_by.strip() or not reason.strip():
        raise UnusableOption("give a name and a reason: both are recorded")
    return made_by.strip(), reason.strip()


def _last(found: Sequence[AnyRecord], otherwise: str) -> AnyRecord:
    if not found:
        raise NotFound(otherwise)
    return found[-1]
