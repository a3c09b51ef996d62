"""Tails from scipy.special agree with scipy.stats where that has digits, and go on where it has none."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import false_discovery_control, gamma, hypergeom, norm, rankdata

from gradsentry_lib.detection.distributions import (
    discovery_rates,
    last_ranks,
    log_sf_gamma,
    log_sf_hypergeometric,
    log_sf_normal,
    mean_ranks,
)


def test_tails_are_those_of_scipy():
    z = np.linspace(-3, 30, 40)
    assert log_sf_normal(z) == pytest.approx(norm.logsf(z), rel=1e-10)
    for shape in (0.3, 1.0, 4.7, 200.0):
        x = np.linspace(-1, shape + 60, 60)
        assert log_sf_gamma(x, shape, 1.5) == pytest.approx(gamma.logsf(x, shape, scale=1.5), rel=1e-9, abs=1e-12)
    for inside in (0, 3, 6, 9):
        assert log_sf_hypergeometric(inside, 160, 16, 12) == pytest.approx(hypergeom.logsf(inside - 1, 160, 16, 12))
    assert log_sf_hypergeometric(13, 160, 16, 12) == -np.inf


def test_a_gammas_tail_goes_on_where_the_probability_is_rounded_to_nothing():
    x = np.linspace(600, 3000, 50)
    far = log_sf_gamma(x, 7.3, 1.0)
    assert np.isfinite(far).all() and (np.diff(far) < 0).all()
    assert np.abs(np.diff(far, 2)).max() < 0.5  # no step where one formula takes over from the other
    assert far[-1] == pytest.approx(-3000 + 6.3 * np.log(3000) - 7.087, abs=0.1)  # ln Gamma(7.3) = 7.087


def test_ranks_and_rates_are_those_of_scipy():
    values = np.random.default_rng(0).integers(0, 9, 40) / 10
    assert mean_ranks(values).tolist() == rankdata(values).tolist()
    assert last_ranks(values).tolist() == rankdata(values, method="max").tolist()
    assert discovery_rates(values / 10) == pytest.approx(false_discovery_control(values / 10))


def test_the_test_is_imported_and_run_without_scipy_stats():
    code = (
        "import sys, numpy as np; from gradsentry_lib.detection import policies, search, members, trigger, tails;"
        "tails.log10_tail(np.array([9.0]), np.random.default_rng(0).exponential(size=99));"
        "assert 'scipy.stats' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
