"""All batches of a store as a reviewer sees them: where each stands, and how many of its rows wait for a word."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.detection.gate import WATCHED
from gradsentry_lib.store import Batch, Decision, GateResult, Ledger, Output, Scan, open_ledger


@dataclass(frozen=True)
class BatchState:
    """`state`: "not scored", "not judged", "refused", "accepted" or "published"; or "stale", where people spoke since
    its verdicts. `waiting`: flagged, watched and unscored rows without a person's word; `deciders`: name to words
    in force."""

    batch: str
    state: str
    gate: str
    rows: int
    flagged: int
    waiting: int
    arrived: datetime | None
    deciders: dict[str, int]

    @property
    def age(self) -> str:
        if self.arrived is None:
            return ""
        seconds = (datetime.now(UTC) - self.arrived).total_seconds()
        for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
            if seconds >= size:
                count = int(seconds // size)
                return f"{count} {unit}{'s' if count != 1 else ''}"
        return "now"


def all_batches(ledger_path: Path, newest: int | None = None) -> list[BatchState]:
    """Those that wait first, then the newest; only so many of the newest, if asked."""
    with open_ledger(ledger_path, read_only=True) as ledger:
        keys = ledger.batch_keys() if ledger_path.exists() else []
        states = [_state(ledger, key) for key in keys[-newest if newest else 0 :]]
    by_age = sorted(states, key=lambda state: state.arrived or datetime.min.replace(tzinfo=UTC), reverse=True)
    return sorted(by_age, key=lambda state: state.waiting == 0)


def _state(ledger: Ledger, key: str) -> BatchState:
    batch = ledger.find(Batch, batch_key=key)[0]
    decisions, gates = ledger.find(Decision, batch_key=key), ledger.find(GateResult, batch_key=key)
    if not decisions:
        state = "not judged" if ledger.find(Scan, batch_key=key) else "not scored"
        return BatchState(key, state, "never run", batch.readable, 0, 0, batch.recorded_at, {})
    latest, words = decisions[-1], ledger.active_overrides(key)
    gate = ledger.gate_state(gates[-1].inputs_sha256, key).status if gates else "never run"
    published = any(output.kind == "clean" for output in ledger.find(Output, batch_key=key, decision=latest.seq))
    state = "published" if published else "refused" if gate == "failed" else gate
    said = {word.sample_id for word in words}
    applied = {(word["sample_id"], word["action"]) for word in latest.overrides}
    if {(word.sample_id, word.action) for word in words} != applied:
        state = "stale"
    waiting = sum(name not in said for name in listed(latest.verdicts.file, latest.verdicts.sha256))
    deciders = Counter(word.made_by for word in words)
    return BatchState(key, state, gate, batch.readable, latest.flagged, waiting, batch.recorded_at, dict(deciders))


@lru_cache(maxsize=256)
def listed(verdicts: Path, sha256: str) -> tuple[str, ...]:
    """Sample ids of the rows that a person looks at. `sha256`: of the file, so that another one is read again."""
    if not verdicts.exists():
        return ()
    with pq.ParquetFile(verdicts) as file:
        names = [name for name in ("sample_id", "verdict", WATCHED) if name in file.schema_arrow.names]
        table = file.read(names)
    mask = pc.not_equal(table["verdict"], "clean")
    if WATCHED in names:
        mask = pc.or_(mask, pc.fill_null(table[WATCHED], False))
    return tuple(dict.fromkeys(table["sample_id"].filter(mask).to_pylist()))
