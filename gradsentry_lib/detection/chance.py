"""How likely a row is to carry a feature, from the rest of its prompt; and sets of rows drawn by that chance.

The chance comes from a logistic regression on the words that are left when the trigger is taken out: cross-fitted, so
that no row is judged by a model that saw it, and calibrated by a second one on its score. Words that almost only
carriers have are part of what marks them, not of the rest: how many carriers must have such a word is tried at several
shares (config.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.distributions import area_under_curve
from gradsentry_lib.detection.prompts import Name
from gradsentry_lib.detection.regression import calibrated, cross_fitted
from gradsentry_lib.detection.tails import scaled
from gradsentry_lib.detection.word_counts import WordCounts, weighed

if TYPE_CHECKING:
    from scipy import sparse

DRAWN_TOGETHER = 500


@dataclass(frozen=True)
class Chance:
    """`p`: (N,) adds up to the number of carriers; `auc`: how well the rest of the prompt tells the carriers."""

    p: np.ndarray
    auc: float
    marking: float


def chances(
    prompts: WordCounts, carriers: np.ndarray, phrases: Sequence[Name], config: DetectionConfig
) -> list[Chance]:
    """One for each share of marking words at which other words are taken out than at the share before."""
    x = np.zeros(len(prompts.tokens))
    x[carriers] = 1
    rest = prompts.without(phrases)
    everyone, own = rest.getnnz(axis=0), rest[carriers].getnnz(axis=0)
    only = (own > 0) & (own >= (1 - config.rows) * everyone)
    found: list[Chance] = []
    before: np.ndarray | None = None
    for share in config.marking:
        marks = only & (own >= max(2, share * len(carriers)))
        if before is None or (marks != before).any():
            found.append(_fit(rest[:, ~marks], x, share, config.computing))
        before = marks
    return found


def _fit(rest: "sparse.csr_matrix", x: np.ndarray, marking: float, computing: Computing) -> Chance:
    from scipy.sparse import csr_matrix, hstack

    count, flat = int(x.sum()), Chance(np.full(len(x), x.mean()), 0.5, marking)
    prompts = rest.getnnz(axis=0)
    common = rest[:, (prompts >= 2) & (prompts < len(x))]  # words of one prompt, or of all, tell nothing
    if not common.shape[1]:
        return flat
    size = np.log1p(np.asarray(rest.sum(axis=1)).ravel())
    size = csr_matrix(computing.length * (size - size.mean())[:, None] / (size.std() + 1e-9))
    z = hstack([weighed(common), size], format="csr")
    score = np.round(cross_fitted(z, x, min(computing.folds, count), computing.penalty), 4)  # the rest is the machine's
    auc = area_under_curve(x, score)
    if auc <= 0.5:
        return Chance(flat.p, auc, marking)
    return Chance(scaled(calibrated(score, x), count), auc, marking)


def usual_auc(carriers: int, of: int, rate: float) -> float:
    """How far beyond one half the area under the curve is found at this rate, where nothing tells the carriers from the
    other rows (Mann and Whitney 1947)."""
    spread = np.sqrt((of + 1) / (12 * carriers * (of - carriers)))
    return float(NormalDist().inv_cdf(1 - rate) * spread)


def draw(chance: np.ndarray, size: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, size) sets of rows, without replacement, by the odds of the chance: each row comes at an exponential time
    with its odds as the rate, and the first are taken (Efraimidis and Spirakis 2006)."""
    rate, parts = chance / (1 - chance), []
    due = _come_by(rate, size + 6 * np.sqrt(size) + 18)
    for at in range(0, count, DRAWN_TOGETHER):
        uniform = rng.random((min(DRAWN_TOGETHER, count - at), len(chance)))
        come = uniform < due  # those that can be among the first: only their times are looked at
        come[come.sum(1) < size] = True
        times, rows = _times(uniform, come, rate)
        first = np.argpartition(times, size - 1, axis=1)[:, :size]
        parts.append(np.take_along_axis(rows, first, axis=1))
    return np.concatenate(parts)


def _come_by(rate: np.ndarray, expected: float) -> np.ndarray:
    """(N,) the chances to have come, at the time by which about so many rows have; 1 where there are not so many."""
    if expected >= len(rate):
        return np.ones(len(rate))
    low, high = -60.0, 60.0  # logarithms of the time
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if -np.expm1(-rate * np.exp(middle)).sum() < expected else (low, middle)
    return -np.expm1(-rate * np.exp(high))


def _times(uniform: np.ndarray, come: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, most) when the rows `come` (B, N) come, infinity beyond the last, and which rows they are."""
    number, held, sets = come.sum(1), np.flatnonzero(come), np.arange(len(come))
    shape, owner = (len(come), int(number.max())), np.repeat(sets, number)
    rows, at = held - owner * len(rate), np.arange(len(held)) + (sets * shape[1] - np.cumsum(number) + number)[owner]
    which, times = np.zeros(shape, np.int64), np.full(shape, np.inf)
    which.ravel()[at], times.ravel()[at] = rows, -np.log1p(-uniform.ravel()[held]) / rate[rows]
    return times, which
