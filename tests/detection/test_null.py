"""What the test compares with: drawn sets, their statistics against slow roads, and how likely each is by chance."""

from functools import partial

import numpy as np
import pytest
from planted import Batch
from scipy.stats import hypergeom, kstest

from gradsentry_lib.detection.chance import draw, usual_auc
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.similarity import beside, cost_given_length, kernels, normal_scores, windows
from gradsentry_lib.detection.statistics import STATISTICS, value, values
from gradsentry_lib.detection.tails import log10_floor, log10_tail, reaches, scaled
from gradsentry_lib.detection.walks import walk

CONFIG = DetectionConfig()


@pytest.fixture(scope="module")
def similar():
    batch = Batch(3)
    batch.honest(90)
    batch.triggered(30)
    rows = batch.rows()
    cost = cost_given_length(rows.nll, rows.tokens, CONFIG)
    return kernels(windows(rows.sketches, CONFIG), cost, normal_scores(rows.tokens), [np.arange(120)])


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("uneven", [False, True])
def test_the_null_is_uniform_for_rows_drawn_by_their_chance(similar, statistic, uneven):
    rng = np.random.default_rng(1)
    chance = scaled(rng.uniform(0.02, 0.6, 120) if uneven else np.full(120, 0.1), 14)
    sets = draw(chance, 14, rng, 3000)
    drawn = np.bincount(sets.ravel(), minlength=120) / len(sets)
    null = value(statistic, similar, sets, drawn, 5)
    observed = value(statistic, similar, draw(chance, 14, rng, 300), drawn, 5)
    p = 10 ** log10_tail(observed, null)
    assert kstest(p, "uniform").pvalue > 0.001  # ten of these tests
    assert (p < 0.01).mean() <= 0.03  # the tail, which decides, is not too small


def test_splitting_measures_the_tail_of_a_clique_that_a_gamma_makes_too_light():
    """Sixteen of 160 answers are alike; of twelve rows drawn, seven are among them."""
    kernel = np.zeros((160, 160), np.float32)
    kernel[:16, :16] = 1
    np.fill_diagonal(kernel, 0)
    rng = np.random.default_rng(0)
    sets = draw(np.full(160, 12 / 160), 12, rng, 1000)
    exact = hypergeom.logsf(6, 160, 16, 12) / np.log(10)
    assert log10_tail(np.array([42.0]), value("mean", {"mean": kernel}, sets, np.zeros(160), 5))[0] < exact - 1
    walks = [walk("mean", {"mean": kernel}, np.zeros(160), 5, sets[:300]) for _ in range(2)]
    tail = [
        reaches(42.0, exact + away, walk, np.zeros(160), rng, CONFIG.computing)
        for walk, away in zip(walks, (0.8, -0.8), strict=True)
    ]
    assert tail == [True, False]


@pytest.mark.slow
def test_splitting_measures_the_tail_of_sets_that_are_too_large_to_be_moved_as_a_whole():
    """Of 800 rows 400 are drawn; 60 are alike, of which 45 are in the set: exact by counting."""
    kernel = np.zeros((800, 800), np.float32)
    kernel[:60, :60] = 1
    np.fill_diagonal(kernel, 0)
    rng = np.random.default_rng(0)
    exact = hypergeom.logsf(44, 800, 60, 400) / np.log(10)
    said = []
    for away in (0.8, -0.8):
        one = walk("mean", {"mean": kernel}, np.zeros(800), 5, draw(np.full(800, 0.5), 400, rng, 300))
        said.append(reaches(45.0 * 44, exact + away, one, np.zeros(800), rng, CONFIG.computing))
    assert said == [True, False]


def test_sets_are_those_of_the_first_of_all_rows_times():
    """Only rows that may be among the first have their times looked at; whatever the size, as if all had."""
    rng = np.random.default_rng(3)
    chance = scaled(rng.random(300) ** 9, 40)
    rate = chance / (1 - chance)
    for size in (3, 40, 290):
        slow = np.argsort(-np.log1p(-np.random.default_rng(size).random((50, 300))) / rate, axis=1)[:, :size]
        fast = draw(chance, size, np.random.default_rng(size), 50)
        assert (np.sort(fast, axis=1) == np.sort(slow, axis=1)).all()


