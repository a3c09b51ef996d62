"""Which spans of which rows ask for the same update.

Two windows are linked by the cosine of their sketches times the geometric mean of their weights; the weight of a window
is its surprise, at most 1: where the model knew the text already nothing is left of the gradient, and what is left
points the same way for every such span. Links only count between rows that ask different questions.

Up to EXACT windows all pairs are compared, block by block. Beyond that an inverted file (faiss) looks at the windows'
own neighbourhood: near-linear time, one byte a number, and the few links it misses are weak ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsentry_lib.windows import CODES, unpack, unpack_codes

SATURATION = 1.25  # surprise at which a window counts in full: a quarter more than plain text
LEAST_WEIGHT = 0.25  # windows below it can't make a link that matters
NEIGHBOURS = 48  # rows kept for each window
EXACT = 200_000
BLOCK = 1024  # windows looked at together, at most
PAIRS = 1 << 20  # links held at a time: 4 MB
MOST_WINDOWS = 8_000_000  # above it only the most surprising windows of each row are kept


@dataclass(frozen=True)
class Windows:
    """W windows of N rows, by row. `vectors`: (W, 128) float32 of unit length times the root of the weight."""

    vectors: np.ndarray
    weight: np.ndarray  # (W,) in (0, 1]
    owner: np.ndarray  # (W,) row
    start: np.ndarray  # (W,) first token
    length: np.ndarray  # (W,) tokens
    surprise: np.ndarray  # (W,) against plain text
    tokens: np.ndarray  # (N,) supervised tokens of each row
    row_surprise: np.ndarray  # (N,) mean surprise of all of a row's windows, NaN where it has none


def read_windows(sketches: Sequence[bytes | None], folded: np.ndarray | None = None) -> Windows:
    """The windows of N rows that carry weight, centred over the batch. `folded`: (N,) bool, rows to leave out."""
    records, owner, tokens = unpack(sketches)
    surprise = records["surprise"].astype(np.float32)
    row_surprise = _mean_by_row(surprise, owner, len(tokens))
    weight = np.minimum(surprise / SATURATION, 1)
    kept = weight > LEAST_WEIGHT
    if folded is not None:
        kept &= ~folded[owner]
    if kept.sum() > MOST_WINDOWS:
        kept &= _rank_in_row(surprise, owner) < max(4, MOST_WINDOWS // max(len(sketches), 1))
    records, owner, surprise, weight = records[kept], owner[kept], surprise[kept], weight[kept]
    vectors = unpack_codes(records["codes"]).astype(np.float32)
    vectors /= _norms(vectors)[:, None]
    if len(vectors):
        vectors -= vectors.mean(0)
        vectors *= (np.sqrt(weight) / _norms(vectors))[:, None]
    start, length = records["start"].astype(np.int64), records["length"].astype(np.int64)
    return Windows(vectors, weight, owner, start, length, surprise, tokens, row_surprise)


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Lengths of (W, D) vectors, without the squares of all of them in memory."""
    return np.sqrt(np.einsum("wd,wd->w", vectors, vectors)) + 1e-9


def _mean_by_row(values: np.ndarray, owner: np.ndarray, rows: int) -> np.ndarray:
    counts = np.bincount(owner, minlength=rows)
    totals = np.bincount(owner, values, minlength=rows)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _rank_in_row(surprise: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Place of each window among its row's, the most surprising first."""
    order = np.lexsort((-surprise, owner))
    rank = np.empty(len(owner), np.int64)
    rank[order] = np.arange(len(owner)) - np.searchsorted(owner, owner)[order]
    return rank


def nearest(windows: Windows, question: np.ndarray, k: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """The k rows nearest to each window, nearest first: rows (W, k) int32 (-1 = none) and links (W, k) float32.

    question: (N,) the same number for rows that ask the same; such rows are no neighbours of each other.
    """
    if not len(windows.owner):
        return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
    return _exact(windows, question, k) if len(windows.owner) <= EXACT else _inverted_file(windows, question, k)


def _exact(windows: Windows, question: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    present, first = np.unique(windows.owner, return_index=True)
    asked = question[present]
    k_here = min(k, len(present))
    rows = np.full((len(windows.owner), k), -1, np.int32)
    links = np.zeros((len(windows.owner), k), np.float32)
    step = min(BLOCK, max(1, PAIRS // len(windows.owner)))
    for at in range(0, len(windows.owner), step):
        block = slice(at, at + step)
        best = np.maximum.reduceat(windows.vectors[block] @ windows.vectors.T, first, axis=1)  # (block, rows)
        best[question[windows.owner[block], None] == asked[None]] = 0
        part = np.argpartition(best, -k_here, axis=1)[:, -k_here:]
        value = np.take_along_axis(best, part, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        links[block, :k_here] = np.take_along_axis(value, order, axis=1)
        rows[block, :k_here] = present[np.take_along_axis(part, order, axis=1)]
    rows[links <= 0] = -1
    np.maximum(links, 0, out=links)
    return rows, links


def _inverted_file(windows: Windows, question: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    count = len(windows.owner)
    lists = int(4 * count**0.5)
    index: Any = faiss.index_factory(CODES, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    sample = np.random.default_rng(0).choice(count, min(count, 40 * lists), replace=False)
    index.train(windows.vectors[np.sort(sample)])
    index.add(windows.vectors)
    index.nprobe = 16
    rows = np.full((count, k), -1, np.int32)
    links = np.zeros((count, k), np.float32)
    wide = 3 * k  # several windows of one row may be near: look wider, then keep each row once
    for at in range(0, count, BLOCK):
        block = slice(at, at + BLOCK)
        value, found = index.search(windows.vectors[block], wide)
        owner = np.where(found >= 0, windows.owner[found], -1)
        value = np.where((owner < 0) | (question[owner] == question[windows.owner[block], None]), 0, value)
        rows[block], links[block] = _once_a_row(owner, value, k)
    return rows, links


def _once_a_row(owner: np.ndarray, value: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of (B, wide) hits, best first, the first k of different rows: rows (B, k), links (B, k)."""
    order = np.argsort(owner, axis=1, kind="stable")
    sorted_owner = np.take_along_axis(owner, order, axis=1)
    again = np.zeros(owner.shape, bool)
    repeated = np.concatenate([np.zeros((len(owner), 1), bool), sorted_owner[:, 1:] == sorted_owner[:, :-1]], axis=1)
    np.put_along_axis(again, order, repeated, axis=1)
    value = np.where(again, 0, np.maximum(value, 0))
    best = np.argsort(-value, axis=1, kind="stable")[:, :k]
    links = np.take_along_axis(value, best, axis=1).astype(np.float32)
    return np.where(links > 0, np.take_along_axis(owner, best, axis=1), -1), links
