"""Two peers that ask a distribution of hidden states whether part of it is foreign: after SPECTRE, after DEMON.

Both were made for image classifiers: a class's representations under the model that was trained on the poisoned data.
Here all rows of a fine-tuning batch are looked at under the model before tuning, so both are called "after".
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from gradsentry_lib.evaluation import representations
from gradsentry_lib.evaluation.filtered import Filtered, Progress
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.model import ScoringModel

EXPECTED = 0.1  # share of poison that SPECTRE is told to expect; its authors give it the true one
ALPHA, TAU, C = 4.0, 0.1, 10.0  # SPECTRE's, as released
REMOVED = 1.5  # of the expected rows
CLASSES = 10  # of DEMON, which a batch does not have: clusters of its states
WIDTH = 32  # dimensions of DEMON's states, so that a few hundred rows have a covariance
OUTLYING = float(np.exp(2))  # DEMON's threshold on a class's anomaly index


def spectre(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """After SPECTRE (Hayase et al. 2021, arXiv 2104.11315, released in Julia): states whitened by a robust covariance,
    scored by quantum entropy, the highest 1.5 of the expected share removed; the number of components is the one of ten
    that leaves most of what is foreign outside."""
    states = representations.last_states(samples, model, on_progress=on_progress).astype(np.float64)
    return spectre_states(states)


def spectre_states(states: np.ndarray) -> Filtered:
    """states: (N, D)."""
    n = len(states)
    expected = max(1, round(EXPECTED * n))
    widest = max(2, min(100, states.shape[1], n // 4))
    all_of_it = PCA(widest, random_state=0).fit_transform(states)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for k in sorted({round(root**2) for root in np.linspace(1, np.sqrt(widest), 10)}):
        scores = _quantum_scores(all_of_it[:, :k], expected)
        flags = np.zeros(n, bool)
        flags[np.argsort(-scores, kind="stable")[: round(REMOVED * expected)]] = True
        covariance = np.cov(_whitened(all_of_it, np.cov(all_of_it[~flags].T)).T)
        weight = _entropy_weight(covariance)
        outside = float(np.trace(covariance @ weight))
        if best is None or outside > best[0]:
            best = (outside, scores, flags)
    assert best is not None
    return Filtered(best[1], best[2])


def _quantum_scores(points: np.ndarray, expected: int) -> np.ndarray:
    """(N,) x' M x of whitened points (N, k), M by the matrix exponential of what their covariance has beyond one."""
    if points.shape[1] == 1:
        return (points[:, 0] ** 2).astype(np.float64)
    kept = points[_kept(points, expected)]
    white = _whitened(points, kept.T @ kept / len(kept))
    weight = _entropy_weight(np.cov(white.T))
    return np.einsum("nd,de,ne->n", white, weight, white)


