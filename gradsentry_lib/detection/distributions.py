"""Tails of three distributions, ranks, areas under a curve and false discovery rates, from scipy.special alone:
scipy.stats takes half a second to import. Tails are natural logarithms, and stay finite where the probability itself
would be rounded to 0.
"""

import numpy as np


def log_sf_normal(z: np.ndarray) -> np.ndarray:
    """ln P(Z >= z)."""
    from scipy.special import log_ndtr

    return np.asarray(log_ndtr(-np.asarray(z, float)))


def log_sf_gamma(x: np.ndarray, shape: float, scale: float) -> np.ndarray:
    """ln P(X >= x); 0 where x <= 0. Far out Q(a, t) is t^(a-1) exp(-t) / Gamma(a) times a series in 1 / t."""
    from scipy.special import gammaincc, gammaln

    t = np.maximum(np.asarray(x, float) / scale, 0)
    tail = gammaincc(shape, t)
    with np.errstate(divide="ignore"):
        near = np.log(tail)
    far = t > 0
    series, term = np.ones_like(t), np.ones_like(t)
    for k in range(1, 12):
        term = term * (shape - k) / np.where(far, t, 1)
        series += np.where(np.abs(term) < np.abs(series), term, 0)
    with np.errstate(divide="ignore"):
        beyond = (shape - 1) * np.log(np.where(far, t, 1)) - t - gammaln(shape) + np.log(np.maximum(series, 1e-300))
    return np.where(tail > 1e-290, near, beyond)


def log_sf_hypergeometric(inside: int, n: int, group: int, drawn: int) -> float:
    """ln of the chance of at least `inside` of a group among `drawn` of n rows."""
    from scipy.special import gammaln

    def log_choose(a: int, b: np.ndarray) -> np.ndarray:
        return np.asarray(gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1))

    k = np.arange(max(inside, drawn - (n - group), 0), min(group, drawn) + 1)
    if not len(k):
        return -np.inf
    all_ways = log_choose(n, np.array(drawn))
    return min(float(np.logaddexp.reduce(log_choose(group, k) + log_choose(n - group, drawn - k) - all_ways)), 0.0)


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[group]


def area_under_curve(ones: np.ndarray, scores: np.ndarray) -> float:
    """How often one of `ones`, (N,) bool or 0 and 1, has a higher score than another row, equal scores counted half; by
    the sum of ranks. NaN without rows of both kinds."""
    ones = np.asarray(ones, bool)
    count, pairs = int(ones.sum()), int(ones.sum()) * int((~ones).sum())
    return float(mean_ranks(scores)[ones].sum() - count * (count + 1) / 2) / pairs if pairs else np.nan


def last_ranks(values: np.ndarray) -> np.ndarray:
    """How many values are at most as large as each."""
    return np.searchsorted(np.sort(values), values, side="right")


def discovery_rates(p: np.ndarray) -> np.ndarray:
    """For each p-value the least false discovery rate at which it is found (Benjamini and Hochberg 1995)."""
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    rates = np.empty(len(p))
    rates[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1)
    return rates
