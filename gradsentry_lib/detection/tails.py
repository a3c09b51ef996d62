"""Honest p-values where there are few rows or few draws.

Where enough draws are at least as extreme, they are counted. Beyond, a gamma distribution with the draws' mean, spread
and skewness carries the tail, and whatever it calls proven is looked at again by splitting (`reaches`), which fits
nothing: answers that come in cliques have tails that no gamma has. Two things it may never say: less than the draws
have shown, and less than the carriers' own chance to be drawn. The second is exact: the observed set is one of those
that are at least as extreme as itself. So three rows of 150 can't prove more than one in C(150, 3), however alike their
answers are.
"""

from typing import TYPE_CHECKING

import numpy as np

from gradsentry_lib.detection.config import Computing
from gradsentry_lib.detection.distributions import log_sf_gamma, log_sf_normal

if TYPE_CHECKING:
    from gradsentry_lib.detection.walks import Walk

ENOUGH = 20  # draws at least as extreme, from which on counting them is exact enough: no level is that near
NONE = 3.0  # of so many seen with a chance of 1 in 20 where none was seen at all ("rule of three")
ROUNDED = 1e-6  # what sums may differ by that were made in another order
SKEWED = 0.05  # below this skewness a normal tail does


def log10_tail(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(V,) log10 of the chance of at least each value, under draws `null`: (B,)."""
    values, null = np.atleast_1d(np.asarray(values, float)), np.sort(np.asarray(null, float))
    mean, spread = null.mean(), null.std() + 1e-12
    skew = float(((null - mean) ** 3).mean() / spread**3)
    if skew < SKEWED:
        fitted = log_sf_normal((values - mean) / spread)
    else:
        shape, scale = 4 / skew**2, spread * skew / 2
        fitted = log_sf_gamma(values - (mean - shape * scale), shape, scale)
    above = len(null) - np.searchsorted(null, values, side="left")
    counted = np.log((above + 1) / (len(null) + 1))
    beyond = np.where(above > 0, np.maximum(fitted, counted), fitted)
    return np.where(above >= ENOUGH, counted, beyond) / np.log(10)


def reaches(
    observed: float, bar: float, walk: "Walk", odds: np.ndarray, rng: np.random.Generator, computing: Computing
) -> bool:
    """Whether the chance of at least `observed` is at most 10 ** bar, by multilevel splitting (Kahn and Harris 1951).

    The upper fifth of the sets are kept, copied and moved on (one row of a set for another one at a time, by the odds,
    never back below the level), then the upper fifth of those, and so on: each level is a fifth as likely as the last.
    Where no set comes beyond a level, what lies there is at most 3 in as many as were seen at that level. Large sets
    are not moved as a whole between two levels; that makes the estimate less sure, not other.
    walk: B drawn sets and their statistic; odds: (N,) log odds by which they were drawn.
    """
    (count, size), observed = walk.sets.shape, observed - ROUNDED
    split, cumulated = computing.split, np.cumsum(np.exp(odds - odds.max()))
    reached, tries, seen = 0.0, 0, set[bytes]()
    while reached > bar:
        beyond = float((walk.said >= observed).mean())
        if beyond >= split:
            return reached + float(np.log10(beyond)) <= bar
        level = np.sort(walk.said)[-int(split * count)]
        above = walk.said >= level
        if above.mean() > 2 * split:  # many sets are alike: what lies beyond them
            above = walk.said > level
        if above.any():
            reached, tries, seen = reached + float(np.log10(above.mean())), 0, set()
            if reached <= bar:
                break  # wherever the sets move on to
            level = walk.said[above].min() - ROUNDED
            walk.keep(rng.choice(np.flatnonzero(above), count))
        elif (tries := tries + 1) > computing.tries:
            return reached + float(np.log10(NONE / len(seen))) <= bar
        steps = [
            (rng.integers(0, size, count), rng.random(count) * cumulated[-1])
            for _ in range(computing.moves * min(size, computing.large))
        ]
        place, drawn = (np.array(part) for part in zip(*steps, strict=True))
        new = np.minimum(np.searchsorted(cumulated, drawn, side="right"), len(odds) - 1)
        walk.move(level, place.astype(np.uint32), new.astype(np.uint32))
        seen.update(row.tobytes() for row in np.sort(walk.sets, axis=1))
    return True


def log10_floor(chance: np.ndarray, carriers: np.ndarray, *same: np.ndarray) -> float:
    """log10 of the chance to draw just these carriers, those of one question or one row counted once (same: (N,) each).

    chance: (N,) each row's chance to carry the feature. Sets of one size, drawn with a probability proportional to
    the product of the odds: the chance of the set is a product over all rows, divided by the chance of its size,
    which is normal enough around its mean.
    """
    drawn = carriers
    for group in same:
        drawn = drawn[np.unique(group[drawn], return_index=True)[1]]
    p = scaled(chance, len(drawn))
    out = np.ones(len(p), bool)
    out[drawn] = False
    alone = np.log(p[drawn]).sum() + np.log1p(-p[out]).sum()
    size = -0.5 * np.log(2 * np.pi * max((p * (1 - p)).sum(), 1 / (2 * np.pi)))
    return float(min(alone - size, 0) / np.log(10))


def scaled(chance: np.ndarray, count: int) -> np.ndarray:
    """(N,) chances of the same odds, up to one factor, that add up to `count`."""
    odds = np.log(np.clip(chance, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(chance, 1e-6, 1 - 1e-6))
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(odds + middle)))).sum() < count:
            low = middle
        else:
            high = middle
    return np.clip(1 / (1 + np.exp(-(odds + low))), 1e-9, 1 - 1e-9)
