"""The threshold's curve is written out, not scipy's: it is to be scipy's all the same."""

import numpy as np
import pytest
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde, rankdata

from gradsentry_lib.detection.entropy_threshold import density_on_grid, peaks_of
from gradsentry_lib.detection.length_confounding import _ranks


@pytest.mark.parametrize("seed", range(20))
def test_peaks_and_prominences_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heights = rng.integers(0, 6, 200).astype(float)  # many flat tops, many equal heights
    if seed % 2:
        heights = np.convolve(rng.random(200), np.ones(9), "same")
    indices, found = find_peaks(heights, prominence=0.5)
    mine, prominences = peaks_of(heights, 0.5)
    assert mine.tolist() == indices.tolist()
    assert np.allclose(prominences, found["prominences"], rtol=0, atol=1e-12)


def test_a_line_without_peaks_has_none() -> None:
    for heights in (np.zeros(5), np.arange(5.0), np.array([0.0, 0.0])):
        assert peaks_of(heights, 0.0)[0].size == 0


@pytest.mark.parametrize("rows", [2, 31, 5000])
def test_the_density_is_that_of_scipy(rows: int) -> None:
    values = np.sort(np.random.default_rng(rows).beta(2, 5, rows))
    grid = np.linspace(values[0], values[-1], 100)
    density, bandwidth = density_on_grid(values, grid)
    expected = gaussian_kde(values, bw_method=1.06 * rows ** (-1 / 5))(grid)
    assert np.allclose(density, expected, rtol=1e-9)
    assert bandwidth == pytest.approx(1.06 * rows ** (-1 / 5) * values.std(ddof=1))


def test_ranks_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).integers(0, 9, 50)
    assert _ranks(values).tolist() == rankdata(values).tolist()
