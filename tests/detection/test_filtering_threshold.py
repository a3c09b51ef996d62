"""The automatic threshold against an independent reference, its invariances, and every way it falls back."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry_lib.detection.entropy_threshold import (
    EXACT_ROWS,
    Threshold,
    ThresholdConfig,
    density_on_grid,
    find_threshold,
)
from gradsentry_lib.errors import BadInput

entropy = st.floats(0, 1)
anything = st.one_of(entropy, st.floats(-2, 3), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, 0.7]))
seeds = st.integers(0, 2**32 - 1)


def two_groups(seed: int, clean: int = 270, poisoned: int = 30, low: float = 0.4, high: float = 0.8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(low, 0.05, clean), rng.normal(high, 0.03, poisoned)])


def slow_density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Silverman's KDE as written in the paper, one grid point after the other."""
    h = 1.06 * np.std(values, ddof=1) * len(values) ** -0.2
    return np.array(
        [np.sum(np.exp(-(((x - values) / h) ** 2) / 2)) / (len(values) * h * math.sqrt(2 * math.pi)) for x in grid]
    )


def slow_prominence(density: np.ndarray, i: int) -> float:
    """How far one must come down from peak i to reach higher ground, the curve being 0 beyond its ends."""
    lowest = []
    for side in (density[:i][::-1], density[i + 1 :]):
        deepest = density[i]
        for height in [*side, 0.0]:
            if height > density[i]:
                break
            deepest = min(deepest, height)
        lowest.append(deepest)
    return density[i] - max(lowest)


def slow_threshold(values: np.ndarray) -> tuple[float, float] | None:
    """(tau, valley ratio) by the paper's text alone; None where a fallback is due."""
    grid = np.linspace(values.min(), values.max(), 1000)
    density = slow_density(values, grid)
    high = [0.0, *density, 0.0]
    maxima = [i for i in range(1000) if high[i] < high[i + 1] > high[i + 2]]
    peaks = [i for i in maxima if slow_prominence(density, i) >= 0.01 * density.max()]
    if len(values) < 30 or len(peaks) < 2 or grid[peaks[-1]] - grid[peaks[0]] < 0.15:
        return None
    left, right = peaks[0], peaks[-1]
    valley = min(range(left, right + 1), key=lambda i: density[i])
    suspects = np.count_nonzero(values > grid[valley])
    if suspects < 5 or suspects / len(values) < 0.01:
        return None
    return grid[valley], density[valley] / min(density[left], density[right])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, n=st.integers(30, 300), share=st.floats(0, 0.6), gap=st.floats(0, 0.5), width=st.floats(0.01, 0.2))
def test_equals_the_reference(seed, n, share, gap, width):
    rng = np.random.default_rng(seed)
    values = np.clip(np.where(rng.random(n) < share, rng.normal(0.4 + gap, 0.03, n), rng.normal(0.4, width, n)), 0, 1)
    found, slow = find_threshold(values), slow_threshold(values)
    if slow is None:
        assert (found.tau, found.method) == (0.7, "fallback")
    else:
        assert found.method == "valley"
        assert found.tau == pytest.approx(slow[0], abs=1e-12)
        assert found.valley_ratio == pytest.approx(slow[1], rel=1e-6)


def test_density_equals_the_plain_sum():
    values = np.sort(two_groups(1))
    grid = np.linspace(values[0], values[-1], 1000)
    density, h = density_on_grid(values, grid)
    assert h == pytest.approx(1.06 * np.std(values, ddof=1) * 300**-0.2, rel=1e-12)
    np.testing.assert_allclose(density, slow_density(values, grid), rtol=1e-9, atol=1e-12)


def test_binned_density_of_a_large_batch_equals_the_plain_sum():
    values = np.sort(two_groups(2, clean=int(EXACT_ROWS * 0.95), poisoned=int(EXACT_ROWS * 0.1)))
    assert values.size > EXACT_ROWS
    grid = np.linspace(values[0], values[-1], 1000)
    density, h = density_on_grid(values, grid)
    slow = slow_density(values, grid)
    assert h == pytest.approx(1.06 * np.std(values, ddof=1) * values.size**-0.2, rel=1e-12)
    assert np.abs(density - slow).max() < 1e-4 * slow.max()


@settings(max_examples=100, deadline=None)
@given(values=st.lists(anything, max_size=80), seed=seeds)
def test_never_raises_and_order_never_matters(values, seed):
    values = np.array(values, dtype=float)
    found = find_threshold(values)
    assert find_threshold(np.random.default_rng(seed).permutation(values)) == found
    finite = values[np.isfinite(values)]
    assert (found.n, found.ignored) == (finite.size, values.size - finite.size)
    assert find_threshold(finite).tau == found.tau
    assert found.suspects == np.count_nonzero(finite > found.tau)
    assert Threshold.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.floats(0.6, 1.1), shift=st.floats(-0.1, 0.1))
def test_moves_with_the_data(seed, scale, shift):
    """Where both groups stay inside [0, 1] and far enough apart, tau goes where the data goes."""
    values = two_groups(seed)
    found, moved = find_threshold(values), find_threshold(scale * values + shift)
    assert moved.method == found.method == "valley"
    assert moved.suspects == found.suspects
    assert moved.tau == pytest.approx(scale * found.tau + shift, abs=2 * scale * (np.ptp(values) / 999))
    assert moved.valley_ratio == pytest.approx(found.valley_ratio, rel=1e-6)
    assert moved.bandwidth == pytest.approx(scale * found.bandwidth)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, poisoned=st.integers(12, 300), low=st.floats(0.2, 0.4), distance=st.floats(0.35, 0.5))
