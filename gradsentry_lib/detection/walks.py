"""Sets of rows that change a row at a time, and their statistic: what multilevel splitting (tails.py) moves on."""

from typing import Protocol

import numpy as np

from gradsentry_lib.detection.statistics import Kernels, among, times, value


class Walk(Protocol):
    """B sets of n rows, `sets` (B, n), and their statistic, `said` (B,)."""

    sets: np.ndarray
    said: np.ndarray

    def moved(self, which: np.ndarray, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        """(R,) the statistic after each of the sets `which` (R,) has the row `new`, not yet in it, at `place`."""

    def move(self, which: np.ndarray, place: np.ndarray, new: np.ndarray, now: np.ndarray) -> None:
        """Makes the change in these sets; `now`: their statistic after it."""

    def keep(self, kept: np.ndarray) -> None:
        """Goes on with copies of the sets `kept` (B,)."""


def walk(statistic: str, kernels: Kernels, chance: np.ndarray, nearest: int, sets: np.ndarray) -> Walk:
    if statistic == "scan":
        return ScanWalk(kernels["span"], nearest, sets)
    return QuadraticWalk(kernels[statistic], chance, sets, value(statistic, kernels, sets, chance, nearest))


class QuadraticWalk:
    """A quadratic form: a change costs the links of the row that goes and of the one that comes."""

    def __init__(self, kernel: np.ndarray, chance: np.ndarray, sets: np.ndarray, said: np.ndarray) -> None:
        self.kernel, self.sets, self.said = kernel, sets.copy(), said
        self.expected = times(kernel, chance)

    def moved(self, which: np.ndarray, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        sets, old = self.sets[which], self.sets[which, place]
        total = _links(self.kernel, sets, new).sum(1) - _links(self.kernel, sets, old).sum(1) - self.kernel[new, old]
        return self.said[which] + 2 * (total - self.expected[new] + self.expected[old])

    def move(self, which: np.ndarray, place: np.ndarray, new: np.ndarray, now: np.ndarray) -> None:
        self.sets[which, place] = new
        self.said[which] = now

    def keep(self, kept: np.ndarray) -> None:
        self.sets, self.said = self.sets[kept], self.said[kept]


class ScanWalk:
    """The scan: of every row of a set the largest links to the others are kept, one more than counts, so that a change
    of one row costs one link of each; they are looked for again in those rows of a set that a change concerns."""

    def __init__(self, links: np.ndarray, nearest: int, sets: np.ndarray) -> None:
        self.links, self.sets = links, sets.copy()
        self.counted = min(nearest, sets.shape[1] - 1)
        self.among = among(links, sets)
        largest = self._largest(self.among)
        self.sums = largest[:, :, :-1].sum(2)  # (B, n) of those that count,
        self.least, self.spare = largest[:, :, -2].copy(), largest[:, :, -1].copy()  # the last of them, and the next
        self.said = self._mean(self.sums)

    def moved(self, which: np.ndarray, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        gone, come = self.among[which, place], self._come(which, place, new)
        least, spare = self.least[which], self.spare[which]
        more = np.where(gone >= least, np.maximum(come, spare) - gone, np.maximum(come - least, 0))
        sums = self.sums[which] + more
        sums[np.arange(len(which)), place] = self._largest(come)[:, :-1].sum(1)
        return self._mean(sums)

    def move(self, which: np.ndarray, place: np.ndarray, new: np.ndarray, now: np.ndarray) -> None:
        gone, come = self.among[which, place], self._come(which, place, new)
        changed = np.maximum(gone, come) >= self.spare[which]
        changed[np.arange(len(which)), place] = True
        self.among[which, :, place] = come
        self.among[which, place, :] = come
        self.sets[which, place] = new
        self.said[which] = now
        at, line = np.nonzero(changed)
        largest = self._largest(self.among[which[at], line])
        self.sums[which[at], line] = largest[:, :-1].sum(1)
        self.least[which[at], line], self.spare[which[at], line] = largest[:, -2], largest[:, -1]

    def keep(self, kept: np.ndarray) -> None:
        self.sets, self.said, self.among = self.sets[kept], self.said[kept], self.among[kept]
        self.sums, self.least, self.spare = self.sums[kept], self.least[kept], self.spare[kept]

    def _come(self, which: np.ndarray, place: np.ndarray, new: np.ndarray) -> np.ndarray:
        """(R, n) the links of these sets' rows to `new`, its own to itself at its place."""
        come = _links(self.links, self.sets[which], new)
        come[np.arange(len(which)), place] = self.links[new, new]
        return come

    def _mean(self, sums: np.ndarray) -> np.ndarray:
        return np.asarray(sums.sum(1) / (sums.shape[1] * self.counted))

    def _largest(self, links: np.ndarray) -> np.ndarray:
        """The largest of the last axis, as many as count and one more, in descending order."""
        first = links.shape[-1] - self.counted - 1
        return -np.sort(-np.partition(links, first, axis=-1)[..., first:].astype(np.float64), axis=-1)


def _links(kernel: np.ndarray, sets: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(R, n) of each set's rows to one row, row: (R,)."""
    return kernel.ravel().take(sets + (row * len(kernel))[:, None])
