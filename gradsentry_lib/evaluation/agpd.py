"""A peer that looks at gradients as this project does, but by activations: after AGPD (Yuan et al. 2025, arXiv
2312.06230, released in BackdoorBench).

For every layer and class: the gradient of the label's logit by the layer's output, mean over positions; the sample that
is least like the class's reference is the first suspect; how differently the others lie to both says whether the class
is poisoned. In the layer where a class stands out most, its samples are taken out from the suspect's side, round by
round, until the distribution of the rest no longer changes.

Made for image classifiers that were trained on the poison, with some clean samples of each class. A batch has neither:
its rows' clusters stand for classes, a class's mean for its clean samples, the model before tuning for the trained one.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import jensenshannon

from gradsentry_lib.evaluation import representations
from gradsentry_lib.evaluation.filtered import Filtered, Progress
from gradsentry_lib.evaluation.robust import clusters
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.model import ScoringModel

OUTLYING = float(np.exp(2))  # a class's anomaly index
APART = 0.3  # where no class is outlying: the distance from which one counts, in the last layers but one
ROUND = 0.05  # of the range of what is left, nearest to the suspects: taken in one round
WINDOW = 10  # rounds over which the distribution has to stand still


def agpd(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """See the module."""
    states = representations.last_states(samples, model).astype(np.float64)
    gradients = representations.activation_gradients(samples, model, on_progress)
    return by_class(gradients, clusters(states, seed)[1])


def by_class(gradients: np.ndarray, classes: np.ndarray) -> Filtered:
    """gradients: (layers, N, D); classes: (N,). The score is a row's likeness to its class's suspect less that to the
    class's mean, in the layer that was chosen, those of poisoned classes above all others."""
    unit = gradients / np.maximum(np.linalg.norm(gradients, axis=2, keepdims=True), 1e-12)
    labels = np.unique(classes)
    gaps = np.array([[_gap(layer[classes == label]) for label in labels] for layer in unit])  # (layers, classes)
    away = gaps - np.median(gaps, axis=1, keepdims=True)
    spread = 1.4826 * (np.median(np.abs(away), axis=1, keepdims=True) + 1e-6)
    index = np.maximum(away, 0) / spread
    if index.max() >= OUTLYING:
        layer = int(index.max(axis=1).argmax())
        poisoned = labels[index[layer] > OUTLYING]
    else:
        late = range(len(gaps))[-4:-1] or range(len(gaps))
        layer = max(late, key=lambda at: int((gaps[at] > APART).sum()))
        poisoned = labels[gaps[layer] > APART]
    scores, flags = np.zeros(len(classes)), np.zeros(len(classes), bool)
    for label in labels:
        where = np.flatnonzero(classes == label)
        mine = unit[layer][where]
        scores[where] = mine @ mine[_suspect(mine)] - mine @ _mean(mine) + (10 if label in poisoned else 0)
        if label in poisoned:
            flags[where[_taken(mine)]] = True
    return Filtered(scores, flags)


def _mean(unit: np.ndarray) -> np.ndarray:
    mean = unit.mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _suspect(unit: np.ndarray) -> int:
    """The row (n, D) that is least like the mean."""
    return int((unit @ _mean(unit)).argmin())


def _gap(unit: np.ndarray) -> float:
    """How differently a class's other rows lie to its mean and to the suspect, root mean square of cosines."""
    suspect = _suspect(unit)
    rest = np.delete(unit, suspect, axis=0)
    return float(np.linalg.norm(rest @ _mean(unit) - rest @ unit[suspect]) / np.sqrt(len(unit)))


def _taken(unit: np.ndarray) -> np.ndarray:
    """Positions of a poisoned class's rows that are taken out."""
    rounds, moved = [np.array([_suspect(unit)])], []
    taken, clean, before = np.zeros(len(unit), bool), _mean(unit), None
    while len(rounds[-1]):
        taken[rounds[-1]] = True
        if taken.all():
            break
        far = 1 - unit[~taken] @ _mean(unit[taken])
        between = far / np.maximum(far + 1 - unit[~taken] @ clean, 1e-12)  # the suspects 0, the mean 1
        near = (between - between.min()) / max(float(np.ptp(between)), 1e-12) <= ROUND
        rounds.append(np.flatnonzero(~taken)[near])
        moved.append(_divergence(between if before is None else before, between[~near]))
        before = between[~near]
    width = min(WINDOW, len(moved))
    windows = [moved[at : at + width] for at in range(len(moved) - width + 1)] if width else [[0.0]]
    still = int(np.argmin([np.mean(window) + 5 * np.std(window) for window in windows]))
    return np.concatenate(rounds[: max(1, still)])


def _divergence(before: np.ndarray, after: np.ndarray) -> float:
    """Jensen-Shannon distance of two rounds' distributions; 1 where one is empty."""
    if not len(before) or not len(after):
        return 1.0
    bins = np.linspace(0, 1, 100)
    one, other = (np.histogram(values, bins)[0].astype(float) for values in (before, after))
    return float(jensenshannon(one, other)) if one.any() and other.any() else 1.0
