"""Sets of rows that change a row at a time, and their statistic: what multilevel splitting (tails.py) moves on."""

from typing import Protocol

import numpy as np

from gradsentry_lib.detection.statistics import Kernels, largest, times, value


class Walk(Protocol):
    """B sets of n rows, `sets` (B, n), and their statistic, `said` (B,)."""

    sets: np.ndarray
    said: np.ndarray

    def move(self, level: float, place: np.ndarray, new: np.ndarray) -> None:
        """Tries S steps with each set, place, new: (S, B): the row `new` at that place, if it is not in the set yet and
        the statistic stays at `level` at least."""

    def keep(self, kept: np.ndarray) -> None:
        """Goes on with copies of the sets `kept` (B,)."""


def walk(statistic: str, kernels: Kernels, chance: np.ndarray, nearest: int, sets: np.ndarray) -> Walk:
    if statistic == "scan":
        return ScanWalk(kernels["span"], nearest, sets)
    return QuadraticWalk(kernels[statistic], chance, sets, value(statistic, kernels, sets, chance, nearest))


class QuadraticWalk:
    """A quadratic form: a change costs the links of the row that goes and of the one that comes."""

    def __init__(self, kernel: np.ndarray, chance: np.ndarray, sets: np.ndarray, said: np.ndarray) -> None:
        self.kernel, self.sets, self.said = kernel, sets.astype(np.uint32), said
        self.expected = times(kernel, chance)

    def move(self, level: float, place: np.ndarray, new: np.ndarray) -> None:
        from gradsentry_lib.detection.loops import move_quadratic

        move_quadratic(self.kernel, self.expected, level, place, new, self.sets, self.said)

    def keep(self, kept: np.ndarray) -> None:
        self.sets, self.said = self.sets[kept], self.said[kept]


class ScanWalk:
    """The scan: of every row of a set the largest links to the others are kept, one more than counts, so that a change
    of one row costs one link of each; they are looked for again in those rows of a set that a change concerns."""

    def __init__(self, links: np.ndarray, nearest: int, sets: np.ndarray) -> None:
        self.links, self.sets, self.counted = links, sets.astype(np.uint32), min(nearest, sets.shape[1] - 1)
        self.sums, self.least, self.spare = largest(links, self.sets, self.counted)
        self.said = self.sums.sum(1) / (sets.shape[1] * self.counted)

    def move(self, level: float, place: np.ndarray, new: np.ndarray) -> None:
        from gradsentry_lib.detection.loops import move_scan

        kept = self.sets, self.sums, self.least, self.spare, self.said
        move_scan(self.links, self.counted, level, place, new, *kept)

    def keep(self, kept: np.ndarray) -> None:
        self.sets, self.said = self.sets[kept], self.said[kept]
        self.sums, self.least, self.spare = self.sums[kept], self.least[kept], self.spare[kept]
