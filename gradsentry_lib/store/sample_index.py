"""Which samples are in a batch, found without reading its tables.

`batches/<batch key>/sample_ids.u64` holds the first 16 hex digits of every sample's id as sorted little-endian uint64
and nothing else: 8 bytes a row. Looking up an id or the beginning of one is two binary searches in a memory-mapped
file, so that a store of ten million rows answers at once. It is made from samples.parquet and can be made again:
evidence it is not.
"""

import mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.errors import DamagedStore
from gradsentry_lib.files import atomic_path
from gradsentry_lib.samples.arrow import batches_of

DIGITS = 16  # hex digits of a sample id that fit a uint64
ROWS = 8192  # of a table, read at a time


def write_index(samples: Path, path: Path) -> None:
    """From any table with a `sample_id` column."""
    heads = make_index(samples)
    with atomic_path(path) as temporary:
        heads.astype("<u8").tofile(temporary)


def make_index(samples: Path) -> np.ndarray:
    """(N,) uint64, sorted: what the index of these samples holds. Some rows' ids are text in memory at a time."""
    with pq.ParquetFile(samples) as file:
        parts = [ids_of(part["sample_id"]) for part in batches_of(file, ROWS, ["sample_id"])]
    heads = np.concatenate([np.empty(0, np.uint64), *parts])
    heads.sort()
    return heads


def ids_of(sample_ids: pa.Array) -> np.ndarray:
    """(N,) uint64 from (N,) sample ids in hex."""
    heads = pc.utf8_slice_codeunits(sample_ids, 0, DIGITS).to_pylist()
    return np.frombuffer(bytes.fromhex("".join(heads)), dtype=">u8").astype(np.uint64)


def read_index(path: Path) -> np.ndarray:
    """(N,) uint64, sorted, memory-mapped. (By hand: a thousand `np.load` or `np.memmap` take 0.2 s of Python.)"""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    if len(mapped) % 8:
        raise DamagedStore(f"{path} is damaged: remove it, and scan the batch again")
    return np.frombuffer(mapped, dtype="<u8")


def find(index: np.ndarray, prefix: str) -> np.ndarray:
    """The ids in a batch that begin like `prefix` (hex, up to 64 digits), as they stand in the index."""
    head = prefix[:DIGITS]
    low = int(head.ljust(DIGITS, "0"), 16)
    high = int(head.ljust(DIGITS, "f"), 16)
    first = np.searchsorted(index, np.uint64(low), side="left")
    last = np.searchsorted(index, np.uint64(high), side="right")
    found = index[first:last]
    return np.unique(found) if found.size > 1 else found


def members(index: np.ndarray, sample_ids: list[str]) -> np.ndarray:
    """(M,) bool: which of M full ids are in the batch."""
    wanted = np.array([int(sample_id[:DIGITS], 16) for sample_id in sample_ids], dtype=np.uint64)
    if not index.size:
        return np.zeros(wanted.size, dtype=bool)
    places = np.minimum(np.searchsorted(index, wanted), index.size - 1)
    return np.asarray(index[places] == wanted)
