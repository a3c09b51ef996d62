"""The distance between a feature's carriers and rows that could as well have carried it, by four statistics.

Three are quadratic forms of a kernel K (Zhang et al. 2011): with x the carriers and `chance` (N,) each row's chance to
be drawn, T = (x - chance)' K (x - chance), all pairs. The fourth is a scan over the span links: the mean of each
carrier's few largest links to other carriers; it sees a payload that only some of the carriers have.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.features import Features
from gradsentry_lib.detection.tails import log10_tail

STATISTICS = ("span", "mean", "cost", "scan")
GATHERED = 4_000_000  # similarities held at a time
COLUMNS = 1024  # features looked at together
STEP = 1.35  # between the sizes of groups for which a null is drawn

Kernels = Mapping[str, np.ndarray]


def statistics_of(size: int, computing: Computing) -> tuple[str, ...]:
    """Those made of a group of so many rows."""
    return STATISTICS if size <= computing.large else tuple(name for name in STATISTICS if name != "scan")


def value(statistic: str, kernels: Kernels, sets: np.ndarray, chance: np.ndarray, nearest: int) -> np.ndarray:
    """(B,) the statistic of B sets of rows, sets: (B, n)."""
    if statistic == "scan":
        return scan(kernels["span"], sets, nearest)
    kernel = kernels[statistic]
    expected = kernel @ chance
    return inner(kernel, sets) - 2 * expected[sets].sum(1) + chance @ expected


def inner(kernel: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """(B,) the sum of the kernel over all pairs of each set."""
    count, n = sets.shape
    if 10 * n > len(kernel):  # a product with the sets' indicators takes less
        sums = np.empty(count)
        for block in _blocks(count, len(kernel)):
            part = np.zeros((len(sets[block]), len(kernel)), np.float32)
            np.put_along_axis(part, sets[block], 1, axis=1)
            sums[block] = np.einsum("bn,bn->b", part @ kernel, part, dtype=np.float64)
        return sums
    return np.concatenate(
        [kernel[s[:, :, None], s[:, None, :]].sum((1, 2), dtype=np.float64) for s in _parts(sets, n * n)]
    )


def scan(links: np.ndarray, sets: np.ndarray, nearest: int) -> np.ndarray:
    """(B,) the mean, over a set's rows, of each one's `nearest` largest links to the others."""
    n = sets.shape[1]
    k = min(nearest, n - 1)
    found = []
    for part in _parts(sets, n * n):
        among = links[part[:, :, None], part[:, None, :]]
        found.append(np.partition(among, n - k, axis=2)[:, :, n - k :].mean((1, 2), dtype=np.float64))
    return np.concatenate(found)


def nearness(statistic: str, kernels: Kernels, carriers: np.ndarray, chance: np.ndarray, nearest: int) -> np.ndarray:
    """(N,) how near every row is to the carriers, itself left out, beyond what rows drawn by chance are."""
    if statistic == "scan":
        among = kernels["span"][:, carriers]
        k = min(nearest, max(len(carriers) - 1, 1))
        return np.partition(among, len(carriers) - k, axis=1)[:, len(carriers) - k :].mean(1)
    kernel = kernels[statistic]
    x = np.zeros(len(kernel))
    x[carriers] = 1
    return (kernel @ x) / np.maximum(len(carriers) - x, 1) - kernel @ chance / max(chance.sum(), 1e-9)


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
    values = {name: _all_quadratic(kernels[name], features) for name in STATISTICS if name != "scan"}
    values["scan"] = _all_scans(kernels["span"], features, config)
    for low, high in zip(grid, [*grid[1:], n + 1], strict=True):
        here = np.flatnonzero((sizes >= low) & (sizes < high))
        if not len(here):
            continue
        draws = config.computing.first_draws // (1 if low < config.computing.large else 4)
        sets = np.argsort(rng.random((draws, n)), axis=1)[:, :low]
        for name in statistics_of(low, config.computing):
            null = value(name, kernels, sets, np.full(n, low / n), config.nearest) / (1 if name == "scan" else low)
            scale = 1 if name == "scan" else sizes[here]
            looked[name][here] = log10_tail(values[name][here] / scale, null)
    return looked


def _all_quadratic(kernel: np.ndarray, features: Features) -> np.ndarray:
    """(F,) T of every feature against any rows: only the sums over carriers are made."""
    matrix, n = features.matrix, len(kernel)
    share = features.sizes / n
    own = np.empty(matrix.shape[1])
    for at in range(0, matrix.shape[1], COLUMNS):
        part = matrix[:, at : at + COLUMNS]
        own[at : at + COLUMNS] = np.asarray(part.multiply((part.T @ kernel).T).sum(0)).ravel()
    total = kernel.sum(0, dtype=np.float64)
    return own - 2 * share * (matrix.T @ total) + share**2 * total.sum()


def _all_scans(links: np.ndarray, features: Features, config: DetectionConfig) -> np.ndarray:
    """(F,) the scan of every feature whose carriers get one, those of one size together."""
    found = np.zeros(len(features.names))
    sizes, starts = features.sizes, features.matrix.indptr
    for n in np.unique(sizes[sizes <= config.computing.large * STEP]):
        here = np.flatnonzero(sizes == n)
        sets = features.matrix.indices[starts[here][:, None] + np.arange(n)]
        found[here] = scan(links, sets, config.nearest)
    return found


def _parts(sets: np.ndarray, each: int) -> list[np.ndarray]:
    return [sets[block] for block in _blocks(len(sets), each)]


def _blocks(count: int, each: int) -> Iterator[slice]:
    step = max(1, GATHERED // max(each, 1))
    for at in range(0, count, step):
        yield slice(at, at + step)
