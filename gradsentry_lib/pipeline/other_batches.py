"""Releases that do not count here: a person put a row back in one batch, and the same text is in another one, too."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.paths import Store

NAMED = 10  # rows that the sentence names


@dataclass(frozen=True)
class ReleasedInOthers:
    """`rows` of a batch whose text somebody released for another batch only. Name and reason are untrusted text."""

    rows: tuple[int, ...]
    made_by: str
    batch_key: str
    reason: str

    def __str__(self) -> str:
        several = len(self.rows) > 1
        some = ", ".join(map(str, self.rows[:NAMED])) + (", ..." if len(self.rows) > NAMED else "")
        return (
            f"{len(self.rows)} row{'s' * several} here {'were' if several else 'was'} released by {self.made_by} "
            f"in batch {self.batch_key}: {self.reason} (does not count here; row{'s' * several} {some})"
        )


def released_in_others(store: Store, batch_key: str) -> tuple[ReleasedInOthers, ...]:
    """What people said of a batch's rows in other batches, as it stands now; without rows on which a word counts here.

    One entry for each batch, person and reason.
    """
    with open_ledger(store.ledger, read_only=True) as ledger:
        settled = {word.sample_id for word in ledger.active_overrides(batch_key)}
        words = [word for word in ledger.released_in_others(batch_key) if word.sample_id not in settled]
    if not words:
        return ()
    samples = pq.read_table(store.samples(batch_key), columns=["row", "sample_id"])
    found = samples.filter(pc.is_in(samples["sample_id"], pa.array([word.sample_id for word in words])))
    said: dict[tuple[str, str, str], list[int]] = {}
    by_sample: dict[str, Override] = {word.sample_id: word for word in words}
    for line in found.to_pylist():
        word = by_sample[line["sample_id"]]
        said.setdefault((word.made_by, word.batch_key or "", word.reason), []).append(line["row"])
    return tuple(ReleasedInOthers(tuple(rows), *told) for told, rows in said.items())
