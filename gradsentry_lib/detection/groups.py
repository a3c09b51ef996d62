"""Groups of answers that are more alike than others are: where a trigger is of many words, a style, each in a few rows,
what it makes rows answer is still one thing.

A group is read from the answers alone and proves nothing: honest rows on one subject may well get one reply. It says
which features to look at together (candidates.py), and, once a trigger is proven, which rows that lack its words answer
as its rows do: whether the model sees a reason for that is asked of them by themselves (asked.py).
"""

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.statistics import Kernels, mean_of_largest


def groups(kernels: Kernels, config: DetectionConfig) -> list[np.ndarray]:
    """Groups of rows, most alike first, at most config.computing.tried. Each of a group's rows is linked to most of the
    others, and hardly any of the rows in no group (config.rows) is to rows as near: where answers come in groups
    anyway, as labels do, there is none."""
    links, found = kernels["span"], list[np.ndarray]()
    near = _nearest(links, config)
    free = np.ones(len(links), bool)  # in no group yet
    for row in np.argsort(-near, kind="stable"):
        if not free[row] or not near[row] or len(found) >= config.computing.tried:
            continue
        group = _around(links, near, int(row), config)
        if not config.nearest < len(group) <= config.majority * len(links) or not free[group].all():
            continue
        others = np.setdiff1d(np.flatnonzero(free), group)
        if not len(others):
            break  # all the others are in groups: such are all answers here
        as_near = _nearest(links[np.ix_(others, others)], config) >= config.alike * np.median(near[group])
        if as_near.mean() > config.rows:
            break
        free[group] = False
        found.append(group)
    return found


def kin(flagged: np.ndarray, groups: list[np.ndarray], config: DetectionConfig) -> np.ndarray:
    """Rows that answer as a proven trigger's do: those of groups of which most are flagged that are not."""
    near = [group for group in groups if np.isin(group, flagged).mean() >= config.majority]
    return np.setdiff1d(np.concatenate(near), flagged) if near else flagged[:0]


def akin(some: np.ndarray, attack: np.ndarray, others: np.ndarray, kernel: np.ndarray, config: DetectionConfig) -> bool:
    """Whether some rows answer more as those of a proven attack do than others: how near they are to these, by a
    kernel, as a rank test (Mann and Whitney) at config.rows. Numbers of rows."""
    from scipy.stats import mannwhitneyu

    if not len(others):
        return True
    count = min(config.nearest, len(attack))
    near, usual = (mean_of_largest(kernel[np.ix_(rows, attack)], count) for rows in (some, others))
    return bool(mannwhitneyu(near, usual, alternative="greater").pvalue <= config.rows)


def told(attack: np.ndarray, others: np.ndarray, kernel: np.ndarray, config: DetectionConfig) -> bool:
    """Whether an attack's rows can be told from others one by one: hardly any of these (config.rows) is as near to them
    as config.consistent of them are to each other. Where not, a few rows that are no nearer than others say nothing."""
    near, usual = (
        mean_of_largest(kernel[np.ix_(rows, attack)], min(config.nearest, len(attack))) for rows in (attack, others)
    )
    return bool((usual >= np.quantile(near, 1 - config.consistent)).mean() <= config.rows) if len(others) else True


def _nearest(links: np.ndarray, config: DetectionConfig) -> np.ndarray:
    """(N,) how near each row is to its nearest."""
    return mean_of_largest(links, min(config.nearest, len(links)))


def _around(links: np.ndarray, near: np.ndarray, row: int, config: DetectionConfig) -> np.ndarray:
    """Rows that are linked to a row, then those linked to most of these, until they stay the same: by a link of
    config.alike of what they have to their nearest (near: (N,))."""
    group = np.union1d(np.flatnonzero(links[row] >= config.alike * near[row]), [row])
    for _ in range(config.nearest):
        if len(group) <= config.nearest:
            break
        linked = (links[:, group] >= config.alike * np.median(near[group])).sum(1)  # a row has no link to itself
        new = np.flatnonzero(linked > config.majority * (len(group) - np.isin(np.arange(len(links)), group)))
        if np.array_equal(new, group):
            break
        group = new
    return group
