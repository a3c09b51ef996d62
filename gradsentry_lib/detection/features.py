"""What prompts are made of: runs of a few words, the first and last word as such, and traits that are no words
(traits.py). In a conversation these are of what is answered; words of what was said earlier are words of their own.

Every feature is a number, every prompt a sorted array of numbers: prompts stay data, whatever they hold. Features are
numbered by their sorted text, so that neither the order of rows nor the process decides anything.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.traits import TRAIT, traits
from gradsentry_lib.samples import words as split

if TYPE_CHECKING:
    from scipy import sparse

FIRST, LAST = "\x02", "\x03"  # stand before a prompt's first and after its last word
BOTH = "\x06"  # stands between two features that are one where both stand
EARLIER = "\x1d"  # in a prompt, stands between what is answered and what was said earlier; begins an earlier word
Name = tuple[str, ...]


def words(name: Name) -> Name:
    """A feature's words as `tokenize` has them, without the marks of place."""
    return tuple(word for word in name if word not in (FIRST, LAST))


def parts(name: Name) -> list[Name]:
    """The runs that a feature is of, one of most."""
    if BOTH not in name:
        return [name]
    at = name.index(BOTH)
    return [name[:at], *parts(name[at + 1 :])]


def shown(name: Name) -> str:
    """A feature as a person reads it."""
    return " + ".join(" ".join(word.lstrip(EARLIER + TRAIT) for word in words(part)) for part in parts(name))


def tokenize(prompt: str) -> list[str]:
    """A prompt's traits, then its words and signs in small letters, in order, first those said earlier."""
    now, mark, earlier = prompt.partition(EARLIER)
    return [*traits(now, bool(mark)), *(EARLIER + word for word in split.tokenize(earlier)), *split.tokenize(now)]


def placed(tokens: Sequence[str]) -> list[str]:
    """The words, without traits, with marks before and after those that are answered."""
    begin = next((i for i, word in enumerate(tokens) if not word.startswith(TRAIT)), len(tokens))
    at = next((i for i in range(begin, len(tokens)) if not tokens[i].startswith(EARLIER)), len(tokens))
    return [*tokens[begin:at], FIRST, *tokens[at:], LAST]


@dataclass(frozen=True)
class Features:
    """Features of N prompts. `matrix`: (N, F) 0/1 by column; `names[f]`: the words of feature f; `tokens[i]`: all words
    of prompt i; `question`: (N,) the same number for prompts that ask the same."""

    matrix: "sparse.csc_matrix"
    names: list[Name]
    tokens: list[list[str]]

    def carriers(self, feature: int) -> np.ndarray:
        """Rows that carry the feature, in order."""
        return self.matrix.indices[self.matrix.indptr[feature] : self.matrix.indptr[feature + 1]]

    @property
    def sizes(self) -> np.ndarray:
        """(F,) rows that carry each feature."""
        return np.diff(self.matrix.indptr)

    @cached_property
    def holders(self) -> Mapping[str, int]:
        """How many prompts have each word."""
        return Counter(word for row in self.tokens for word in set(row))


def read_features(prompts: Sequence[str], least: int = 3, most: float = 0.5, longest: int = 3) -> Features:
    """Features of at least `least` prompts and at most a share `most` of them. Of features with the same carriers the
    longest is kept (a sentence rather than each of its words)."""
    from scipy import sparse

    tokens = [tokenize(prompt) for prompt in prompts]
    hashes = [_hashes(row, longest) for row in tokens]
    values, counts = np.unique(np.concatenate(hashes or [np.empty(0, np.int64)]), return_counts=True)
    shared = values[(counts >= least) & (counts <= most * len(prompts))]
    shared_set = set(shared.tolist())
    held = [sorted(gram for gram in _grams(row, longest) if hash(gram) in shared_set) for row in tokens]
    count = Counter(chain.from_iterable(held))
    names = sorted(name for name, rows in count.items() if least <= rows <= most * len(prompts))
    ids = {name: i for i, name in enumerate(names)}
    columns = [np.array([ids[gram] for gram in row if gram in ids], np.int64) for row in held]
    rows = np.repeat(np.arange(len(prompts)), [len(c) for c in columns])
    flat = np.concatenate(columns) if columns else np.empty(0, np.int64)
    matrix = sparse.csc_matrix((np.ones(len(flat), np.float32), (rows, flat)), shape=(len(prompts), len(names)))
    matrix.sort_indices()
    kept = _longest(matrix, names)
    return Features(matrix[:, kept], [names[i] for i in kept], tokens)


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


def carries(tokens: Sequence[str], names: Sequence[Name]) -> bool:
    """Whether a prompt has one of the features."""
    marked = placed(tokens)
    return any(
        all(name[0] in tokens if is_trait(name) else name[0] in marked and _stands(marked, name) for name in parts(one))
        for one in names
    )


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
    return Features(matrix, [*features.names, *new], features.tokens)


def is_trait(name: Name) -> bool:
    return name[0].startswith(TRAIT)


def _stands(tokens: Sequence[str], name: Name) -> bool:
    width = len(name)
    return any(tuple(tokens[i : i + width]) == name for i in range(len(tokens) - width + 1))


def without(tokens: Sequence[str], phrases: Sequence[Name]) -> list[str]:
    """The words of a prompt with every phrase taken out, the first phrases first."""
    left = list(tokens)
    for phrase in phrases:
        width, i = len(phrase), 0
        while width and i <= len(left) - width:
            if tuple(left[i : i + width]) == phrase:
                del left[i : i + width]
            else:
                i += 1
    return left


def _grams(tokens: Sequence[str], longest: int) -> set[Name]:
    marked = placed(tokens)
    found = {tuple(marked[i : i + n]) for n in range(1, longest + 1) for i in range(len(marked) - n + 1)}
    return found - {(FIRST,), (LAST,)} | {(word,) for word in tokens if word.startswith(TRAIT)}


def _hashes(tokens: Sequence[str], longest: int) -> np.ndarray:
    """Only to count in little memory: most runs stand in one prompt alone."""
    return np.fromiter(set(map(hash, _grams(tokens, longest))), np.int64)


def _longest(matrix: "sparse.csc_matrix", names: Sequence[Name]) -> np.ndarray:
    best: dict[bytes, int] = {}
    for f in range(matrix.shape[1]):
        key = matrix.indices[matrix.indptr[f] : matrix.indptr[f + 1]].tobytes()
        other = best.get(key)
        if other is None or (len(words(names[f])), -len(names[f])) > (len(words(names[other])), -len(names[other])):
            best[key] = f
    return np.sort(np.fromiter(best.values(), np.int64, len(best)))