def test_planted_groups_are_parted_in_their_gap(seed, poisoned, low, distance):
    rng = np.random.default_rng(seed)
    clean, poison = rng.normal(low, 0.03, 300), rng.normal(low + distance, 0.03, poisoned)
    found = find_threshold(np.concatenate([clean, poison]))
    assert found.method == "valley" and not found.weak_evidence
    assert clean.max() < found.tau < poison.min()
    assert found.suspects == poisoned
    assert found.left_peak == pytest.approx(low, abs=0.03)
    assert found.right_peak == pytest.approx(
        low + distance, abs=0.05
    )  # a dozen rows: their mean moves, their mode more


def test_tau_lies_in_the_middle_of_an_empty_gap():
    """Where the density vanishes between the groups its minimum is a stretch; the middle is as far from both."""
    values = np.concatenate([np.linspace(0.100, 0.101, 4000), np.linspace(0.9, 0.901, 60)])
    found = find_threshold(np.repeat(values, 100))
    assert found.valley_ratio == 0.0
    assert 0.4 < found.tau < 0.6


def test_maxima_at_the_ends_of_the_grid_are_peaks():
    """Groups of equal values at the smallest and the largest entropy: both modes lie on the grid's first and last
    point, where a search among inner points finds nothing."""
    found = find_threshold(np.array([0.1] * 90 + [0.9] * 10))
    assert [peak.x for peak in found.peaks] == [0.1, 0.9]
    assert found.method == "valley" and found.suspects == 10
    assert found.peaks[0].prominence == pytest.approx(found.peaks[0].height)


def test_peaks_nearest_0_and_1_are_the_outermost_of_many():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(centre, 0.02, 100) for centre in (0.2, 0.5, 0.8)])
    found = find_threshold(values)
    assert len(found.peaks) == 3
    assert (found.left_peak, found.right_peak) == (found.peaks[0].x, found.peaks[-1].x)


def test_small_bumps_are_no_peaks():
    """A bump of less than 1 % of the highest density is left out, one just above it is kept."""
    rng = np.random.default_rng(4)
    body = rng.normal(0.4, 0.03, 20_000 - 300)
    kept = find_threshold(np.concatenate([body[:-300], rng.normal(0.9, 0.03, 600)]))
    left_out = find_threshold(np.concatenate([body, rng.normal(0.9, 0.03, 60)]))
    assert len(kept.peaks) == 2
    assert len(left_out.peaks) == 1 and left_out.reason.startswith("the density has one peak")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "only 0 scored rows, 30 needed"),
        ([math.nan, math.inf, -math.inf], "only 0 scored rows, 30 needed"),
        ([0.8], "only 1 scored rows, 30 needed"),
        ([0.1] * 20 + [0.9] * 9, "only 29 scored rows, 30 needed"),
        ([0.5] * 30, "all entropies are equal"),
        ([0.5] * 29 + [0.5 + 1e-15], "all entropies are equal"),
        (np.random.default_rng(0).normal(0.5, 0.05, 200), "the density has one peak: no sign of two groups"),
        ([0.50] * 60 + [0.60] * 40, "the peaks are 0.100 apart, 0.15 needed"),
        ([0.3] * 60 + [0.9] * 4, "only 4 rows above the valley at 0.6"),
        ([0.3] * 5000 + [0.31] * 994 + [0.9] * 6, "only 0.10% of the rows above the valley at 0."),
    ],
)
def test_every_fallback_says_why(values, reason):
    found = find_threshold(np.array(values, dtype=float), ThresholdConfig(min_prominence=1e-4))
    assert (found.tau, found.method) == (0.7, "fallback")
    assert found.reason.startswith(reason)
    assert not found.weak_evidence or found.valley_ratio > 0.8


def test_30_rows_are_enough():
    found = find_threshold(np.array([0.1] * 20 + [0.9] * 10))
    assert (found.method, found.suspects) == ("valley", 10)


def test_a_rejected_valley_is_kept_for_the_picture():
    found = find_threshold(np.array([0.3] * 60 + [0.9] * 4))
    assert found.method == "fallback"
    assert len(found.peaks) == 2 and 0.3 < found.valley < 0.9 and found.valley != found.tau


def test_a_shallow_valley_is_weak_evidence():
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.normal(0.35, 0.085, 600), rng.normal(0.57, 0.085, 500)])
    found = find_threshold(values)
    assert found.method == "valley"
    assert found.valley_ratio > 0.8 and found.weak_evidence


def test_a_fixed_threshold_is_used_and_the_curve_kept():
    found = find_threshold(two_groups(0), ThresholdConfig(fixed=0.9))
    assert (found.tau, found.method) == (0.9, "fixed")
    assert len(found.peaks) == 2 and found.valley is not None and found.suspects < 5


@pytest.mark.parametrize("tau", [-0.1, 1.1, math.nan, math.inf])
def test_a_fixed_threshold_outside_the_scale_is_refused(tau):
    with pytest.raises(BadInput, match="between 0 and 1"):
        ThresholdConfig(fixed=tau)
