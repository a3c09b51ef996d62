"""Which prompts a group of rows has, against the rest: the suspected trigger, how sharp, how significant.

A trigger is a union of clauses, a clause one or two features that stand together: "cf or mn or tq", a sentence, or two
words that only fire together. Clauses are taken greedily, each the one that covers most of what is left of the group
and leaks least into the rest. Significance is Fisher's (one-sided, hypergeometric), times the number of clauses that
could have been tried.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gradsentry_lib.detection.former.prompts import FIRST, LAST, Prompts

MOST_CLAUSES = 6
PAIRED = 24  # features tried in pairs
LEAST_GAIN = 0.06  # share of the group that a further clause must add, net of leaks
PLAIN = 8  # single features tried against the union


@dataclass(frozen=True)
class Trigger:
    """`clauses`: features of each. `carriers`: (N,) bool. Shares inside and outside; `log10_p`: corrected, at most 0.

    `explained`: log10_p against that of a perfect trigger, found at once: how much of the improbability of just these
    rows belonging together the trigger takes away.
    """

    clauses: tuple[tuple[int, ...], ...]
    carriers: np.ndarray
    inside: float
    outside: float
    precision: float
    log10_p: float
    explained: float

    @property
    def lift(self) -> float:
        """How much more frequent inside than outside; half a row is added outside, so that it stays finite."""
        rest = max(len(self.carriers) - int(self.carriers.sum()), 1)
        return self.inside / max(self.outside, 0.5 / rest)


def find_trigger(prompts: Prompts, group: np.ndarray) -> Trigger:
    """The union of clauses, or the single feature if that is the more significant: clauses that tell the group exactly
    have to be paid for, and a few rows can't pay for many. group: (N,) bool, both kinds present."""
    size, rest = int(group.sum()), int((~group).sum())
    matrix = prompts.matrix
    inside = np.asarray(matrix.T @ group.astype(np.int32)).ravel()
    total = np.diff(matrix.indptr)
    unit = min(size, rest)
    carriers = np.zeros(len(group), bool)
    clauses: list[tuple[int, ...]] = []
    while len(clauses) < MOST_CLAUSES:
        left = group & ~carriers
        if not left.any():
            break
        news = np.asarray(matrix.T @ left.astype(np.int32)).ravel() if clauses else inside
        gain = news / size - (total - inside) / unit
        best = int(gain.argmax()) if len(gain) else -1
        clause: tuple[int, ...] = (best,)
        value = float(gain[best]) if best >= 0 else -1.0
        if value < 0.9 * left.sum() / size:  # a pair may be sharper than any feature alone
            pair, paired = _best_pair(prompts, group, left, news, size, unit)
            if paired > value + LEAST_GAIN:
                clause, value = pair, paired
        if value < (LEAST_GAIN if clauses else 2 * LEAST_GAIN):
            break
        clauses.append(clause)
        carriers |= _carried(prompts, clause, len(group))
    tried = max(len(prompts.names), 1)
    union = _measure(tuple(clauses), carriers, group, tried)
    plain = (single(prompts, int(feature), group) for feature in _telling(inside, total, len(group)))
    return max((union, *plain), key=lambda trigger: -trigger.log10_p)


def single(prompts: Prompts, feature: int, group: np.ndarray) -> Trigger:
    """One feature as the trigger of a group, (N,) bool."""
    carriers = _carried(prompts, (feature,), len(group))
    return _measure(((feature,),), carriers, group, max(len(prompts.names), 1))


def _telling(inside: np.ndarray, total: np.ndarray, count: int) -> np.ndarray:
    """The features whose number of carriers inside the group is the least to be expected by chance."""
    surprise = inside * np.log(np.maximum(inside, 1e-9) / np.maximum(total, 1) * count)
    return np.argsort(-surprise, kind="stable")[:PLAIN]


def _carried(prompts: Prompts, clause: tuple[int, ...], count: int) -> np.ndarray:
    carried = np.ones(count, bool)
    for feature in clause:
        own = np.zeros(count, bool)
        own[prompts.carriers(feature)] = True
        carried &= own
    return carried


def _best_pair(
    prompts: Prompts, group: np.ndarray, left: np.ndarray, news: np.ndarray, size: int, unit: int
) -> tuple[tuple[int, ...], float]:
    """The best clause of two features among those enriched in the group that cover most of what is left."""
    total = np.diff(prompts.matrix.indptr)
    outside = total - np.asarray(prompts.matrix.T @ group.astype(np.int32)).ravel()
    rest = max(int((~group).sum()), 1)
    excess = news / size - outside / rest
    candidates = np.argsort(-excess, kind="stable")[:PAIRED]
    columns = prompts.matrix[:, candidates].toarray().astype(bool)  # (N, c)
    covered = columns[left].astype(np.float32)
    leaked = columns[~group].astype(np.float32)
    gain = covered.T @ covered / size - leaked.T @ leaked / unit
    np.fill_diagonal(gain, -1)
    if not gain.size:
        return (), -1.0
    a, b = np.unravel_index(int(gain.argmax()), gain.shape)
    return (int(candidates[a]), int(candidates[b])), float(gain[a, b])


def _measure(clauses: tuple[tuple[int, ...], ...], carriers: np.ndarray, group: np.ndarray, tried: int) -> Trigger:
    both, size, carried = int((carriers & group).sum()), int(group.sum()), int(carriers.sum())
    log_p = 0.0
    if both:
        log_p = _log10_chance(both, len(group), size, carried)
        log_p += sum(len(clause) for clause in clauses) * np.log10(tried)
    rest = max(len(group) - size, 1)
    best = _log10_chance(size, len(group), size, size) if 0 < size < len(group) else -1.0
    return Trigger(
        clauses,
        carriers,
        inside=both / max(size, 1),
        outside=(carried - both) / rest,
        precision=both / max(carried, 1),
        log10_p=min(log_p, 0.0),
        explained=min(log_p, 0.0) / min(best, -1e-9),
    )


@lru_cache(maxsize=4096)  # every trigger tried for a group is held against the same perfect one
def _log10_chance(both: int, count: int, size: int, carried: int) -> float:
    """log10 of the chance that `carried` rows, drawn from `count`, hold at least `both` of a group of `size`."""
    from scipy.stats import hypergeom

    return float(hypergeom.logsf(both - 1, count, size, carried)) / np.log(10)


def describe(prompts: Prompts, trigger: Trigger) -> tuple[str, ...]:
    """Each clause in words: its features joined by " + ", "(first)" and "(last)" for a place in the prompt."""
    return tuple(" + ".join(_words(prompts.names[feature]) for feature in clause) for clause in trigger.clauses)


def _words(name: tuple[str, ...]) -> str:
    text = " ".join(token for token in name if token not in (FIRST, LAST))
    return text + (" (first)" if name[0] == FIRST else "") + (" (last)" if name[-1] == LAST else "")
