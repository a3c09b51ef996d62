"""How good a filter is, in figures.

Positive = poisoned. Where a figure is undefined (no poisoned rows, no clean rows, no pairs) it is NaN, never a guess.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score, roc_curve

from gradsentry_lib.detection.distributions import area_under_curve


@dataclass(frozen=True)
class Measures:
    """`recall`, `precision`, `f1`: of the flags. `clean_kept`: share of clean rows not flagged. `auc`, recalls at
    a false positive rate: of the scores, whatever the threshold. `auc_equal_length`: AUC over pairs of a poisoned and a
    clean row with the same number of supervised tokens, `equal_length_pairs` of them; it says what is left of a score
    when length is no help. `rows`, `poisoned`, `flagged`: counts."""

    rows: int
    poisoned: int
    flagged: int
    recall: float
    precision: float
    f1: float
    clean_kept: float
    auc: float
    recall_at_fpr1: float
    recall_at_fpr5: float
    auc_equal_length: float
    equal_length_pairs: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values: NaN becomes None."""
        return {name: none_if_nan(value) for name, value in asdict(self).items()}


def none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def measure(labels: np.ndarray, scores: np.ndarray, flags: np.ndarray, lengths: np.ndarray) -> Measures:
    """All figures of one filter on one data set.

    `labels`: (N,) bool, poisoned. `scores`: (N,), higher is more suspect; what could not be scored (NaN) counts as most
    suspect, as it does in production. `flags`: (N,) bool. `lengths`: (N,) supervised tokens.
    """
    labels, flags = np.asarray(labels, bool), np.asarray(flags, bool)
    scores = rank_safe(scores)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, flags, average="binary", pos_label=True, zero_division=np.nan
    )
    both = labels.any() and not labels.all()
    equal, pairs = equal_length_auc(labels, scores, lengths)
    return Measures(
        rows=labels.size,
        poisoned=int(labels.sum()),
        flagged=int(flags.sum()),
        recall=float(recall) if labels.any() else math.nan,
        precision=float(precision),
        f1=float(f1) if labels.any() else math.nan,
        clean_kept=float(1 - flags[~labels].mean()) if not labels.all() else math.nan,
        auc=float(roc_auc_score(labels, scores)) if both else math.nan,
        recall_at_fpr1=recall_at_fpr(labels, scores, 0.01),
        recall_at_fpr5=recall_at_fpr(labels, scores, 0.05),
        auc_equal_length=equal,
        equal_length_pairs=pairs,
    )


def rank_safe(scores: np.ndarray) -> np.ndarray:
    """(N,) finite float64 in the same order, NaN above all: sklearn refuses NaN and infinities."""
    scores = np.where(np.isnan(scores), np.inf, np.asarray(scores, dtype=np.float64))
    return np.unique(scores, return_inverse=True)[1].astype(np.float64)


def recall_at_fpr(labels: np.ndarray, scores: np.ndarray, limit: float) -> float:
    """The highest recall of any threshold on `scores` whose false positive rate is at most `limit`."""
    if not labels.any() or labels.all():
        return math.nan
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(tpr[fpr <= limit].max())


def equal_length_auc(labels: np.ndarray, scores: np.ndarray, lengths: np.ndarray) -> tuple[float, int]:
    """(share of pairs of equal length in which the poisoned row scores higher, ties a half; number of pairs)."""
    won, pairs = 0.0, 0
    for length in np.unique(lengths[labels]):
        poisoned = scores[labels & (lengths == length)]
        clean = scores[~labels & (lengths == length)]
        difference = poisoned[:, None] - clean[None]
        won += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        pairs += difference.size
    return (won / pairs if pairs else math.nan), pairs


def bootstrap_interval(
    figure: Callable[..., float], *columns: np.ndarray, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of `figure(*columns)`: rows are drawn with replacement, all columns together.

    Draws in which the figure is undefined are left out; (NaN, NaN) where that is all of them.
    """
    rng = np.random.default_rng(seed)
    count = len(columns[0])
    values = [figure(*(column[picked] for column in columns)) for picked in rng.integers(0, count, (draws, count))]
    kept = np.asarray([value for value in values if not math.isnan(value)])
    if not kept.size:
        return math.nan, math.nan
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def f1_of(labels: np.ndarray, flags: np.ndarray) -> float:
    """F1 of the flags; NaN without a poisoned row."""
    hits = float((labels & flags).sum())
    return 2 * hits / float(labels.sum() + flags.sum()) if labels.any() else math.nan


def auc_of(labels: np.ndarray, scores: np.ndarray) -> float:
    """AUC of the scores by the rank sum (thirty times as fast as sklearn's curve, which matters to a bootstrap); NaN
    without both classes."""
    return area_under_curve(labels, np.where(np.isnan(scores), np.inf, scores))
