"""How often each word stands in each prompt, counted once, and again only where a trigger is taken out; and what a
regression reads of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gradsentry_lib.detection.prompts import TRAIT, Name, without

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class WordCounts:
    """Of N prompts: `tokens[i]`, the words of prompt i without its traits (how a line is written is no rest of a
    prompt: a trigger at its end changes that too); `numbers`, each word's column, by sorted words; `counts` (N, V)."""

    tokens: Sequence[Sequence[str]]
    numbers: Mapping[str, int]
    counts: "sparse.csr_matrix"

    @classmethod
    def of(cls, tokens: Sequence[Sequence[str]]) -> "WordCounts":
        said = [[word for word in row if not word.startswith(TRAIT)] for row in tokens]
        numbers = {word: i for i, word in enumerate(sorted({word for row in said for word in row}))}
        return cls(said, numbers, _counted(said, numbers))

    @cached_property
    def by_word(self) -> "sparse.csc_matrix":
        """The counts, by column."""
        return self.counts.tocsc()

    def only(self, rows: np.ndarray) -> "WordCounts":
        """Of these prompts alone."""
        return WordCounts([self.tokens[int(i)] for i in rows], self.numbers, self.counts[rows])

    def without(self, phrases: Sequence[Name]) -> "sparse.csr_matrix":
        """(N, V) the counts when every phrase is taken out of the prompts, the first phrases first."""
        from scipy import sparse

        present, by_word = np.zeros(len(self.tokens), bool), self.by_word
        for phrase in phrases:
            columns = [self.numbers[word] for word in phrase if word in self.numbers]
            if len(columns) == len(phrase):
                column = min(columns, key=lambda c: by_word.indptr[c + 1] - by_word.indptr[c])
                present[by_word.indices[by_word.indptr[column] : by_word.indptr[column + 1]]] = True
        changed = np.flatnonzero(present)
        if not len(changed):
            return self.counts
        again = _counted([without(self.tokens[int(i)], phrases) for i in changed], self.numbers)
        place = np.arange(len(self.tokens))
        place[changed] = len(place) + np.arange(len(changed))
        return sparse.vstack([self.counts, again], format="csr")[place]


def _counted(tokens: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> "sparse.csr_matrix":
    from scipy import sparse

    columns = np.array([numbers[word] for row in tokens for word in row], np.int64)
    rows = np.repeat(np.arange(len(tokens)), [len(row) for row in tokens])
    shape = (len(tokens), len(numbers))
    return sparse.coo_matrix((np.ones(len(columns)), (rows, columns)), shape=shape).tocsr()  # sums what is twice


def weighed(counts: "sparse.csr_matrix") -> "sparse.csr_matrix":
    """(N, V) each prompt's words by how often it has them and how few others do (tf-idf, sublinear), of length 1."""
    n, found = counts.shape[0], counts.tocsr(copy=True)
    rarity = np.log((1 + n) / (1 + found.getnnz(axis=0))) + 1
    found.data = (1 + np.log(found.data)) * rarity[found.indices]
    length = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
    found.data /= np.repeat(np.maximum(length, 1e-9), np.diff(found.indptr))
    return found
