"""How unexpected an answer is to the model, for an answer of its length.

Mean NLL falls with length (the first tokens of an answer cost most), so each row is compared with rows of like length:
the distance from their median in robust standard deviations. It finds answers that are wrong for their prompts though
no two are alike, but honest data has such rows too: by itself it is a hint, not a verdict.
"""

import numpy as np

BINS = 10
LEAST_IN_BIN = 30
TO_DEVIATIONS = 1.4826  # of a normal distribution's median absolute deviation
SURPRISING = 4.0  # deviations above which the policy `surprise` flags


def surprise(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """nll: (N,) nats a token, NaN where unscored; tokens: (N,). Returns (N,) deviations, NaN where unscored."""
    result = np.full(len(nll), np.nan)
    rows = np.flatnonzero(np.isfinite(nll))
    if not len(rows):
        return result
    order = rows[np.argsort(tokens[rows], kind="stable")]
    for part in np.array_split(order, max(1, min(BINS, len(rows) // LEAST_IN_BIN))):
        middle = np.median(nll[part])
        spread = TO_DEVIATIONS * np.median(np.abs(nll[part] - middle))
        result[part] = (nll[part] - middle) / max(spread, 1e-6) if spread > 0 else 0.0
    return result
