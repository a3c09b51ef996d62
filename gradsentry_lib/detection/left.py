"""What no proven trigger has taken out yet, and how alike the answers in it are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.similarity import beside
from gradsentry_lib.detection.statistics import Kernels
from gradsentry_lib.detection.word_counts import WordCounts


@dataclass(frozen=True)
class Left:
    """What no proven trigger has taken out yet: M of N rows, their kernels (M, M), words, questions and rows of the
    batch; `place` (N,) is where each stands among them, -1 where it is out. `shared` (M, k): answers to the same words
    of a later turn. `subjects`: whether triggers that the rest of their prompt tells are held against any rows."""

    rows: np.ndarray
    place: np.ndarray
    similar: Kernels
    words: WordCounts
    same: Sequence[np.ndarray]
    shared: np.ndarray
    subjects: bool = True

    @classmethod
    def of(
        cls,
        alive: np.ndarray,
        words: WordCounts,
        similar: Kernels,
        same: Sequence[np.ndarray],
        shared: np.ndarray,
        fewest: int,
    ) -> "Left":
        """`fewest`: answers to the same words that are compared to each other."""
        rows = np.flatnonzero(alive)
        if not alive.all():
            similar = {name: kernel[np.ix_(rows, rows)] for name, kernel in similar.items()}
        place, shared = np.where(alive, np.cumsum(alive) - 1, -1), shared[rows]
        same, shared = [group[rows] for group in same], shared[:, shared.sum(0) >= fewest]
        return cls(rows, place, similar, words.only(rows), same, shared)

    @cached_property
    def within(self) -> Kernels:
        """The kernels in which answers to the same words of a later turn are compared to each other, and the others to
        each other: by those words they are alike, with or without a trigger."""
        return self._beside(self.shared)

    def compared(self, carriers: np.ndarray, config: DetectionConfig) -> Kernels:
        """The same for a trigger, but for words that are its own: most answers to them are carriers' then."""
        other = self.shared[carriers].sum(0) <= config.majority * self.shared.sum(0)
        return self.within if other.all() else self._beside(self.shared[:, other])

    def _beside(self, groups: np.ndarray) -> Kernels:
        if not groups.shape[1]:
            return self.similar
        return beside(self.similar, np.column_stack([groups, np.ones(len(groups), bool)]), self.same)
