"""Which carriers of a proven feature behave unlike rows that could as well have carried it: two groups.

A carrier's place is the share of drawn rows at least as near to the carriers as it is. Honest carriers lie among them
evenly; their share is Storey's estimate from the far ones; what is left is cut at a false discovery rate.
"""

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.distributions import last_ranks


def members(near: np.ndarray, carriers: np.ndarray, drawn: np.ndarray, config: DetectionConfig) -> np.ndarray:
    """Carriers to flag, in order. near: (N,); drawn: (N,) how often each row is drawn, carriers included."""
    far = config.computing.far
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
    honest = min(1.0, (1 + (place > far).sum()) / ((1 - far) * len(carriers)))
    rank = last_ranks(place)
    last_first = np.argsort(-place, kind="stable")
    q = np.empty(len(carriers))
    q[last_first] = np.minimum.accumulate((honest * place * len(carriers) / rank)[last_first])
    return carriers[q <= config.rows]
