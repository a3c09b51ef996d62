"""Sets of rows that change a row at a time, and their statistic: what multilevel splitting (tails.py) moves on."""

from typing import Protocol

import numpy as np

from gradsentry_lib.detection.statistics import Kernels, value


class Walk(Protocol):
    """B sets of n rows, `sets` (B, n), and their statistic, `said` (B,)."""

    sets: np.ndarray
    said: np.ndarray

    def moved(self, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        """(B,) the statistic after each set has the row `new` at `place`."""

    def move(self, taken: np.ndarray, place: np.ndarray, new: np.ndarray, now: np.ndarray) -> None:
        """Makes the change in the sets `taken` (B,) bool; `now`: their statistic after it."""

    def keep(self, kept: np.ndarray) -> None:
        """Goes on with copies of the sets `kept` (B,)."""


def walk(statistic: str, kernels: Kernels, chance: np.ndarray, nearest: int, sets: np.ndarray) -> Walk:
    if statistic == "scan":
        return ScanWalk(kernels["span"], nearest, sets)
    return QuadraticWalk(kernels[statistic], chance, sets, value(statistic, kernels, sets, chance, nearest))


class QuadraticWalk:
    """A quadratic form: every set's sums with all rows are kept, so that a change costs one row of the kernel, however
    large the sets."""

    def __init__(self, kernel: np.ndarray, chance: np.ndarray, sets: np.ndarray, said: np.ndarray) -> None:
        self.kernel, self.sets, self.rows = kernel, sets.copy(), np.arange(len(sets))
        self.expected = kernel @ chance
        self.said = said
        inside = np.zeros((len(sets), len(kernel)))
        np.put_along_axis(inside, sets, 1, axis=1)
        self.sums = inside @ kernel

    def moved(self, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        old = self.sets[self.rows, place]
        gained = self.sums[self.rows, new] - self.kernel[new, old] - self.sums[self.rows, old]
        return self.said + 2 * (gained - self.expected[new] + self.expected[old])

    def move(self, taken: np.ndarray, place: np.ndarray, new: np.ndarray, now: np.ndarray) -> None:
        rows = self.rows[taken]
        self.sums[rows] += self.kernel[new[taken]] - self.kernel[self.sets[rows, place[taken]]]
        self.sets[rows, place[taken]] = new[taken]
        self.said[rows] = now[taken]

    def keep(self, kept: np.ndarray) -> None:
        self.sets, self.said, self.sums = self.sets[kept], self.said[kept], self.sums[kept]


class ScanWalk:
    """The scan: of every row of a set the largest links to the others are kept, one more than counts, so that a change
    of one row costs one link of each; they are looked for again where a change is made."""

    def __init__(self, links: np.ndarray, nearest: int, sets: np.ndarray) -> None:
        self.links, self.sets, self.rows = links, sets.copy(), np.arange(len(sets))
        self.counted = min(nearest, sets.shape[1] - 1)
        self.among = links[sets[:, :, None], sets[:, None, :]]  # (B, n, n)
        self.largest = self._largest(self.among)  # (B, n, counted + 1), descending
        self.said = self.largest[:, :, :-1].mean((1, 2), dtype=np.float64)

    def moved(self, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        gone, come = self.among[self.rows, :, place], self._links_to(place, new)
        sums, least, spare = self.largest[:, :, :-1].sum(2), self.largest[:, :, -2], self.largest[:, :, -1]
        sums += np.where(gone >= least, np.maximum(come, spare) - gone, np.maximum(come - least, 0))
        sums[self.rows, place] = self._largest(come)[:, :-1].sum(1)
        return sums.sum(1) / (sums.shape[1] * self.counted)

    def move(self, taken: np.ndarray, place: np.ndarray, new: np.ndarray, now: np.ndarray) -> None:
        rows, come = self.rows[taken], self._links_to(place, new)[taken]
        self.among[rows, :, place[taken]] = come
        self.among[rows, place[taken], :] = come
        self.sets[rows, place[taken]] = new[taken]
        self.largest[rows] = self._largest(self.among[rows])
        self.said[rows] = now[taken]

    def keep(self, kept: np.ndarray) -> None:
        self.sets, self.said = self.sets[kept], self.said[kept]
        self.among, self.largest = self.among[kept], self.largest[kept]

    def _links_to(self, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        """(B, n) the links of every set's rows to `new`, its own to itself at its place."""
        come = self.links[self.sets, new[:, None]]
        come[self.rows, place] = self.links[new, new]
        return come

    def _largest(self, links: np.ndarray) -> np.ndarray:
        """The largest of the last axis, as many as count and one more, in descending order."""
        first = links.shape[-1] - self.counted - 1
        return -np.sort(-np.partition(links, first, axis=-1)[..., first:].astype(np.float64), axis=-1)
