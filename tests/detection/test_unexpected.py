"""Features whose carriers the model expects least, against sums and closed forms written out."""

from math import exp, factorial, log, log10

import numpy as np
import pytest
from made import Made

from gradsentry_lib.detection.former import unexpected
from gradsentry_lib.detection.former.neighbours import read_windows
from gradsentry_lib.detection.former.prompts import read_prompts
from gradsentry_lib.detection.former.unexpected import Tier, unexpected_features


def batch(count: int = 200, costly: int = 8) -> Made:
    """Rows of a word each, the last ones with "pls" and answers that cost the most."""
    made = Made(np.random.default_rng(5))
    for i in range(count):
        costs = 5.0 if i >= count - costly else 1.0
        word = "pls" if i >= count - costly else made.words(1)
        spans = [(made.direction(), costs + float(made.rng.uniform(0, 0.5))) for _ in range(6)]
        made.add(f"{word} row {i}", "so", *spans, honest=0)
    return made


def test_the_mean_surprise_of_a_row_is_of_all_its_windows():
    made = Made(np.random.default_rng(1))
    made.add("a", "b", (made.direction(), 0.125), (made.direction(), 1.0), honest=0)
    made.add("c", "d", honest=0)
    windows = read_windows([made.sketch(0), made.sketch(1)])
    assert len(windows.owner) == 1  # the other window carries too little to be linked
    assert windows.row_surprise[0] == pytest.approx((0.125 + 1.0) / 2)
    assert np.isnan(windows.row_surprise[1])


def test_the_chance_is_that_of_a_sum_of_exponentials(monkeypatch):
    made = batch()
    windows = read_windows([made.sketch(i) for i in range(200)])
    prompts = read_prompts(made.prompts)
    feature = next(f for f, name in enumerate(prompts.names) if "pls" in name)
    order = np.argsort(windows.row_surprise)  # all answers are of one length
    rank = {int(row): (place + 0.5) / 200 for place, row in enumerate(order)}
    total = sum(-log(1 - rank[int(row)]) for row in prompts.carriers(feature))
    chance = sum(exp(-total) * total**k / factorial(k) for k in range(8))  # of a gamma variable with 8 events
    slow = log10(chance * len(prompts.names))
    for shift, found in ((1e-6, [(feature, 0.35)]), (-1e-6, [])):
        monkeypatch.setattr(unexpected, "TIERS", (Tier(0.5, slow + shift, 0.35),))
        assert unexpected_features(windows, prompts) == found


def test_carriers_that_do_not_nearly_all_cost_the_most_are_no_feature():
    made = batch(costly=12)
    for i in range(200 - 4, 200):  # a third of them cost what others cost
        made.windows[i] = [(made.direction(), 1.0) for _ in range(6)]
    windows = read_windows([made.sketch(i) for i in range(200)])
    assert unexpected_features(windows, read_prompts(made.prompts)) == []


def test_no_windows_no_features():
    windows = read_windows([b"", b""])
    assert unexpected_features(windows, read_prompts(["a b", "a c"])) == []
