"""How alike the gradients of two rows' answers are: four kernels, (N, N) each.

    span  the largest link of two surprising windows: a payload, wherever it stands
    mean  the cosine of the answers' mean windows: a refusal, a label, a tone
    cost  the product of the answers' costs against answers as long: what is said is not what the model would say
    joint the three and the product of the answers' lengths, each in units of how much it varies: refusals in many
          wordings are a little alike, a little surprising, and all short

Cost: W x W x 128 multiplications for W windows, in blocks; N x N numbers are kept. They are whole numbers, in units of
1/1024: so the order in which a machine adds decides nothing, and at two bytes each a processor's cache holds more of
what is looked up at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.distributions import mean_ranks
from gradsentry_lib.windows import CODES, unpack, unpack_codes

BLOCK = 1024  # windows compared with all others at a time
ROUNDED = 1e-6  # of a largest singular value: below, groups are sums of others
GRAIN = 1024  # of one; a cost has at most 5.6 standard deviations then
MOST = 15  # times what kernels vary by
LARGEST = 2**15 - 1  # that two bytes hold


@dataclass(frozen=True)
class Windows:
    """W windows that carry weight, in order. `vectors`: (W, 128) float32 of the length sqrt(weight)."""

    vectors: np.ndarray
    owner: np.ndarray  # (W,) row
    start: np.ndarray  # (W,) first token
    surprise: np.ndarray  # (W,) against plain text
    centre: np.ndarray  # (128,) what was taken away


def kernels(
    found: Windows,
    cost: np.ndarray,
    length: np.ndarray,
    same: Sequence[np.ndarray],
    against: Windows | None = None,
) -> Mapping[str, np.ndarray]:
    """The four kernels of N answers, (N, N) int16 in units of 1/1024, zero between those of one question or row (same:
    (N,) each), an answer and itself too.

    cost, length: (N,) normal scores, the former from `cost_given_length`. against: the answers that were turned down
    for these; then the second kernel is of the difference of the two.
    """
    vectors, owner, n = found.vectors, found.owner, len(cost)
    mean = _means(vectors, owner, n)
    if against is not None:
        mean = mean - _means(against.vectors, against.owner, n)
        mean = _unit(mean - mean.mean(0))
    made = {"span": _links(vectors, owner, n), "mean": mean @ mean.T, "cost": np.outer(cost, cost)}
    alike, rounded = _alike(same), dict[str, np.ndarray]()
    for name, kernel in {**made, "length": np.outer(length, length)}.items():
        kernel[alike] = 0
        rounded[name] = np.round(kernel * GRAIN).astype(np.int16)
    joint = _joint(list(rounded.values()))
    return {**{name: rounded[name] for name in made}, "joint": joint}


def _joint(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """(N, N) int16: the mean of some kernels, each divided by how much it varies beside its rows' own means, by which
    sets of drawn rows don't differ. Of whole numbers, whose sums are exact."""
    total = np.zeros(kernels[0].shape, np.float32)
    for kernel in kernels:
        means = kernel.sum(0, dtype=np.int64) / len(kernel)
        square = np.square(kernel, dtype=np.int64).sum() / kernel.size
        varies = np.sqrt(max(square - 2 * np.square(means).mean() + means.mean() ** 2, 0.0))
        if varies > 1:  # less is rounding: all answers are as long
            total += kernel / np.float32(varies)
    return np.round(np.clip(total / len(kernels), -MOST, MOST) * GRAIN).astype(np.int16)


def beside(
    kernels: Mapping[str, np.ndarray], groups: np.ndarray, same: Sequence[np.ndarray]
) -> Mapping[str, np.ndarray]:
    """The kernels as of answers from which everything is taken away that goes with being in one of some groups: with
    (I - P) K (I - P), P the projection on their indicators, groups: (N, k)."""
    left, size, _ = np.linalg.svd(groups.astype(float), full_matrices=False)
    basis, alike, made = left[:, size > ROUNDED * size.max(initial=1)].astype(np.float32), _alike(same), {}
    for name, kernel in kernels.items():
        rest = kernel.astype(np.float32)
        along = rest @ basis  # (N, k)
        both = basis @ (0.5 * (basis.T @ along) @ basis.T) - along @ basis.T
        rest += both
        rest += both.T
        rest[alike] = 0
        made[name] = np.round(np.clip(rest, -LARGEST, LARGEST)).astype(np.int16)
    return made


