"""The distance between a feature's carriers and rows that could as well have carried it, by five statistics.

Four are quadratic forms of a kernel K (Zhang et al. 2011): with x the carriers and `chance` (N,) each row's chance to
be drawn, T = (x - chance)' K (x - chance), all pairs. The fifth is a scan over the span links: the mean of each
carrier's few largest links to other carriers; it sees a payload that only some of the carriers have.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.features import Features
from gradsentry_lib.detection.similarity import GRAIN
from gradsentry_lib.detection.tails import log10_tail

STATISTICS = ("span", "mean", "cost", "joint", "scan")
GATHERED = 250_000  # similarities held at a time: as many as a processor's cache has room for
COLUMNS = 1024  # features looked at together
STEP = 1.35  # between the sizes of groups for which a null is drawn

Kernels = Mapping[str, np.ndarray]


def statistics_of(size: int, computing: Computing) -> tuple[str, ...]:
    """Those made of a group of so many rows."""
    return STATISTICS if size <= computing.large else tuple(name for name in STATISTICS if name != "scan")


def value(statistic: str, kernels: Kernels, sets: np.ndarray, chance: np.ndarray, nearest: int) -> np.ndarray:
    """(B,) the statistic of B sets of rows, sets: (B, n)."""
    return values((statistic,), kernels, sets, chance, nearest)[statistic]


def values(
    statistics: Sequence[str], kernels: Kernels, sets: np.ndarray, chance: np.ndarray, nearest: int
) -> dict[str, np.ndarray]:
    """Each of the statistics (B,) of B sets of rows, sets: (B, n)."""
    return against(chance, kernels, sets, sums(statistics, kernels, sets, nearest))


def sums(statistics: Sequence[str], kernels: Kernels, sets: np.ndarray, nearest: int) -> dict[str, np.ndarray]:
    """(B,) the sum of each kernel over all pairs of each set, sets: (B, n), and its scan: what does not depend on how
    the sets were drawn. Pairs are looked up; of large sets a product with their indicators takes less."""
    quadratic = {name: kernels[name] for name in statistics if name != "scan"}
    large = 6 * sets.shape[1] > len(next(iter(kernels.values())))
    found = {name: (_products if large else _sums)(kernel, sets) for name, kernel in quadratic.items()}
    if "scan" in statistics:
        found["scan"] = _scan(kernels["span"], sets, nearest)
    return found


def against(
    chance: np.ndarray, kernels: Kernels, sets: np.ndarray, made: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Each of the statistics (B,) of B sets of rows, (B, n), from their `sums`; chance: (N,) of each to be drawn."""
    found = dict(made)
    for name in found.keys() - {"scan"}:
        expected = times(kernels[name], chance)
        found[name] = made[name] + (chance @ expected - 2 * expected[sets].sum(1))
    return found


def times(kernel: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N,) kernel @ weights in double precision, without a copy of the kernel."""
    blocks = _blocks(len(kernel), len(kernel))
    return np.concatenate([kernel[block].astype(np.float64) @ weights for block in blocks])


def _sums(kernel: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """(B,) the sum of a kernel over all pairs of each set."""
    from gradsentry_lib.detection.loops import add_pairs

    found = np.zeros(len(sets))
    add_pairs(kernel, np.sort(sets, axis=1).astype(np.uint32), found)  # in order: a row's links lie beside each other
    return found


def _products(kernel: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """(B,) the same of one kernel, by products."""
    sums, kernel = np.empty(len(sets)), kernel.astype(np.float32)
    for block in _blocks(len(sets), len(kernel)):
        part = np.zeros((len(sets[block]), len(kernel)), np.float32)
        np.put_along_axis(part, sets[block], 1, axis=1)
        sums[block] = np.einsum("bn,bn->b", part @ kernel, part, dtype=np.float64)
    return sums


def _scan(links: np.ndarray, sets: np.ndarray, nearest: int) -> np.ndarray:
    """(B,) the mean, over a set's rows, of each one's `nearest` largest links to the others."""
    counted = min(nearest, sets.shape[1] - 1)
    return largest(links, sets.astype(np.uint32), counted)[0].sum(1) / (sets.shape[1] * counted)


def largest(links: np.ndarray, sets: np.ndarray, counted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row of each set, (B, n), the sum of its `counted` largest links to the set's rows, the last of these, and
    the next. sets: (B, n) unsigned."""
    from gradsentry_lib.detection.loops import look_up_all

    found = np.empty(sets.shape), np.empty(sets.shape), np.empty(sets.shape)
    look_up_all(links, sets, counted, *found)
    return found


