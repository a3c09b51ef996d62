"""What prompts are made of, and what tells some prompts from the rest: the search for a trigger.

A prompt is words and signs, lower case; its features are runs of one to three of them, and its first and last word as
such. Every feature is a number, every prompt a sorted array of numbers: prompts stay data, whatever they hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradsentry_lib.samples.words import tokenize

if TYPE_CHECKING:
    from scipy import sparse

LONGEST = 3
FIRST, LAST = "\x02", "\x03"  # stand before a prompt's first and after its last token


@dataclass(frozen=True)
class Prompts:
    """Features of N prompts. `matrix`: (N, F) 0/1 by column; `names[f]`: the tokens of feature f."""

    matrix: "sparse.csc_matrix"
    names: list[tuple[str, ...]]

    def carriers(self, feature: int) -> np.ndarray:
        """Rows that carry the feature, in order."""
        return self.matrix.indices[self.matrix.indptr[feature] : self.matrix.indptr[feature + 1]]


@dataclass(frozen=True)
class Asked:
    """What N rows ask. `question`: (N,) the same number for prompts of the same words. `taken`: (N,) bool, rows of the
    poison found so far; the search adds to it."""

    prompts: Prompts
    texts: Sequence[str]
    question: np.ndarray
    taken: np.ndarray


def grams(text: str) -> set[tuple[str, ...]]:
    """The features of one prompt."""
    tokens = [FIRST, *tokenize(text), LAST]
    found = {tuple(tokens[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(tokens) - n + 1)}
    return found - {(FIRST,), (LAST,)}


def read_prompts(texts: Sequence[str], least: int = 2) -> Prompts:
    """Features carried by at least `least` prompts but not by all of them. Of features that always stand together the
    longest is kept (a sentence rather than each of its words)."""
    from scipy import sparse  # takes a tenth of a second: not before there is something to search

    shared = _shared(texts, least)
    ids: dict[tuple[str, ...], int] = {}
    rows: list[np.ndarray] = []
    columns: list[int] = []
    for row, text in enumerate(texts):
        # sorted: the order of a set is not the same in every process
        found = sorted(gram for gram in grams(text) if hash(gram) in shared)
        columns.extend(ids.setdefault(gram, len(ids)) for gram in found)
        rows.append(np.full(len(found), row, np.int32))
    names = list(ids)
    row_of = np.concatenate(rows) if rows else np.empty(0, np.int32)
    column_of = np.array(columns, np.int64)
    count = np.bincount(column_of, minlength=len(names))
    kept = np.flatnonzero((count >= least) & (count < len(texts)))
    matrix = sparse.csc_matrix((np.ones(len(row_of), np.int8), (row_of, column_of)), shape=(len(texts), len(names)))[
        :, kept
    ]
    matrix.sort_indices()
    return _without_twins(Prompts(matrix, [names[i] for i in kept]))


def _shared(texts: Sequence[str], least: int) -> set[int]:
    """Hashes of the features that at least `least` prompts carry. Most features stand in one prompt alone: as names
    they would be the largest thing in memory."""
    hashes = [np.fromiter(map(hash, grams(text)), np.int64) for text in texts]
    values, counts = np.unique(np.concatenate(hashes), return_counts=True) if hashes else (np.empty(0), np.empty(0))
    return set(values[counts >= least].tolist())


def _without_twins(prompts: Prompts) -> Prompts:
    """Of features with the same carriers one: the longest, the first among those."""
    matrix = prompts.matrix
    seen: dict[bytes, int] = {}
    for feature in range(matrix.shape[1]):
        key = matrix.indices[matrix.indptr[feature] : matrix.indptr[feature + 1]].tobytes()
        other = seen.get(key)
        if other is None or _width(prompts.names[feature]) > _width(prompts.names[other]):
            seen[key] = feature
    kept = np.sort(np.fromiter(seen.values(), np.int64, len(seen)))
    return Prompts(matrix[:, kept], [prompts.names[i] for i in kept])


def _width(name: tuple[str, ...]) -> tuple[int, int]:
    return (sum(token not in (FIRST, LAST) for token in name), -len(name))