def _entropy_weight(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    beyond = np.exp(ALPHA * (values - 1) / max(values.max() - 1, 1e-9))
    return (vectors * (beyond / beyond.sum())) @ vectors.T


def _whitened(points: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    return points @ (vectors / np.sqrt(np.maximum(values, 1e-9 * values.max()))) @ vectors.T


def _kept(points: np.ndarray, expected: int) -> np.ndarray:
    """Rows that the robust covariance is taken of (Diakonikolas et al. 2017, as released): whatever makes the fourth
    moments larger than a Gaussian's is taken out, at most twice the expected rows."""
    rows, left = np.arange(len(points)), 2 * expected
    share = expected / len(points)
    while left > 0:
        some = points[rows]
        n, d = some.shape
        white = _whitened(some, some.T @ some / n)
        norms = np.einsum("nd,nd->n", white, white)
        far = norms >= C * d * np.log(n / TAU)
        if not far.any():
            found = _direction(white)
            if found is None or found[0] <= 1 + C * share * np.log(1 / share) ** 2:
                break
            form = np.einsum("nd,de,ne->n", white, found[1], white)
            norms = np.abs(form - np.median(form)) / np.sqrt(2)
            cut = _cut(np.sort(norms), share)
            if cut is None:
                break
            far = norms > cut
        allowed = np.argsort(-norms, kind="stable")[:left]
        out = np.intersect1d(np.flatnonzero(far), allowed)
        if not len(out):
            break
        rows, left = np.delete(rows, out), left - len(out)
    return rows


def _direction(white: np.ndarray) -> tuple[float, np.ndarray] | None:
    """The quadratic form in which the points' fourth moment is largest, and that moment against a Gaussian's."""
    n, d = white.shape

    def moment(flat: np.ndarray) -> np.ndarray:
        form = flat.reshape(d, d)
        forms = np.einsum("nd,de,ne->n", white, form, white)
        return ((white * forms[:, None]).T @ white / n - np.trace(form) * np.eye(d)).ravel()

    if d < 2:
        return None
    operator = LinearOperator((d * d, d * d), matvec=moment, dtype=np.float64)
    value, vector = eigsh(operator, k=1, which="LA", v0=np.ones(d * d), maxiter=200, tol=1e-3)
    form = vector[:, 0].reshape(d, d)
    return float(value[0]) / 2, (form + form.T) / 2


def _cut(ordered: np.ndarray, share: float) -> float | None:
    """Where the tail of N ordered values is thicker than a Gaussian's can be."""
    n = len(ordered)
    for i, value in enumerate(ordered, start=1):
        reach = value - 3
        if reach <= 0:
            continue
        tail = 1.0 if reach <= 10 * np.log(1 / share) else 3 * share / (reach * np.log(reach)) ** 2
        if i / n >= tail:
            return float(reach)
    return None


def demon(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """After DEMON / SCAn (Tang et al. 2021, arXiv 1908.00686): every class's states against a mixture of two that
    share the covariance of all variation; classes whose likelihood ratio lies e^2 deviations out are poisoned, and
    their smaller part is removed."""
    states = representations.last_states(samples, model, on_progress=on_progress).astype(np.float64)
    return demon_states(states, seed)


def demon_states(states: np.ndarray, seed: int) -> Filtered:
    """states: (N, D). Classes are clusters of them."""
    return mixed_classes(*clusters(states, seed))


def clusters(states: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, d) main components of states (N, D), and (N,) which of their clusters each is in: what stands for the classes
    that a batch does not have."""
    width = min(WIDTH, states.shape[1], max(2, len(states) // 8))
    points = PCA(width, random_state=seed).fit_transform(states)
    count = min(CLASSES, max(2, len(points) // 15))
    return points, KMeans(count, n_init=10, random_state=seed).fit_predict(points)


def mixed_classes(points: np.ndarray, classes: np.ndarray) -> Filtered:
    """points: (N, d); classes: (N,). The score is a row's distance to the larger part's centre less that to the
    smaller's, those of poisoned classes above all others."""
    precision = np.linalg.pinv(_variation(points, classes))
    ratios, parts = {}, {}
    for label in np.unique(classes):
        mine = points[classes == label]
        parts[label] = _split(mine, precision)
        ratios[label] = _likelihood_ratio(mine, parts[label], precision)
    told = np.array(list(ratios.values())) / max(max(ratios.values()), 1e-12)
    spread = 1.4826 * np.median(np.abs(told - np.median(told)))
    index = dict(zip(ratios, np.abs(told - np.median(told)) / max(spread, 1e-9), strict=True))
    scores, flags = np.full(len(points), -np.inf), np.zeros(len(points), bool)
    for label, part in parts.items():
        where = np.flatnonzero(classes == label)
        if part.all() or not part.any():
            continue
        small = part if part.sum() <= len(part) / 2 else ~part
        mine = points[where]
        far = [_distance(mine - mine[side].mean(0), precision) for side in (~small, small)]
        scores[where] = far[0] - far[1] + (1e6 if index[label] > OUTLYING else 0)
        flags[where[small]] = index[label] > OUTLYING
    lowest = scores[np.isfinite(scores)].min(initial=0)
    return Filtered(np.where(np.isfinite(scores), scores, lowest - 1), flags)


def _variation(points: np.ndarray, classes: np.ndarray, rounds: int = 50) -> np.ndarray:
    """(d, d) the covariance of what varies within a class, by the expectation-maximisation of the paper's section 4: a
    row is its class's identity plus variation, both Gaussian."""
    centred = points - points.mean(0)
    labels, counts = np.unique(classes, return_counts=True)
    sums = np.stack([centred[classes == label].sum(0) for label in labels])
    identity, variation = np.cov((sums / counts[:, None])[np.searchsorted(labels, classes)].T), np.cov(centred.T)
    for _ in range(rounds):
        means = np.stack(
            [
                identity @ np.linalg.pinv(count * identity + variation) @ total
                for count, total in zip(counts, sums, strict=True)
            ]
        )
        each = means[np.searchsorted(labels, classes)]
        new = np.cov((centred - each).T)
        moved = np.linalg.norm(new - variation)
        identity, variation = np.cov(each.T), new
        if moved < 1e-4:
            break
    return variation


def _split(points: np.ndarray, precision: np.ndarray, rounds: int = 100) -> np.ndarray:
    """(n,) bool: two parts of a class that share the covariance, by hard assignment until it stands still; begun along
    the direction in which the class varies most, where the paper begins at random."""
    if len(points) < 4:
        return np.zeros(len(points), bool)
    axis = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    along = (points - points.mean(0)) @ axis
    part = along > np.median(along)
    for _ in range(rounds):
        if part.all() or not part.any():
            break
        near = _distance(points - points[part].mean(0), precision) < _distance(
            points - points[~part].mean(0), precision
        )
        if (near == part).all():
            break
        part = near
    return part


def _likelihood_ratio(points: np.ndarray, part: np.ndarray, precision: np.ndarray) -> float:
    """Twice the log likelihood ratio a row of two centres against one."""
    if part.all() or not part.any():
        return 0.0
    one = _distance(points - points.mean(0), precision).sum()
    two = sum(_distance(points[side] - points[side].mean(0), precision).sum() for side in (part, ~part))
    return float(one - two) / len(points)


def _distance(points: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return np.einsum("nd,de,ne->n", points, precision, points)
