"""Which rows of a batch are still to be scored, and those rows in shards."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from gradsentry_lib.samples.arrow import batches_of
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.scoring.cache import ScoreCache, keys_of

WINDOW = 8192  # rows looked at together: they may lie in as many shards of the cache
SHARD_CHARACTERS = 8 << 20  # of text in memory before a shard is scored, however few its rows


def missing_rows(samples: Path, cache: ScoreCache) -> np.ndarray:
    """(M,) row numbers, sorted, of the samples that the cache does not hold: the first row of each content.

    Holds 24 bytes of memory a row.
    """
    keys, rows = [], []
    with pq.ParquetFile(samples) as file:
        for part in batches_of(file, WINDOW, ["row", "sample_id"]):
            keys.append(keys_of(part["sample_id"]))
            rows.append(part["row"].to_numpy())
    distinct, first = np.unique(np.concatenate(keys), return_index=True)
    return np.sort(np.concatenate(rows)[first[~cache.holds(distinct)]])


def shards(samples: Path, wanted: np.ndarray, rows: int) -> Iterator[list[Sample]]:
    """The samples of the `wanted` row numbers (sorted), in order, `rows` at a time, fewer where long."""
    shard: list[Sample] = []
    characters = 0
    for chunk in read_samples(samples, 1024):
        first, last = np.searchsorted(wanted, [chunk[0].row, chunk[-1].row + 1])
        mine = set(wanted[first:last].tolist())
        for sample in chunk:
            if sample.row not in mine:
                continue
            shard.append(sample)
            characters += sum(len(turn.text) for turn in sample.turns)
            if len(shard) == rows or characters >= SHARD_CHARACTERS:
                yield shard
                shard, characters = [], 0
    if shard:
        yield shard
