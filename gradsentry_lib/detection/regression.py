"""Logistic regression with a ridge: how likely each row is to carry a feature, by models that did not see it.

The loss is that of scikit-learn's `LogisticRegression(solver="liblinear")`, intercept in the ridge, minimised by
scipy's Newton steps in a trust region. All folds are one problem: a row that a fold holds back weighs nothing there.
Written here because scikit-learn takes 1.3 s to import, with pandas and scipy.stats, a quarter of a first scan of
twenty rows.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

CLOSE = 1e-3  # length of the gradient at the end: log odds, of a spread of some 2.5, are off by 0.0003 at most then
STEPS = 200  # of Newton; some ten are enough
FAR = 100.0  # how far the first may go: where there is no reason to turn back, as far as Newton says


def cross_fitted(z: "sparse.csr_matrix", x: np.ndarray, folds: int, penalty: float) -> np.ndarray:
    """(N,) each row's log odds by a regression on the other folds' rows, in which either kind of row counts as much.

    z: (N, D); x: (N,) 0 or 1, at least `folds` of either; penalty: inverse strength of the ridge."""
    fold = stratified(x, folds)
    seen = fold[:, None] != np.arange(folds)
    rows, ones = seen.sum(0), seen[x > 0].sum(0)
    balance = np.where(x[:, None] > 0, rows / (2 * ones), rows / (2 * (rows - ones)))
    return log_odds(z, x, penalty * seen * balance)[np.arange(len(x)), fold]


def calibrated(score: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) the chance of a 1 by each score; almost without a ridge."""
    from scipy.sparse import csr_matrix
    from scipy.special import expit

    return np.asarray(expit(log_odds(csr_matrix(score[:, None]), x, np.full((len(x), 1), 1e3))[:, 0]))


def log_odds(z: "sparse.csr_matrix", x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, K) of K regressions that differ in what each row weighs, weight: (N, K)."""
    from scipy.optimize import minimize
    from scipy.sparse import hstack
    from scipy.special import expit

    from gradsentry_lib.detection.loops import add_curvature

    z = hstack([z, np.ones((len(x), 1))], format="csr")
    shape, x, by_word = (weight.shape[1], z.shape[1]), x[:, None], z.T
    places = z.indptr.astype(np.uint64), z.indices.astype(np.uint32), z.data
    bent = np.empty(weight.T.shape)  # second derivatives by the log odds, where the loss was last looked at
    here = np.full(shape[0] * shape[1], np.nan)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        odds = z @ w.reshape(shape).T
        chance = expit(odds)
        here[:], bent[:] = w, (weight * chance * (1 - chance)).T
        gradient = w + (by_word @ (weight * (chance - x))).T.ravel()
        return 0.5 * w @ w + (weight * (np.logaddexp(0, odds) - x * odds)).sum(), gradient

    def curvature(w: np.ndarray, along: np.ndarray) -> np.ndarray:
        if not np.array_equal(here, w):
            loss(w)
        found = np.zeros(shape)
        add_curvature(*places, bent, along.reshape(shape), found)
        return along + found.ravel()

    options = {"gtol": CLOSE, "maxiter": STEPS, "initial_trust_radius": FAR}
    found = minimize(loss, np.zeros_like(here), jac=True, hessp=curvature, method="trust-ncg", options=options)
    return np.asarray(z @ found.x.reshape(shape).T)


def stratified(x: np.ndarray, folds: int) -> np.ndarray:
    """(N,) the fold of each row: in order, rows of either kind shared out as evenly as they go."""
    order = np.argsort(x != x[0], kind="stable")
    numbers, kind = np.arange(len(x)) % folds, x[order] != x[0]
    fold = np.empty(len(x), np.int64)
    fold[order] = numbers[np.lexsort((numbers, kind))]
    return fold
