"""The threshold picture: a small PNG whatever the batch, the same in any order, its bars true to the threshold."""

import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gradsentry_lib.detection.entropy_threshold import ThresholdConfig, find_threshold
from gradsentry_lib.report.plot import axis_range, caption, histogram, threshold_png

rng = np.random.default_rng(0)
BATCHES = {
    "none": np.array([]),
    "one": np.array([0.5]),
    "unscored": np.full(3, np.nan),
    "constant": np.full(50, 0.3),
    "two groups": np.concatenate([rng.beta(6, 9, 2700), rng.normal(0.78, 0.03, 300)]),
    "saturated": rng.beta(30, 5, 1000),
    "outside the scale": np.array([-0.4, 0.5, 1.7]),
    "uniform": rng.random(30_000),
}


@pytest.mark.parametrize("values", BATCHES.values(), ids=BATCHES.keys())
def test_every_batch_has_a_picture_that_fits_metadata(values):
    picture = threshold_png(values, find_threshold(values))
    assert len(picture) < 50_000 * 3 // 4  # base64 makes 4 bytes of 3
    assert Image.open(io.BytesIO(picture)).size == (900, 450)


@pytest.mark.parametrize("tau", [0.0, 0.02, 0.97, 1.0])
def test_a_threshold_at_the_edge_keeps_its_labels_inside(tau):
    values = BATCHES["two groups"]
    assert len(threshold_png(values, find_threshold(values, ThresholdConfig(fixed=tau)))) > 1000


def test_the_picture_does_not_depend_on_order_and_shows_the_threshold():
    values = BATCHES["uniform"]
    picture = threshold_png(values, find_threshold(values))
    assert threshold_png(rng.permutation(values), find_threshold(values)) == picture
    assert threshold_png(values, find_threshold(values, ThresholdConfig(fixed=0.3))) != picture


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0, 1))
def test_no_bar_straddles_the_threshold_and_none_is_lost(values, tau):
    values = np.array(values)
    edges, heights = histogram(values, tau, *axis_range(values))
    assert np.abs(edges - tau).min() < 1e-12
    counts = heights * values.size * (edges[1] - edges[0])
    assert counts.sum() == pytest.approx(values.size)
    above = counts[edges[:-1] >= tau - 1e-12].sum()
    at = np.count_nonzero(np.abs(values - tau) < 1e-9)  # rows on the edge itself may fall on either side
    assert above == pytest.approx(np.count_nonzero(values >= tau), abs=at + 1e-6)


def test_the_caption_says_how_the_threshold_came_about():
    title, how = caption(find_threshold(BATCHES["two groups"]))
    assert re.fullmatch(r"\d+ of 3,000 scored rows \(1\d\.\d%\) above τ = 0\.6\d\d", title)
    assert how.startswith("Found: lowest density between")
    assert caption(find_threshold(BATCHES["none"]))[0] == "0 of 0 scored rows above τ = 0.700"
