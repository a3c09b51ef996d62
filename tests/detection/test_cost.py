"""The cost of an answer against answers as long: a score that poison of one length can't hide in."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import rankdata

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.similarity import cost_given_length

CONFIG = DetectionConfig()


def by_hand(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """How far each is off, a row at a time: all of its length and so many more on either side are near."""
    half, off = 2 * (max(CONFIG.computing.beside, len(nll) // CONFIG.computing.lengths) // 2), []
    for cost, length in zip(nll, tokens, strict=True):
        shorter = sorted((t, i) for i, t in enumerate(tokens) if t < length)[-half:]
        longer = sorted((t, -i) for i, t in enumerate(tokens) if t > length)[:half]
        near = [nll[i] for _, i in shorter] + [nll[-i] for _, i in longer] + list(nll[tokens == length])
        middle = np.median(near)
        off.append((cost - middle) / max(np.median(np.abs(near - middle)), CONFIG.computing.spread))
    return np.array(off)


def made(seed: int, of_one_length: int) -> tuple[np.ndarray, np.ndarray]:
    """150 honest answers of any length, and a dozen that cost three times as much."""
    rng = np.random.default_rng(seed)
    tokens = np.concatenate([rng.integers(10, 300, 150), np.full(of_one_length, 42)])
    return np.concatenate([rng.gamma(9, 0.2, 150), rng.gamma(60, 0.1, of_one_length)]), tokens


@pytest.mark.parametrize("seed", range(5))
def test_a_dozen_dear_answers_of_one_length_stand_out(seed):
    """Ranked among those nearest in length they would be one another's neighbours, and stand in the middle."""
    nll, tokens = made(seed, 12)
    score = cost_given_length(nll, tokens, CONFIG)
    assert (score[150:] > np.quantile(score[:150], 0.8)).all() and score[150:].mean() > 1.5


def test_among_answers_of_one_length_the_dear_ones_are_dear():
    """Labels: all that cost is their own neighbourhood."""
    nll = np.random.default_rng(0).permutation(np.linspace(1, 3, 101))
    score = cost_given_length(nll, np.full(101, 2), CONFIG)
    assert np.allclose(score, ndtri((rankdata(nll) - 0.5) / 101))


def test_by_hand_and_in_any_order():
    rng = np.random.default_rng(3)
    nll, tokens = rng.gamma(4, 0.5, 200), rng.permutation(200) // 2 * 2  # every length twice: of the ends no choice
    score = cost_given_length(nll, tokens, CONFIG)
    assert np.allclose(score, ndtri((rankdata(by_hand(nll, tokens)) - 0.5) / 200))
    order = rng.permutation(200)
    assert np.array_equal(cost_given_length(nll[order], tokens[order], CONFIG), score[order])


def test_what_was_not_scored_has_no_cost():
    nll, tokens = made(1, 12)
    nll[[3, 77]] = np.nan
    score = cost_given_length(nll, tokens, CONFIG)
    assert (score[[3, 77]] == 0).all() and np.isfinite(score).all()
    assert (cost_given_length(np.full(4, np.nan), np.arange(4), CONFIG) == 0).all()


def test_answers_that_all_cost_the_same_stand_nowhere():
    assert (cost_given_length(np.ones(50), np.arange(50), CONFIG) == 0).all()
