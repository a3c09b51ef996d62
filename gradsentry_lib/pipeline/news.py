"""What is new in a batch since the last good one of its name: a data set that grows is judged again and again."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.pipeline.decided import Decided, Evidence
from gradsentry_lib.pipeline.publish import gate_of
from gradsentry_lib.store import Batch, Decision, reading
from gradsentry_lib.store.paths import Store


@dataclass(frozen=True)
class News:
    """`since`: the batch that it is compared with, "" where there is none. `rows`, `gone`: samples that were not in it,
    and that are not any more. `suspect`: new ones that are not clean. `triggers`: what groups share that none did."""

    since: str = ""
    rows: int = 0
    gone: int = 0
    suspect: int = 0
    triggers: tuple[str, ...] = ()


def news_of(decided: Decided, name: str, store: Store) -> News:
    """Compares with the newest other decision on a batch of that name whose gate is open."""
    with reading(store.ledger) as ledger:
        keys = {batch.batch_key for batch in ledger.find(Batch, name=name)} - {decided.batch_key}
        others = [each for key in keys for each in ledger.find(Decision, batch_key=key)]
        newest = sorted(others, key=lambda each: each.seq, reverse=True)
        before = next((each for each in newest if gate_of(Decided.of(ledger, each), store).open), None)
        if before is None:
            return News()
        mine = ledger.get(Decision, decided.number)
        known = {group.trigger for group in Evidence.of(ledger, before).groups}
        triggers = [group.trigger for group in Evidence.of(ledger, mine).groups if group.trigger not in known]
    now, then = (_samples(decision, store) for decision in (mine, before))
    new = pc.invert(pc.is_in(now["sample_id"], value_set=then["sample_id"].combine_chunks()))
    gone = pc.invert(pc.is_in(then["sample_id"], value_set=now["sample_id"].combine_chunks()))
    suspect = pc.and_(new, pa.chunked_array([not_clean(now)]))
    return News(before.batch_key, _count(new), _count(gone), _count(suspect), tuple(dict.fromkeys(triggers)))


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _samples(decision: Decision, store: Store) -> pa.Table:
    path = store.decision(decision.batch_key, decision.decision_key).verdicts
    return pq.read_table(path, columns=["sample_id", "verdict"])
