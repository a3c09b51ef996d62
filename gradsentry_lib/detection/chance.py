"""How likely a row is to carry a feature, from the rest of its prompt; and sets of rows drawn by that chance.

The chance comes from a logistic regression on the words that are left when the trigger is taken out: cross-fitted, so
that no row is judged by a model that saw it, and calibrated by a second one on its score. Words that almost only
carriers have are part of what marks them, not of the rest: how many carriers must have such a word is tried at several
shares (config.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.features import Name, without
from gradsentry_lib.detection.tails import scaled
from gradsentry_lib.detection.traits import TRAIT

DRAWN_TOGETHER = 500


@dataclass(frozen=True)
class Chance:
    """`p`: (N,) adds up to the number of carriers; `auc`: how well the rest of the prompt tells the carriers."""

    p: np.ndarray
    auc: float
    marking: float


def chances(
    tokens: Sequence[Sequence[str]], carriers: np.ndarray, phrases: Sequence[Name], config: DetectionConfig
) -> list[Chance]:
    """One for each share of marking words at which other words are taken out than at the share before."""
    x = np.zeros(len(tokens))
    x[carriers] = 1
    # how a line is written is no rest: a trigger at its end changes that too
    rest = [[word for word in without(row, phrases) if not word.startswith(TRAIT)] for row in tokens]
    everyone = Counter(word for row in rest for word in set(row))
    own = Counter(word for i in carriers for word in set(rest[i]))
    only = {word: count for word, count in own.items() if count >= (1 - config.rows) * everyone[word]}
    found: list[Chance] = []
    before: set[str] | None = None
    for share in config.marking:
        marks = {word for word, count in only.items() if count >= max(2, share * len(carriers))}
        if marks != before:
            found.append(_fit([[w for w in row if w not in marks] for row in rest], x, share, config.computing))
        before = marks
    return found


def _fit(rest: Sequence[Sequence[str]], x: np.ndarray, marking: float, computing: Computing) -> Chance:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    count, flat = int(x.sum()), Chance(np.full(len(x), x.mean()), 0.5, marking)
    try:
        seen = TfidfVectorizer(analyzer=list, sublinear_tf=True, min_df=2).fit_transform(rest)
    except ValueError:  # no words are left
        return flat
    size = np.log1p([len(row) for row in rest])
    size = csr_matrix(0.3 * (size - size.mean())[:, None] / (size.std() + 1e-9))
    z = hstack([seen, size]).tocsr()
    model = LogisticRegression(C=computing.penalty, class_weight="balanced", solver="liblinear", random_state=0)
    score = cross_val_predict(model, z, x, cv=min(computing.folds, count), method="decision_function")
    score = np.round(score, 4)  # the solver's last digits are the machine's
    auc = float(roc_auc_score(x, score))
    if auc <= 0.5:
        return Chance(flat.p, auc, marking)
    calibrated = LogisticRegression(C=1e3, solver="liblinear", random_state=0).fit(score[:, None], x)
    return Chance(scaled(calibrated.predict_proba(score[:, None])[:, 1], count), auc, marking)


def draw(chance: np.ndarray, size: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, size) sets of rows, without replacement, by the odds of the chance."""
    odds = np.log(chance) - np.log1p(-chance)
    parts = []
    for at in range(0, count, DRAWN_TOGETHER):
        noise = rng.gumbel(size=(min(DRAWN_TOGETHER, count - at), len(chance)))
        parts.append(np.argpartition(-(odds + noise), size - 1, axis=1)[:, :size])
    return np.concatenate(parts)
