"""Which carriers of a proven feature behave unlike rows that could as well have carried it: two groups.

A carrier's place is the share of drawn rows at least as near to the carriers as it is. Honest carriers lie among them
evenly; their share is Storey's estimate from the far ones; what is left is cut at a false discovery rate, and must be
half as near as most of it is, by that statistic or by spans. Of a trigger of several clauses the carriers of each are
judged by themselves, and none of them is flagged where most behave as usual: a clause that brings honest rows alone
would else hide them behind the others' poison.
"""

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.distributions import last_ranks


def members(
    near: np.ndarray,
    links: np.ndarray,
    carriers: np.ndarray,
    clause: np.ndarray,
    drawn: np.ndarray,
    config: DetectionConfig,
) -> np.ndarray:
    """Carriers to flag, in order. near, links: (N,) by the statistic that proved the trigger, and by spans; clause:
    (C,) a number for each carrier, its clause's; drawn: (N,) how often each row is drawn, carriers included."""
    out = np.ones(len(near), bool)
    out[carriers] = False
    others = np.flatnonzero(out)
    weight = drawn[others]
    if not len(others) or weight.sum() <= 0:
        return carriers[:0]
    order = np.argsort(-near[others], kind="stable")
    above = np.concatenate([[0], np.cumsum(weight[order]) / weight.sum()])
    place = above[np.searchsorted(-near[others][order], -near[carriers], side="right")]
    place = np.maximum(place, 1 / (len(others) + 1))
    q = np.empty(len(carriers))
    for one in np.unique(clause):
        q[clause == one] = _discovery_rates(place[clause == one], config.computing.far)
    kept = q <= config.rows
    if kept.any():  # one or two rows of a clause have no share to estimate: by chance one may lie nearer than its kind
        half = [by[carriers] >= config.majority * np.median(by[carriers[kept]]) for by in (near, links)]
        kept &= half[0] | half[1]
    for one in np.unique(clause[clause >= 0]):
        alone = clause == one
        if not alone.all() and kept[alone].mean() <= config.majority:
            kept[alone] = False
    return carriers[kept]


def _discovery_rates(place: np.ndarray, far: float) -> np.ndarray:
    """(C,) the least false discovery rate at which each is flagged (Storey 2002)."""
    honest = min(1.0, (1 + (place > far).sum()) / ((1 - far) * len(place)))
    last_first = np.argsort(-place, kind="stable")
    q = np.empty(len(place))
    q[last_first] = np.minimum.accumulate((honest * place * len(place) / last_ranks(place))[last_first])
    return q
