"""What a verification works on: the ledger's records, and the words for what it finds."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import duckdb

from gradsentry_lib.store import journal
from gradsentry_lib.store.columns import from_row, store_path
from gradsentry_lib.store.ledger import open_ledger
from gradsentry_lib.store.paths import Store
from gradsentry_lib.store.records import (
    TABLES,
    Batch,
    Decision,
    FileRef,
    Findings,
    GateAcceptance,
    GateResult,
    LimitPolicy,
    Output,
    Override,
    Record,
    Run,
    Scan,
    ScoreFile,
    ThresholdRecord,
)

DUCKDB_HEADERS = 3 * 4096  # bytes before the first block


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was recorded. `subject` names it; a `note` is worth knowing and no tampering."""

    subject: str
    message: str
    severity: Literal["problem", "note"] = "problem"


@dataclass
class Records:
    """All records of the ledger by their numbers, oldest first; thresholds without their curves."""

    store: Path
    head: journal.Head = field(default_factory=lambda: journal.Head(0, journal.GENESIS))
    lines: dict[int, str] = field(default_factory=dict)  # journal: number -> digest
    runs: dict[int, Run] = field(default_factory=dict)
    batches: dict[int, Batch] = field(default_factory=dict)
    scans: dict[int, Scan] = field(default_factory=dict)
    thresholds: dict[int, ThresholdRecord] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    findings: dict[int, Findings] = field(default_factory=dict)
    gate_results: dict[int, GateResult] = field(default_factory=dict)
    gate_acceptances: dict[int, GateAcceptance] = field(default_factory=dict)
    overrides: dict[int, Override] = field(default_factory=dict)
    outputs: dict[int, Output] = field(default_factory=dict)
    score_files: dict[int, ScoreFile] = field(default_factory=dict)
    limit_policies: dict[int, LimitPolicy] = field(default_factory=dict)

    @property
    def paths(self) -> Store:
        return Store(self.store)

    def short(self, file: FileRef | Path) -> str:
        """A path as the ledger writes it."""
        return store_path(file.path if isinstance(file, FileRef) else file, self.store)

    @cached_property
    def latest_batches(self) -> dict[str, Batch]:
        """Each batch as it was read last. To be asked once all records are in."""
        return {batch.batch_key: batch for batch in self.batches.values()}

    @cached_property
    def latest_digests(self) -> dict[Path | str, str]:
        """The digest that was recorded last for each file of scores or verdicts."""
        refs = [scan.scores for scan in self.scans.values()] + [item.verdicts for item in self.decisions.values()]
        return {ref.path: ref.sha256 for ref in refs}


def load(path: Path, records: Records) -> Iterator[Finding]:
    """Reads all records into `records`; yields what is wrong with the chain over them."""
    with open_ledger(path, read_only=True) as ledger:
        yield from _whole_blocks(path, ledger.connection)
        for broken in journal.check_chain(ledger.connection):
            yield Finding(f"ledger {broken.table} {broken.seq}", broken.what)
        records.head = ledger.head()
        records.lines = dict(ledger.connection.execute("SELECT seq, sha256 FROM journal").fetchall())
        for kind, table in TABLES.items():
            for row in journal.rows(ledger.connection, table):
                try:
                    record: Record = from_row(kind, row, records.store)
                except (ValueError, TypeError, KeyError) as error:
                    yield Finding(f"ledger {table} {row['seq']}", f"can't be read: {error}")
                    continue
                if isinstance(record, ThresholdRecord):
                    record = replace(record, grid=(), density=())
                getattr(records, table)[record.seq] = record


def _whole_blocks(path: Path, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """DuckDB reads no block that holds nothing, so one that was cut off at the file's end goes unnoticed there."""
    sizes = "SELECT block_size FROM pragma_database_size() WHERE database_name = current_database()"
    ((block,),) = connection.execute(sizes).fetchall()
    if rest := (path.stat().st_size - DUCKDB_HEADERS) % block:
        yield Finding(
            path.name,
            f"ends inside a block, {block - rest:,} bytes early: it was cut off, or a write was not finished. What "
            "could be read is checked as well; the next scan makes the file whole again",
        )
