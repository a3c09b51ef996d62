"""The automatic threshold on spectral entropy: the valley between two groups of samples (arXiv 2605.26574).

A Gaussian kernel density with Silverman's bandwidth h = 1.06 sd N^(-1/5) is laid over the batch's entropies on a grid
of 1,000 points from the smallest to the largest; its peaks of at least 1 % of the highest density are kept; between
the peak nearest 0 (clean) and the peak nearest 1 (suspect) the density's minimum is the threshold tau. Where the batch
does not show two groups, tau is a fixed 0.7 and the reason is kept.

Cost: N x 1,000 kernel evaluations up to 20,000 rows; larger batches are binned first, so a million rows take no longer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from gradsentry_lib.settings import OPTIONS

EXACT_ROWS = 20_000  # up to here every row is its own kernel
BINS = 1 << 14  # above, rows share kernels on this many centres; the density then differs by less than 1e-4 of its peak
NIL_SPREAD = 1e-9  # a range below this is rounding, not spread


@dataclass(frozen=True)
class ThresholdConfig:
    """How tau is found. The defaults are the paper's; `fixed` replaces the search by a given tau in [0, 1]."""

    fixed: float | None = None
    fallback: float = 0.7  # tau where the batch shows no two groups
    grid_points: int = 1000
    min_prominence: float = 0.01  # of the highest density
    min_rows: int = 30
    min_separation: float = 0.15  # between the two peaks, in normalised entropy
    min_suspects: int = 5  # rows above the valley
    min_suspect_fraction: float = 0.01
    weak_valley_ratio: float = 0.8  # valley / lower peak above this is weak evidence

    def __post_init__(self) -> None:
        OPTIONS["threshold"].check(self.fixed)
        OPTIONS["threshold"].check(self.fallback, "fallback threshold")


@dataclass(frozen=True)
class Peak:
    """A mode of the density: where, how high, and how far it stands out above the higher of its two saddles."""

    x: float
    height: float
    prominence: float


@dataclass(frozen=True)
class Threshold:
    """tau and everything that led to it.

    `method`: "valley" (found), "fallback" (not found, `reason` says why) or "fixed" (given by the user).
    `n`: finite entropies used; `ignored`: NaN and infinite ones. `grid`, `density`: the curve (empty where none can
    be drawn); `bandwidth`: h. `left_peak`, `right_peak`, `valley`: positions on the entropy axis, also where the
    valley was rejected; `valley_ratio`: density at the valley / at the lower of the two peaks. `suspects`: rows
    strictly above tau. `weak_evidence`: the valley is barely lower than the peaks.
    """

    tau: float
    method: Literal["valley", "fallback", "fixed"]
    reason: str
    n: int
    ignored: int
    suspects: int
    bandwidth: float | None = None
    peaks: tuple[Peak, ...] = ()
    left_peak: float | None = None
    right_peak: float | None = None
    valley: float | None = None
    valley_ratio: float | None = None
    weak_evidence: bool = False
    grid: tuple[float, ...] = ()
    density: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (no NaN); `from_dict` gives back an equal object."""
        return asdict(self) | {
            "peaks": [asdict(peak) for peak in self.peaks],
            "grid": list(self.grid),
            "density": list(self.density),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Threshold":
        return cls(
            **{
                **value,
                "peaks": tuple(Peak(**peak) for peak in value["peaks"]),
                "grid": tuple(value["grid"]),
                "density": tuple(value["density"]),
            }
        )


def find_threshold(entropies: np.ndarray, config: ThresholdConfig | None = None) -> Threshold:
    """The threshold for one batch.

    `entropies`: (N,) normalised spectral entropies; NaN and infinite values are counted and left out. The order of
    rows does not matter, to the last bit. Never raises on data: an empty or constant batch gets the fallback.
    """
    config = config or ThresholdConfig()
    entropies = np.asarray(entropies, dtype=np.float64).ravel()
    # Sorted, so that sums are made in one order whatever the order of the rows.
    values = np.sort(entropies[np.isfinite(entropies)])
    curve = _curve(values, config)
    tau, method, reason = _choose(values, curve, config)
    return Threshold(
        tau=tau,
        method=method,
        reason=reason,
        n=values.size,
        ignored=entropies.size - values.size,
        suspects=_above(values, tau),
        weak_evidence=curve.get("valley_ratio", 0.0) > config.weak_valley_ratio,
        **curve,
    )


def density_on_grid(values: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, float]:
    """Gaussian KDE of sorted `values` (N,), N >= 2 with spread, at `grid` (M,): the density (M,) and its bandwidth."""
    factor = 1.06 * values.size ** (-1 / 5)
    bandwidth = factor * float(np.std(values, ddof=1))
    if values.size <= EXACT_ROWS:
        return _gaussians(values, np.full(values.size, 1 / values.size), bandwidth, grid), bandwidth
    centres, weights = _binned(values)
    return _gaussians(centres, weights / weights.sum(), bandwidth, grid), bandwidth


def _gaussians(centres: np.ndarray, weights: np.ndarray, bandwidth: float, grid: np.ndarray) -> np.ndarray:
    """(M,) sum of weighted normal densities. Written out: scipy's own takes a second to import, for one formula."""
    density = np.zeros(grid.size)
    for at in range(0, centres.size, 1024):
        away = (grid[:, None] - centres[None, at : at + 1024]) / bandwidth
        density += np.exp(-0.5 * away * away) @ weights[at : at + 1024]
    return density / (bandwidth * np.sqrt(2 * np.pi))