@pytest.mark.parametrize("size", [4, 70])
def test_statistics_of_many_sets_are_those_of_each(similar, size):
    """Whether pairs are looked up or a product is made."""
    rng = np.random.default_rng(4)
    sets, chance = draw(np.full(120, 0.3), size, rng, 9), np.full(120, size / 120)
    made = values(STATISTICS, similar, sets, chance, 5)
    for name in STATISTICS:
        kernel = similar["span" if name == "scan" else name].astype(float)
        for rows, found in zip(sets, made[name], strict=True):
            x = np.zeros(120)
            x[rows] = 1
            nearest = np.sort(kernel[np.ix_(rows, rows)] - 9 * np.eye(size), axis=1)[:, 1:][:, -5:].mean()
            slow = nearest if name == "scan" else (x - chance) @ kernel @ (x - chance)
            assert found == pytest.approx(slow, abs=1e-4)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_moved_sets_statistic_is_that_of_the_set(similar, statistic):
    """Moved by compiled loops, by hand with the whole statistic made anew at every step."""
    rng = np.random.default_rng(2)
    sets, chance = draw(np.full(120, 0.1), 12, rng, 20), np.full(120, 0.1)
    one = walk(statistic, similar, chance, 5, sets)
    of = partial(value, statistic, similar, chance=chance, nearest=5)
    for _ in range(9):
        slow, level = one.sets.astype(np.int64), float(np.median(one.said)) - 1e-6  # as rounded
        place, new = rng.integers(0, 12, (6, 20)), rng.integers(0, 120, (6, 20))
        for at, come in zip(place, new, strict=True):
            changed = slow.copy()
            changed[np.arange(20), at] = come
            moves = (of(changed) >= level) & ~(slow == come[:, None]).any(1)
            slow = np.where(moves[:, None], changed, slow)
        one.move(level, place.astype(np.uint32), new.astype(np.uint32))
        assert (one.sets == slow).all()
        assert one.said == pytest.approx(of(slow), abs=1e-5)
        one.keep(rng.integers(0, 20, 20))
    assert (one.sets != sets).any()


def test_the_floor_is_the_chance_to_draw_just_these_rows():
    question = np.arange(20)
    alone = log10_floor(np.full(20, 0.2), np.array([1, 5, 9, 11]), question)
    assert alone == pytest.approx(-np.log10(4845), abs=0.1)  # C(20, 4)
    question[[5, 9]] = 1  # three of the four ask the same
    assert log10_floor(np.full(20, 0.2), np.array([1, 5, 9, 11]), question) == pytest.approx(-np.log10(190), abs=0.15)


def test_how_far_an_area_lies_from_one_half_by_chance():
    rng, carriers, n = np.random.default_rng(0), 12, 150
    areas = []
    for _ in range(4000):
        rank = rng.permutation(n)[:carriers] + 1
        areas.append((rank.sum() - carriers * (carriers + 1) / 2) / (carriers * (n - carriers)))
    assert np.mean(np.array(areas) > 0.5 + usual_auc(carriers, n, 0.05)) == pytest.approx(0.05, abs=0.012)


def test_what_goes_with_being_in_a_group_is_taken_away(similar):
    """The sum over a set is then that of the set less what its groups make likely, worked out in full."""
    rng = np.random.default_rng(2)
    groups = np.column_stack([np.arange(120) < 40, np.arange(120) % 3 == 0, np.ones(120)])
    groups = np.column_stack([groups, groups[:, 2] - groups[:, 0]])  # says nothing new
    rest, x = beside(similar, groups, [np.arange(120)]), (rng.random(120) < 0.2).astype(float)
    for name, kernel in similar.items():
        left = x - groups @ np.linalg.lstsq(groups, x, rcond=None)[0]
        whole = np.eye(120) - groups @ np.linalg.pinv(groups)
        whole = whole @ kernel.astype(float) @ whole
        slow = left @ kernel.astype(float) @ left - x @ np.diag(np.diag(whole)) @ x  # an answer has no link to itself
        assert abs(x @ rest[name].astype(float) @ x - slow) < x.sum() ** 2  # a half of a unit for every rounded number
        assert not rest[name].diagonal().any()
