"""What a filter is: samples and a loaded model in, a score and a flag a sample out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.model import ScoringModel

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Filtered:
    """`scores`: (N,) float64, higher is more suspect. `flags`: (N,) bool, what the filter would remove."""

    scores: np.ndarray
    flags: np.ndarray


Filter = Callable[[Sequence[Sample], ScoringModel, int, Progress | None], Filtered]
