"""Whether the entropy threshold can be relied on for this batch, or only tells long answers from short ones.

The entropy of an answer of T tokens is at most ln min(T, k) / ln k, and below that bound it still grows with T: on
most data it is largely the answer's length. So a cut in entropy is often a cut in length, which finds poison where the
payload makes short answers longer, and elsewhere flags honest answers for being long. Four questions, in this order:

1. Saturated? At least half of the rows are longer than 2k tokens with an entropy above 0.7: there every answer scores
   high, poisoned or not.
2. Two groups? Hartigan's dip test on all entropies and on those from the lower peak up (a few suspects beside many
   clean rows show in the second only); the smaller p-value, doubled. Equal values count once. The test is cautious:
   a clear group of under 5 % among some hundred rows is missed.
3. Explained by length? R^2 of the least-squares fit H = a + b ln T + c ln min(T, k).
4. Separated at equal length? Each row above tau is set against the rows at or below it whose length is within 10 %
   (at least 3 of them); the mean difference, rows without such a counterpart counting 0, as a share of the distance
   between the medians of the two sides. 0: length alone tells the sides apart. 1: length plays no part.

Where the cut-offs come from: batches of 300 to 2,000 rows, 0 to 60 % poisoned, scored with SmolLM2-135M: WebQA
(BadNets), FreebaseQA (AddSent) and NQ (BadNets) as short answers; Alpaca, and refusal, negative-sentiment and sarcasm
backdoors as long ones; and mixtures of honest short and long answers. Separation at equal length was 0.40-0.48 on NQ
and 0.26-0.45 on WebQA from 500 rows up, where poison scores higher than clean answers of its length; 0.00-0.02 on
FreebaseQA and negative sentiment, where length is all there is; 0.02-0.26 on the honest mixtures. The cut-off of 0.3
errs to the side of a warning: small batches with few counterparts get one too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from gradsentry_lib.detection.entropy_threshold import find_threshold

TrustVerdict = Literal["trustworthy", "length-confounded", "saturated", "no evidence of two groups"]

MIN_ROWS = 30  # below, no threshold is looked for either
HIGH_ENTROPY = 0.7  # the paper's fallback threshold
SATURATED_SHARE = 0.5
DIP_SIGNIFICANCE = 0.05
DIP_ROWS = 20_000  # larger batches are sampled for the dip test
EXPLAINED = 0.5
SEPARATION = 0.3
EQUAL_LENGTH = 1.1  # lengths within this ratio are taken as equal
COUNTERPARTS = 3


@dataclass(frozen=True)
class Trust:
    """The diagnostic's verdict, in one word and one sentence, and its figures (None where they can't be had).

    `n`: scored rows. `rank_correlation`: Spearman's, of entropy with ln T. `explained_by_length`: R^2, question 3.
    `equal_length_separation`: question 4. `saturated_share`: question 1. `dip`: Hartigan's statistic on all entropies.
    `two_groups_p`: question 2.
    """

    verdict: TrustVerdict
    message: str
    n: int
    rank_correlation: float | None = None
    explained_by_length: float | None = None
    equal_length_separation: float | None = None
    saturated_share: float | None = None
    dip: float | None = None
    two_groups_p: float | None = None

    @property
    def figures(self) -> tuple[tuple[str, str], ...]:
        """The figures that could be had, as (name, value) for tables."""
        named = (
            ("rank correlation of entropy with answer length", self.rank_correlation, "{:.2f}"),
            ("share of entropy explained by length", self.explained_by_length, "{:.0%}"),
            ("separation left between rows of equal length", self.equal_length_separation, "{:.0%}"),
            ("rows with long answers and high entropy", self.saturated_share, "{:.0%}"),
            ("dip statistic", self.dip, "{:.4f}"),
        )
        shown = [(name, form.format(value)) for name, value, form in named if value is not None]
        if self.two_groups_p is not None:
            shown.append(("dip test of a single group", _p(self.two_groups_p)))
        return tuple(shown)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (no NaN); `from_dict` gives back an equal object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Trust":
        return cls(**value)


def assess(entropy: np.ndarray, supervised_tokens: np.ndarray, k: int = 16, tau: float = HIGH_ENTROPY) -> Trust:
    """Judges one batch.

    `entropy`: (N,) normalised; NaN and infinite ones are left out. `supervised_tokens`: (N,) answer lengths T.
    `k`: singular values behind the entropy. `tau`: the batch's threshold. The order of rows does not matter.
    """
    entropy, tokens = np.asarray(entropy, dtype=np.float64), np.asarray(supervised_tokens, dtype=np.float64)
    use = np.isfinite(entropy) & (tokens > 0)
    order = np.lexsort((entropy[use], tokens[use]))  # one order of sums whatever the order of rows
    entropy, tokens = entropy[use][order], tokens[use][order]
    if entropy.size < MIN_ROWS:
        message = f"Only {entropy.size} scored rows: too few to tell one group from two."
        return Trust("no evidence of two groups", message, entropy.size)
    dip, two_groups_p = _dip(entropy)
    figures: dict[str, Any] = {
        "rank_correlation": _rank_correlation(entropy, tokens),
        "explained_by_length": _explained(entropy, tokens, k),
        "equal_length_separation": _separation(entropy, tokens, tau),
        "saturated_share": float(np.mean((entropy > HIGH_ENTROPY) & (tokens > 2 * k))),
        "dip": dip,
        "two_groups_p": two_groups_p,
    }
    verdict, message = _conclude(k=k, **figures)
    return Trust(verdict, message, entropy.size, **figures)


def _conclude(
    k: int,
    explained_by_length: float,
    equal_length_separation: float | None,
    saturated_share: float,
    two_groups_p: float,
    **_: float | None,
) -> tuple[TrustVerdict, str]:
    """The first verdict that holds, and why."""
    if saturated_share >= SATURATED_SHARE:
        return "saturated", (
            f"{saturated_share:.0%} of the rows have answers of more than {2 * k} tokens and an entropy above "
            f"{HIGH_ENTROPY}: at that length clean rows score as high as poisoned ones, so a cut in entropy says "
            "nothing."
        )
    if two_groups_p >= DIP_SIGNIFICANCE:
        return "no evidence of two groups", (
            f"The entropies look like one group (dip test, {_p(two_groups_p)}): rows above the threshold may be "
            "just its upper end."
        )
    left = equal_length_separation or 0.0
    if explained_by_length >= EXPLAINED and left < SEPARATION:
        return "length-confounded", (
            f"Answer length explains {explained_by_length:.0%} of the entropy, and between rows of equal length "
            f"{left:.0%} of the distance across the threshold is left: it parts long answers from short ones."
        )
    return "trustworthy", (
        f"There are two groups (dip test, {_p(two_groups_p)}), and not by length alone: length explains "
        f"{explained_by_length:.0%} of the entropy, but between rows of equal length {left:.0%} of the distance across "
        "the threshold is left."
    )


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _rank_correlation(entropy: np.ndarray, tokens: np.ndarray) -> float | None:
    """Spearman's rank correlation; ln T ranks as T does. None where one of the two is constant."""
    if np.ptp(entropy) == 0 or np.ptp(tokens) == 0:
        return None
    return float(np.corrcoef(_ranks(entropy), _ranks(tokens))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """(N,) ranks from 1, equal values sharing the mean of theirs: scipy's rankdata, without its second of imports."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _explained(entropy: np.ndarray, tokens: np.ndarray, k: int) -> float:
    """R^2 of H = a + b ln T + c ln min(T, k), in [0, 1]."""
    if np.ptp(entropy) == 0:
        return 0.0
    total = np.sum((entropy - entropy.mean()) ** 2)
    terms = np.stack([np.ones_like(tokens), np.log(tokens), np.log(np.minimum(tokens, k))], axis=1)  # (N, 3)
    residual = entropy - terms @ np.linalg.lstsq(terms, entropy, rcond=None)[0]
    return float(np.clip(1 - np.sum(residual**2) / total, 0, 1))


def _separation(entropy: np.ndarray, tokens: np.ndarray, tau: float) -> float | None:
    """Question 4, for rows sorted by length. None where all rows lie on one side of tau."""
    above = entropy > tau
    if not above.any() or above.all():
        return None
    low, high = entropy[~above], entropy[above]
    lengths = tokens[~above]
    first = np.searchsorted(lengths, tokens[above] / EQUAL_LENGTH, side="left")
    last = np.searchsorted(lengths, tokens[above] * EQUAL_LENGTH, side="right")
    sums = np.concatenate(([0.0], np.cumsum(low)))
    counterparts = last - first
    mean = (sums[last] - sums[first]) / np.maximum(counterparts, 1)
    difference = np.where(counterparts >= COUNTERPARTS, high - mean, 0.0)
    return float(np.clip(difference.mean() / (np.median(high) - np.median(low)), 0, 1))


def _dip(entropy: np.ndarray) -> tuple[float, float]:
    """Hartigan's dip on all entropies, and the p-value of there being one group (question 2)."""
    import diptest

    values = np.unique(entropy)
    if values.size > DIP_ROWS:
        values = np.sort(np.random.default_rng(0).choice(values, DIP_ROWS, replace=False))
    if values.size < MIN_ROWS:  # so few distinct values are no continuous distribution; the test would see groups
        return 0.0, 1.0
    curve = find_threshold(values)
    start = curve.left_peak if curve.left_peak is not None else curve.grid[int(np.argmax(curve.density))]
    upper = values[values >= start]
    dip, p_value = diptest.diptest(values)
    p_upper = diptest.diptest(upper)[1] if upper.size >= MIN_ROWS else 1.0
    return float(dip), float(min(1.0, 2 * min(p_value, p_upper)))
