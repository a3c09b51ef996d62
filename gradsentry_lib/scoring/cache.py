"""Scores already made, found again by content: (sample, model fingerprint, scoring configuration) -> score.

One folder a (fingerprint, configuration); in it shards, each a Parquet file named by the SHA-256 of its own bytes and
renamed into place when whole. A shard that was torn or altered no longer matches its name, and one that somebody laid
there matches its name but is not in the cache's book, where each digest is written before the shard gets its name:
both are set aside, and their samples are scored again. Scores of samples that failed are remembered while the cache is
open and not kept: the next scan tries them anew.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.files import atomic_path, sha256_file
from gradsentry_lib.scoring.score import SCORE_SCHEMA

log = logging.getLogger(__name__)

KEY = np.dtype("S16")  # the first 128 bits of a sample's id: two samples that share them cannot be made
HEX = 2 * KEY.itemsize


def keys_of(sample_ids: pa.ChunkedArray | pa.Array | Sequence[str]) -> np.ndarray:
    """(N,) KEY from N sample ids in hex."""
    ids = sample_ids if isinstance(sample_ids, pa.ChunkedArray | pa.Array) else pa.array(sample_ids, pa.string())
    heads = pc.utf8_slice_codeunits(ids, 0, HEX).to_pylist()
    return np.frombuffer(bytes.fromhex("".join(heads)), KEY)


@dataclass(frozen=True)
class Book:
    """Where it is written which shards are the cache's own. `known`: the SHA-256 of all that were made for this
    folder; `enter`: takes in the path that a new one will have, its SHA-256 and its rows."""

    known: Callable[[], AbstractSet[str]]
    enter: Callable[[Path, str, int], None]


class ScoreCache:
    """The shards of one folder, indexed by sample. Holds 24 bytes of memory a score.

    `book`: without one, every shard that matches its name is believed, which suits a folder that is the caller's alone.
    """

    def __init__(self, folder: Path, book: Book | None = None) -> None:
        self.folder = folder
        self.book = book
        self._shards: list[Path] = []
        self._keys = np.empty(0, KEY)  # sorted
        self._where = np.empty((0, 2), np.int32)  # shard, row in it
        self._fresh: list[tuple[np.ndarray, np.ndarray]] = []  # keys and places that are not sorted in yet
        self._failed = SCORE_SCHEMA.empty_table()
        self._read = lru_cache(maxsize=4)(self._read_shard)
        paths = sorted(folder.glob("*.parquet"))
        known = book.known() if book and paths else None  # asked after the look: what was seen there is entered by now
        foreign = [path for path in paths if known is not None and path.stem not in known]
        for path in foreign:
            _set_aside(path, ".unknown")
        if foreign:
            log.warning(
                "%d of %d files of scores in %s are not in the ledger: set aside, their samples will be scored again.",
                len(foreign), len(paths), folder,
            )  # fmt: skip
        for path in paths:
            if known is None or path.stem in known:
                self._index(path)

    def __len__(self) -> int:
        self._settle()
        return len(self._keys)

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """(N,) bool: which of the samples with these keys (N,) have a score here."""
        self._settle()
        if not len(self._keys):
            return np.zeros(len(keys), bool)
        return self._keys[self._places(keys)] == keys

    def lookup(self, sample_ids: Sequence[str]) -> pa.Table:
        """The scores there are of these samples, one line a sample found, in any order."""
        if not sample_ids:
            return SCORE_SCHEMA.empty_table()
        wanted = np.unique(keys_of(sample_ids))
        held = wanted[self.holds(wanted)]
        found = self._where[self._places(held)]
        parts = [
            self._read(int(shard)).take(pa.array(found[found[:, 0] == shard, 1])) for shard in np.unique(found[:, 0])
        ]
        failed = self._failed.filter(pc.is_in(self._failed["sample_id"], pa.array(sample_ids, pa.string())))
        return pa.concat_tables([failed, *parts])

    def add(self, scores: pa.Table) -> None:
        """Keeps scores (SCORE_SCHEMA), one a sample; those with a failure only as long as the cache is open."""
        good = pc.equal(scores["failure"], "")
        kept = scores.filter(good)
        if kept.num_rows < scores.num_rows:
            self._failed = pa.concat_tables([self._failed, scores.filter(pc.invert(good))])
        if kept.num_rows:
            self._enter(self._write(kept), kept["sample_id"])

    def _write(self, scores: pa.Table) -> Path:
        """One shard, named by its bytes, entered into the book and then renamed into place."""
        buffer = pa.BufferOutputStream()
        pq.write_table(scores, buffer, compression="zstd")
        data = buffer.getvalue().to_pybytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / f"{sha256}.parquet"
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
            if self.book:
                self.book.enter(path, sha256, scores.num_rows)
        return path

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """(N,) where each key stands in the sorted ones, or would."""
        return np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))

    def _index(self, path: Path) -> None:
        if sha256_file(path) != path.stem:
            log.warning("Score shard %s is damaged: set aside, its samples will be scored again.", path)
            _set_aside(path, ".damaged")
            return
        self._enter(path, _read(path, ["sample_id"])["sample_id"])

    def _enter(self, path: Path, sample_ids: pa.ChunkedArray) -> None:
        keys = keys_of(sample_ids)
        rows = np.arange(len(keys), dtype=np.int32)
        self._fresh.append((keys, np.stack([np.full_like(rows, len(self._shards)), rows], axis=1)))
        self._shards.append(path)

    def _settle(self) -> None:
        """Sorts in what was entered since the last question: a million scores are added without a sort a shard."""
        if self._fresh:
            keys = np.concatenate([self._keys, *(keys for keys, _ in self._fresh)])
            where = np.concatenate([self._where, *(where for _, where in self._fresh)])
            order = np.argsort(keys, kind="stable")
            self._keys, self._where, self._fresh = keys[order], where[order], []

    def _read_shard(self, number: int) -> pa.Table:
        return _read(self._shards[number]).cast(SCORE_SCHEMA)


def _set_aside(path: Path, suffix: str) -> None:
    with suppress(FileNotFoundError):  # another process did
        path.rename(path.with_suffix(suffix))


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A shard. By one thread: for files this small, more cost more time and memory than they save."""
    with pq.ParquetFile(path) as file:
        return file.read(columns, use_threads=False)