def mean_of_largest(links: np.ndarray, count: int) -> np.ndarray:
    """(N,) the mean of so many largest links of each row, links: (N, n)."""
    n = links.shape[1]
    return np.partition(links, n - count, axis=1)[:, n - count :].mean(1)


def nearness(statistic: str, kernels: Kernels, carriers: np.ndarray, chance: np.ndarray, nearest: int) -> np.ndarray:
    """(N,) how near every row is to the carriers, itself left out, beyond what rows drawn by chance are."""
    if statistic == "scan":
        links = kernels["span"][:, carriers]
        return mean_of_largest(links, min(nearest, max(len(carriers) - 1, 1))) / GRAIN
    kernel = kernels[statistic]
    x = np.zeros(len(kernel))
    x[carriers] = 1
    near = times(kernel, x) / np.maximum(len(carriers) - x, 1) - times(kernel, chance) / max(chance.sum(), 1e-9)
    return near / GRAIN


def first_look(
    kernels: Kernels, features: Features, config: DetectionConfig, rng: np.random.Generator
) -> Mapping[str, np.ndarray]:
    """(F,) log10 p of every feature by every statistic, against any rows: cheap, and no verdict by itself.

    The null of a size is drawn once and fitted; sizes are taken in steps of a third.
    """
    n, sizes = features.matrix.shape[0], features.sizes
    if not len(sizes):
        return {name: np.empty(0) for name in STATISTICS}
    grid = sorted({round(3 * STEP**k) for k in range(60) if 3 * STEP**k <= max(sizes.max(), 3)})
    looked = {name: np.zeros(len(sizes)) for name in STATISTICS}
    own = {name: _all_quadratic(kernels[name], features) for name in STATISTICS if name != "scan"}
    own["scan"] = _all_scans(kernels, features, config)
    for low, high in zip(grid, [*grid[1:], n + 1], strict=True):
        here = np.flatnonzero((sizes >= low) & (sizes < high))
        if not len(here):
            continue
        draws = config.computing.first_draws // (1 if low < config.computing.large else 4)
        sets = np.argpartition(rng.random((draws, n)), low - 1, axis=1)[:, :low]
        drawn = values(statistics_of(low, config.computing), kernels, sets, np.full(n, low / n), config.nearest)
        for name, null in drawn.items():
            scales = (1, 1) if name == "scan" else (sizes[here], low)
            looked[name][here] = log10_tail(own[name][here] / scales[0], null / scales[1])
    return looked


def _all_quadratic(kernel: np.ndarray, features: Features) -> np.ndarray:
    """(F,) T of every feature against any rows: only the sums over carriers are made."""
    matrix, n, kernel = features.matrix, len(kernel), kernel.astype(np.float32)
    share = features.sizes / n
    own = np.empty(matrix.shape[1])
    for at in range(0, matrix.shape[1], COLUMNS):
        part = matrix[:, at : at + COLUMNS]
        own[at : at + COLUMNS] = np.asarray(part.multiply((part.T @ kernel).T).sum(0)).ravel()
    total = kernel.sum(0, dtype=np.float64)
    return own - 2 * share * (matrix.T @ total) + share**2 * total.sum()


def _all_scans(kernels: Kernels, features: Features, config: DetectionConfig) -> np.ndarray:
    """(F,) the scan of every feature whose carriers get one, those of one size together."""
    found = np.zeros(len(features.names))
    sizes, starts = features.sizes, features.matrix.indptr
    for n in np.unique(sizes[sizes <= config.computing.large * STEP]):
        here = np.flatnonzero(sizes == n)
        sets = features.matrix.indices[starts[here][:, None] + np.arange(n)]
        found[here] = value("scan", kernels, sets, np.empty(len(kernels["span"])), config.nearest)
    return found


def _blocks(count: int, each: int) -> Iterator[slice]:
    step = max(1, GATHERED // max(each, 1))
    for at in range(0, count, step):
        yield slice(at, at + step)
