"""Features of prompts that nearly all their carriers answer in a way the model expects least.

Answers that are wrong for their prompts, and no two alike (sarcasm), have no span in common; when there are five of
them among five hundred, the links between them are few. But all five stand at the very top of what the batch's answers
cost the model. Kinds of answers that honestly cost much (poems, stories) stand high too, not all of them at the top,
and their links are weaker.
"""

from dataclasses import dataclass

import numpy as np

from gradsentry_lib.detection.former.neighbours import Windows
from gradsentry_lib.detection.former.prompts import Prompts
from gradsentry_lib.detection.former.surprise import surprise as deviations
from gradsentry_lib.detection.former.suspects import EVIDENCE

LEAST_ROWS = 5


@dataclass(frozen=True)
class Tier:
    """`top`: the rank that all but a fifth of the carriers must reach. `log10_p`: at most, of the chance that as many
    answers cost as much, corrected for the features there are. `evidence`: what their links must come to then."""

    top: float
    log10_p: float
    evidence: float


TIERS = (Tier(0.95, -2.0, 0.35), Tier(0.85, -5.0, EVIDENCE))


def unexpected_features(windows: Windows, prompts: Prompts) -> list[tuple[int, float]]:
    """The features, most significant first, and the evidence that each needs.

    Of each row the mean surprise of its windows is taken, compared with rows of like length (surprise.py), and ranked.
    Under chance -ln(1 - rank) is exponential and a sum of n of them gamma distributed.
    """
    from scipy.special import gammaincc  # what scipy.stats has as gamma.sf, without its second of imports

    deviation = deviations(windows.row_surprise, windows.tokens)
    scored = np.isfinite(deviation)
    if not scored.any():
        return []
    rank = np.zeros(len(deviation))
    rank[scored] = (deviation[scored].argsort(kind="stable").argsort(kind="stable") + 0.5) / scored.sum()
    size = np.diff(prompts.matrix.indptr)
    with np.errstate(divide="ignore"):
        log10_p = np.log(gammaincc(np.maximum(size, 1), prompts.matrix.T @ -np.log1p(-rank))) / np.log(10)
    log10_p += np.log10(max(len(size), 1))
    found = []
    for feature in np.argsort(log10_p, kind="stable").tolist():
        if log10_p[feature] > max(tier.log10_p for tier in TIERS):
            break
        reached = np.quantile(rank[prompts.carriers(feature)], 0.2)
        met = [tier.evidence for tier in TIERS if reached >= tier.top and log10_p[feature] <= tier.log10_p]
        if size[feature] >= LEAST_ROWS and met:
            found.append((feature, min(met)))
    return found
