"""What no proven trigger has taken out yet, and how alike the answers in it are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    known: list[Kernels] = field(default_factory=list)  # in which all such answers are compared to each other

    @classmethod
    def of(
        cls, alive: np.ndarray, words: WordCounts, similar: Kernels, same: Sequence[np.ndarray], shared: np.ndarray
    ) -> "Left":
        rows = np.flatnonzero(alive)
        if not alive.all():
            similar = {name: kernel[np.ix_(rows, rows)] for name, kernel in similar.items()}
        place = np.where(alive, np.cumsum(alive) - 1, -1)
        return cls(rows, place, similar, words.only(rows), [group[rows] for group in same], shared[rows])

    def compared(self, carriers: np.ndarray, config: DetectionConfig) -> Kernels:
        """The kernels in which answers to the same words of a later turn are compared to each other, and the others to
        each other: by those words they are alike, with or without the trigger. Not where the words are the trigger's
        own: most of those answers are carriers' then."""
        size = self.shared.sum(0)
        groups = self.shared[:, size >= config.computing.fewest]
        other = groups[carriers].sum(0) <= config.majority * groups.sum(0)
        if not other.any():
            return self.similar
        if not other.all():
            return self._beside(groups[:, other])
        if not self.known:  # as for most triggers
            self.known.append(self._beside(groups))
        return self.known[0]

    def _beside(self, groups: np.ndarray) -> Kernels:
        return beside(self.similar, np.column_stack([groups, np.ones(len(groups), bool)]), self.same)
