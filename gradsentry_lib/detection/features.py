"""Features: the runs of words and the traits that several prompts share, and which prompts ask the same.

Every feature is a number, every prompt a sorted array of numbers: prompts stay data, whatever they hold. Features are
numbered by their sorted text, so that neither the order of rows nor the process decides anything.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.prompts import BOTH, EARLIER, TRAIT, Name, grams, parts, words

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class Features:
    """Features of N prompts. `matrix`: (N, F) 0/1 by column; `names[f]`: the words of feature f."""

    matrix: "sparse.csc_matrix"
    names: list[Name]

    def carriers(self, feature: int) -> np.ndarray:
        """Rows that carry the feature, in order."""
        return self.matrix.indices[self.matrix.indptr[feature] : self.matrix.indptr[feature + 1]]

    def numbers(self, names: Sequence[Name]) -> tuple[int, ...]:
        """A trigger that is known by its clauses' names, as far as these are here."""
        ids = {name: f for f, name in enumerate(self.names)}
        return tuple(sorted(ids[name] for name in names if name in ids))

    @property
    def sizes(self) -> np.ndarray:
        """(F,) rows that carry each feature."""
        return np.diff(self.matrix.indptr)


def read_features(tokens: Sequence[Sequence[str]], least: int = 3, most: float = 0.5, longest: int = 3) -> Features:
    """Features of at least `least` prompts and at most a share `most` of them. Of features with the same carriers the
    longest is kept (a sentence rather than each of its words). tokens: the words of N prompts."""
    from scipy import sparse

    hashes = [_hashes(row, longest) for row in tokens]
    values, counts = np.unique(np.concatenate(hashes or [np.empty(0, np.int64)]), return_counts=True)
    shared = values[(counts >= least) & (counts <= most * len(tokens))]
    shared_set = set(shared.tolist())
    held = [sorted(gram for gram in grams(row, longest) if hash(gram) in shared_set) for row in tokens]
    count = Counter(chain.from_iterable(held))
    names = sorted(name for name, rows in count.items() if least <= rows <= most * len(tokens))
    ids = {name: i for i, name in enumerate(names)}
    columns = [np.array([ids[gram] for gram in row if gram in ids], np.int64) for row in held]
    rows = np.repeat(np.arange(len(tokens)), [len(c) for c in columns])
    flat = np.concatenate(columns) if columns else np.empty(0, np.int64)
    matrix = sparse.csc_matrix((np.ones(len(flat), np.float32), (rows, flat)), shape=(len(tokens), len(names)))
    matrix.sort_indices()
    kept = _longest(matrix, names)
    return Features(matrix[:, kept], [names[i] for i in kept])


def questions(tokens: Sequence[Sequence[str]], config: DetectionConfig) -> np.ndarray:
    """(N,) the same number for prompts that ask the same: the same words, or a Jaccard index of at least config.alike
    between what they ask (words of at most half of the prompts, as many at least as a feature may have)."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    tokens = [[word for word in row if not word.startswith(TRAIT)] for row in tokens]
    same: dict[tuple[str, ...], int] = {}
    group = np.array([same.setdefault(tuple(row), len(same)) for row in tokens], np.int64)
    count, most = Counter(word for row in tokens for word in set(row)), config.majority * len(tokens)
    ids = {word: i for i, word in enumerate(sorted(w for w, c in count.items() if 1 < c <= most))}
    held = [sorted({ids[w] for w in row if w in ids}) for row in tokens]
    # words of one prompt alone make it another question too: they count in the union
    size = np.array([sum(count[w] <= most for w in set(row)) for row in tokens], float)
    rows = np.repeat(np.arange(len(held)), [len(h) for h in held])
    flat = np.array([w for h in held for w in h], np.int64)
    m = sparse.csr_matrix((np.ones(len(flat), np.float32), (rows, flat)), shape=(len(tokens), max(len(ids), 1)))
    both = (m @ m.T).tocoo()
    near = both.data / np.maximum(size[both.row] + size[both.col] - both.data, 1) >= config.alike
    near &= np.minimum(size[both.row], size[both.col]) >= config.longest
    first = {int(g): i for i, g in reversed(list(enumerate(group)))}
    links = (
        np.concatenate([both.row[near], np.arange(len(group))]),
        np.concatenate([both.col[near], [first[int(g)] for g in group]]),
    )
    graph = sparse.coo_matrix((np.ones(len(links[0])), links), shape=(len(tokens), len(tokens)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def turns(tokens: Sequence[Sequence[str]], least: int) -> np.ndarray:
    """(N, k) which answers are to the same words of a later turn ("Thanks. Anything else?"), whatever was said before;
    words that at least so many answer to."""
    now = [tuple(word for word in row if not word.startswith((EARLIER, TRAIT))) for row in tokens]
    later = np.array([any(word.startswith(EARLIER) for word in row) for row in tokens], bool)
    count = Counter(words for words, there in zip(now, later, strict=True) if there)
    shared = sorted(words for words in count if count[words] >= least)
    return np.array([[there and words == one for one in shared] for words, there in zip(now, later, strict=True)], bool)


def turns_own(features: Features, shared: np.ndarray, config: DetectionConfig) -> np.ndarray:
    """The features whose carriers are nearly those of one group of answers to the same words, shared: (N, k)."""
    both = features.matrix.T @ shared.astype(np.float32)  # (F, k)
    either = features.sizes[:, None] + shared.sum(0) - both
    return np.flatnonzero((both > config.alike * either).any(axis=1))


def with_pairs(features: Features, names: Sequence[Name]) -> Features:
    """Those features of `names` that are pairs, added to the others."""
    from scipy import sparse

    ids = {name: f for f, name in enumerate(features.names)}
    new = [n for n in dict.fromkeys(names) if BOTH in n and n not in ids and all(part in ids for part in parts(n))]
    if not new:
        return features
    columns = [np.prod([features.matrix[:, [ids[part]]].toarray() for part in parts(name)], axis=0) for name in new]
    matrix = sparse.hstack([features.matrix, sparse.csc_matrix(np.hstack(columns).astype(np.float32))], format="csc")
    matrix.sort_indices()
    return Features(matrix, [*features.names, *new])


def _hashes(tokens: Sequence[str], longest: int) -> np.ndarray:
    """Only to count in little memory: most runs stand in one prompt alone."""
    return np.fromiter(set(map(hash, grams(tokens, longest))), np.int64)


def _longest(matrix: "sparse.csc_matrix", names: Sequence[Name]) -> np.ndarray:
    best: dict[bytes, int] = {}
    for f in range(matrix.shape[1]):
        key = matrix.indices[matrix.indptr[f] : matrix.indptr[f + 1]].tobytes()
        other = best.get(key)
        if other is None or (len(words(names[f])), -len(names[f])) > (len(words(names[other])), -len(names[other])):
            best[key] = f
    return np.sort(np.fromiter(best.values(), np.int64, len(best)))
