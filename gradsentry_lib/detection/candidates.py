"""Candidates: the few features that the first look can't dismiss, each alone, grown by clauses and as one of a pair."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import Features, turns_own, with_pairs
from gradsentry_lib.detection.groups import groups
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.similarity import beside
from gradsentry_lib.detection.statistics import Kernels, first_look, nearness
from gradsentry_lib.detection.trigger import gathered, grow, join, log10_chance, marked, paid, pair

Clauses = tuple[int, ...]


def candidates(
    features: Features, left: Left, counted: int, config: DetectionConfig
) -> tuple[Features, list[tuple[float, list[Clauses]]]]:
    """What the rows of groups share and what the first look can't dismiss, each as (its log10 p, its clauses in several
    ways: the feature alone, grown, joined with others, and as one of a pair); and the features, with those pairs. Of
    ways that mark the same rows the one of fewest runs of words is kept: the others pay more for nothing, and have more
    taken out of the prompts."""
    n, numbers = len(left.rows), {name: f for f, name in enumerate(features.names)}
    found = [_shared(features, group, n, counted, config) for group in groups(left.within, config)]
    for kernels, best in _looks(features, left, config):
        for first, statistic, f in best:
            carriers = features.carriers(f)
            near = nearness(statistic, kernels, carriers, np.full(n, len(carriers) / n), config.nearest)
            joined = join(features, near, f, [g for _, name, g in best if name == statistic], counted)
            group, both = gathered(near, config), None
            grown: Clauses = (f,)
            if group is not None:
                grown, both = grow(features, group, f, counted, config), pair(features, group, f, counted, config)
            ways = [(f,), *(tuple(sorted(clauses)) for clauses in (grown, joined))]
            if both:
                ways.append((numbers.setdefault(both, len(numbers)),))
            found.append((first, ways))
    features = with_pairs(features, list(numbers))
    fewest: dict[bytes, Clauses] = {}
    for clauses in (clauses for _, ways in found for clauses in ways):
        rows = marked(features, clauses).tobytes()
        fewest[rows] = min(fewest.get(rows, clauses), clauses, key=partial(paid, features))
    kept, asked = set(fewest.values()), []
    for first, ways in found:
        if new := [clauses for clauses in dict.fromkeys(ways) if clauses in kept]:
            asked.append((first, new))
            kept.difference_update(new)
    return features, asked


def _shared(
    features: Features, group: np.ndarray, n: int, counted: int, config: DetectionConfig
) -> tuple[float, list[Clauses]]:
    """What so many rows of a group share as chance puts it least, config.computing.behind of it, alone and grown."""
    inside = np.isin(np.arange(n), group)
    held = np.asarray(features.matrix.T @ inside.astype(np.float32)).ravel()
    several = np.flatnonzero(held > 1)
    chance = [log10_chance(int(held[f]), n, len(group), int(features.sizes[f])) for f in several]
    best = np.argsort(chance, kind="stable")[: config.computing.behind]
    grown = [tuple(sorted(grow(features, inside, int(f), counted, config))) for f in several[best]]
    ways = [way for f, wider in zip(several[best], grown, strict=True) for way in ((int(f),), wider)]
    return min(chance, default=0.0), list(dict.fromkeys(ways))


def log10_least(n: int, sizes: np.ndarray) -> np.ndarray:
    """(F,) the least p-value that a feature of each size can reach among n rows: 1 / C(n, size). Features that can't
    reach the level are not counted in the correction (Tarone 1990)."""
    from scipy.special import gammaln

    return -(gammaln(n + 1) - gammaln(sizes + 1) - gammaln(n - sizes + 1)) / np.log(10)


def _looks(
    features: Features, left: Left, config: DetectionConfig
) -> Iterator[tuple[Kernels, list[tuple[float, str, int]]]]:
    """Looks at every feature against any rows, and what each shows: (log10 p, statistic, feature). At first at those
    that are the words of a later turn which several answer to, for next to the others these answers are compared to
    each other. Where a look shows more than is taken, all that goes with what was taken is taken away, and looked
    again: a batch's subjects are told by dozens of words each, and a trigger may stand behind them all."""
    own, taken = turns_own(features, left.shared, config), list[int]()
    if len(own):
        others = np.setdiff1d(np.arange(len(features.names)), own)
        yield left.similar, _standing_out(left.similar, features, others, config.computing.tried, config)
    similar = rest = left.within
    for tried in (config.computing.tried, config.computing.behind):
        best = _standing_out(rest, features, taken, tried, config)
        yield similar, best
        if max(Counter(name for _, name, _ in best).values(), default=0) < tried:
            return
        taken = sorted({*taken, *(f for _, _, f in best)})
        rest = beside(similar, features.matrix[:, taken].toarray(), left.same)


def _standing_out(
    similar: Kernels, features: Features, passed: Sequence[int] | np.ndarray, tried: int, config: DetectionConfig
) -> list[tuple[float, str, int]]:
    """(log10 p, statistic, feature) of what a look can't dismiss, at most `tried` a statistic, the best first; of
    features with nearly the same carriers the best, and none of those that are passed by."""
    least, price = log10_least(len(similar["mean"]), features.sizes), np.log10(max(len(features.names), 1))
    found = []
    for name, values in first_look(similar, features, config, np.random.default_rng(0)).items():
        looked = np.maximum(values, least)  # what so few rows can show
        looked[passed] = 0
        taken: list[np.ndarray] = []
        for f in np.argsort(looked, kind="stable"):
            if looked[f] + price > 0 or len(taken) >= tried:
                break
            carriers = features.carriers(int(f))
            if any(alike(carriers, t, config) for t in taken):
                continue
            taken.append(carriers)
            found.append((float(looked[f]), name, int(f)))
    return sorted(found)


def alike(one: np.ndarray, other: np.ndarray, config: DetectionConfig) -> bool:
    return len(np.intersect1d(one, other)) > config.alike * len(np.union1d(one, other))


def within(some: np.ndarray, other: np.ndarray, config: DetectionConfig) -> bool:
    """Whether nearly all of some rows are of another set, and are most of it."""
    both = len(np.intersect1d(some, other))
    return both > config.alike * len(some) and both > config.majority * len(np.union1d(some, other))