def windows(sketches: Sequence[bytes | None], config: DetectionConfig, centre: np.ndarray | None = None) -> Windows:
    """The windows of N rows, centred over them or over others (centre: (128,))."""
    records, owner, _ = unpack(sketches)
    weight = np.minimum(records["surprise"].astype(np.float32) / config.surprise, 1)
    kept = weight > config.computing.least
    records, owner, weight = records[kept], owner[kept], weight[kept]
    vectors = _unit(unpack_codes(records["codes"]).astype(np.float32))
    if centre is None:
        centre = vectors.mean(0, dtype=np.float64) if len(vectors) else np.zeros(CODES)
    vectors = _unit(vectors - centre.astype(np.float32)) * np.sqrt(weight)[:, None]
    start, own = records["start"].astype(int), records["surprise"].astype(float)
    return Windows(vectors.astype(np.float32), owner, start, own, centre)


def between(some: Windows, others: Windows) -> np.ndarray:
    """(n, m) the largest link of two windows, for the rows of either side that have any."""
    if not len(some.owner) or not len(others.owner):
        return np.zeros((len(np.unique(some.owner)), 0), np.float32)
    link = some.vectors @ others.vectors.T
    for axis, owner in enumerate((some.owner, others.owner)):
        link = np.maximum.reduceat(link, np.unique(owner, return_index=True)[1], axis=axis)
    return link


def cost_given_length(nll: np.ndarray, tokens: np.ndarray, config: DetectionConfig) -> np.ndarray:
    """(N,) how far each answer's mean cost lies from the median of the answers nearest in length, in their median
    deviation, as a normal score over all: ranks among the nearest would say little of a dozen answers of one length,
    which are each other's nearest.

    nll: (N,) nats a token, NaN where unscored (0 there); tokens: (N,) supervised tokens.
    """
    score = np.zeros(len(nll))
    known = np.flatnonzero(np.isfinite(nll))
    if not len(known):
        return score
    order = known[np.argsort(tokens[known], kind="stable")]
    lengths, costs, off = tokens[order], nll[order], np.empty(len(order))
    half = max(config.computing.beside, len(order) // config.computing.lengths)  # answers on either side
    for length in np.unique(lengths):
        begin, end = (int(np.searchsorted(lengths, length, side)) for side in ("left", "right"))
        near = costs[max(0, begin - half) : end + half]
        middle = np.median(near)
        off[begin:end] = (costs[begin:end] - middle) / max(np.median(np.abs(near - middle)), config.computing.spread)
    score[order] = normal_scores(np.round(off, 6))  # rounded: every machine has the same ties
    return score


def normal_scores(values: np.ndarray) -> np.ndarray:
    """(N,) as if the values were drawn from a normal distribution, in the same order."""
    from scipy.special import ndtri

    return np.asarray(ndtri((mean_ranks(values) - 0.5) / max(len(values), 1)))


def _links(vectors: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    links = np.zeros((n, n), np.float32)
    if not len(owner):
        return links
    present, first = np.unique(owner, return_index=True)
    for at in range(0, len(owner), BLOCK):  # rows from the block's first on: the rest is known by symmetry
        begin = np.searchsorted(present, owner[at])
        columns = vectors[first[begin] :]
        best = np.maximum.reduceat(vectors[at : at + BLOCK] @ columns.T, first[begin:] - first[begin], axis=1)
        mine, start = np.unique(owner[at : at + BLOCK], return_index=True)
        best = np.maximum.reduceat(best, start, axis=0)
        there = (mine[:, None], present[None, begin:])
        links[there] = np.maximum(links[there], best)
    return np.maximum(links, links.T)


def _alike(same: Sequence[np.ndarray]) -> np.ndarray:
    """(N, N) whether two answers are to one question or of one row."""
    alike = np.zeros((len(same[0]), len(same[0])), bool)
    for group in same:
        alike |= group[:, None] == group[None]
    return alike


def _means(vectors: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """(n, 128) the direction of each answer's mean window, less that of all."""
    mean = np.zeros((n, CODES))
    np.add.at(mean, owner, vectors)
    there = np.isin(np.arange(n), owner)
    if there.any():
        mean[there] -= mean[there].mean(0)
    return _unit(mean)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.sqrt(np.einsum("wd,wd->w", vectors, vectors))[:, None] + 1e-6)