def peaks_of(heights: np.ndarray, prominence: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices and prominences of the local maxima at least so prominent, as scipy.signal.find_peaks has them: a flat
    top counts at its middle, an end of `heights` (M,) never; a peak's prominence is how far it stands above the higher
    of the lowest points between it and higher ground on either side."""
    runs = np.flatnonzero(np.diff(heights, prepend=np.nan) != 0)  # where each run of equal heights begins
    levels = heights[runs]
    tops = 1 + np.flatnonzero((levels[1:-1] > levels[:-2]) & (levels[1:-1] > levels[2:]))
    found, above = [], []
    for top in tops:
        left, right = levels[:top][::-1], levels[top + 1 :]
        base = max(_lowest_before(side, levels[top]) for side in (left, right))
        if levels[top] - base >= prominence:
            found.append((runs[top] + runs[top + 1] - 1) // 2)
            above.append(levels[top] - base)
    return np.array(found, dtype=np.int64), np.array(above)


def _lowest_before(side: np.ndarray, level: float) -> float:
    """The lowest of the levels before the first that is higher."""
    higher = np.flatnonzero(side > level)
    return float(side[: higher[0] if higher.size else side.size].min())


def _binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear binning: each value shares its weight between its two neighbouring centres, which keeps the mean."""
    centres = np.linspace(values[0], values[-1], BINS)
    position = (values - values[0]) / (centres[1] - centres[0])
    left = np.clip(position.astype(np.int64), 0, BINS - 2)
    share = position - left
    weights = np.bincount(left, 1 - share, BINS) + np.bincount(left + 1, share, BINS)
    return centres[weights > 0], weights[weights > 0]


def _curve(values: np.ndarray, config: ThresholdConfig) -> dict[str, Any]:
    """Density, peaks and valley as fields of `Threshold`; empty where the values have no spread."""
    if values.size < 2 or values[-1] - values[0] < NIL_SPREAD:
        return {}
    grid = np.linspace(values[0], values[-1], config.grid_points)
    density, bandwidth = density_on_grid(values, grid)
    # Beyond the smallest and the largest value a sum of Gaussians only falls, to 0. Saying so to peaks_of, which by
    # itself never reports an end of its input, makes a maximum at the grid's end a peak and all prominences right.
    ends = np.concatenate(([0.0], density, [0.0]))
    indices, prominences = peaks_of(ends, config.min_prominence * density.max())
    indices -= 1
    peaks = tuple(
        Peak(float(grid[i]), float(density[i]), float(prominence))
        for i, prominence in zip(indices, prominences, strict=True)
    )
    curve: dict[str, Any] = {
        "grid": tuple(grid.tolist()),
        "density": tuple(density.tolist()),
        "bandwidth": bandwidth,
        "peaks": peaks,
    }
    if len(peaks) < 2:
        return curve
    left, right = _outer(grid, indices)
    between = density[left : right + 1]
    lows = np.flatnonzero(between == between.min())  # an empty gap is flat at 0: take its middle
    valley = left + lows[lows.size // 2]
    return curve | {
        "left_peak": float(grid[left]),
        "right_peak": float(grid[right]),
        "valley": float(grid[valley]),
        "valley_ratio": float(density[valley] / min(density[left], density[right])),
    }


def _outer(grid: np.ndarray, indices: np.ndarray) -> tuple[int, int]:
    """Grid positions of the peaks nearest 0 and nearest 1; leftmost and rightmost if those are the same peak."""
    left = indices[np.argmin(np.abs(grid[indices]))]
    right = indices[np.argmin(np.abs(grid[indices] - 1))]
    if left >= right:
        left, right = indices[0], indices[-1]
    return int(left), int(right)


def _choose(
    values: np.ndarray, curve: Mapping[str, Any], config: ThresholdConfig
) -> tuple[float, Literal["valley", "fallback", "fixed"], str]:
    """tau, how it was come by, and why."""
    if config.fixed is not None:
        return float(config.fixed), "fixed", "threshold given by the user"
    why = _why_no_valley(values, curve, config)
    if why:
        return config.fallback, "fallback", why
    left, right, ratio = curve["left_peak"], curve["right_peak"], curve["valley_ratio"]
    reason = f"lowest density between the peaks at {left:.3f} and {right:.3f} (valley / lower peak {ratio:.2f})"
    return curve["valley"], "valley", reason


def _why_no_valley(values: np.ndarray, curve: Mapping[str, Any], config: ThresholdConfig) -> str:
    """The first reason not to cut at the valley, in the paper's order; empty if there is none."""
    if values.size < config.min_rows:
        return f"only {values.size} scored rows, {config.min_rows} needed"
    if not curve:
        return "all entropies are equal"
    if len(curve["peaks"]) < 2:
        return "the density has one peak: no sign of two groups"
    distance = curve["right_peak"] - curve["left_peak"]
    if distance < config.min_separation:
        return f"the peaks are {distance:.3f} apart, {config.min_separation} needed"
    suspects = _above(values, curve["valley"])
    if suspects < config.min_suspects:
        return f"only {suspects} rows above the valley at {curve['valley']:.3f}, {config.min_suspects} needed"
    if suspects < config.min_suspect_fraction * values.size:
        share, needed = suspects / values.size, config.min_suspect_fraction
        return f"only {share:.2%} of the rows above the valley at {curve['valley']:.3f}, {needed:.0%} needed"
    return ""


def _above(values: np.ndarray, tau: float) -> int:
    """How many of the sorted values lie strictly above tau."""
    return int(values.size - np.searchsorted(values, tau, side="right"))
