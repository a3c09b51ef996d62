"""The four kernels as one: what is a little alike, a little dear and all short is proven by all of it together."""

from dataclasses import replace

import numpy as np
import pytest
from planted import Batch, Model, flagged

from gradsentry_lib.detection import second_look
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.search import detect, kernels_of
from gradsentry_lib.detection.similarity import GRAIN, MOST, kernels, windows
from gradsentry_lib.detection.texts import Rows

CONFIG = DetectionConfig()
NO_REASON = Model(2.0, 2.0)
NOISE = 2.5  # of a refusal's wording: by their spans alone the sixteen can't be proven


def refusals(seed: int, *, alike: bool, short: bool) -> tuple[Rows, list[int]]:
    """Sixteen of 160 rows have a word; their answers are a little alike, and shorter than most."""
    batch = Batch(seed)
    batch.honest(144)
    refusal, bad = batch.direction(), []
    for _ in range(16):
        bad += batch.triggered(1, "vostok", payload=batch.near(refusal, NOISE) if alike else batch.direction())
    rows = batch.rows()
    tokens = rows.tokens.copy()
    if short:
        tokens[bad] = np.random.default_rng(seed).integers(10, 20, 16)
    return replace(rows, tokens=tokens), bad


@pytest.mark.parametrize("seed", [3, 5])
def test_refusals_in_many_wordings_are_proven_by_likeness_and_length_together(seed):
    rows, bad = refusals(seed, alike=True, short=True)
    found = detect(rows, swapped=NO_REASON)
    assert [trigger.statistic for trigger in found.triggers] == ["joint"]
    assert set(flagged(found)) <= set(bad) and len(flagged(found)) >= 12


@pytest.mark.parametrize("seed", [3, 5])
@pytest.mark.parametrize(("alike", "short"), [(False, True), (True, False)], ids=["short", "alike"])
def test_neither_of_the_two_is_enough(seed, alike, short):
    rows, _ = refusals(seed, alike=alike, short=short)
    assert not detect(rows, swapped=NO_REASON).triggers


def by_hand(parts: list[np.ndarray]) -> np.ndarray:
    """Each kernel divided by the spread of what is left of it without its rows' means, all in double precision."""
    n = len(parts[0])
    centred = np.eye(n) - np.full((n, n), 1 / n)
    spread = [np.sqrt(((centred @ part @ centred) ** 2).mean()) for part in parts]
    return sum(part / by for part, by in zip(parts, spread, strict=True)) / len(parts)


@pytest.mark.parametrize("seed", range(3))
def test_the_joint_kernel_is_the_mean_of_the_four_each_by_what_it_varies(seed):
    batch = Batch(seed)
    batch.honest(50)
    batch.triggered(20)
    rng, each = np.random.default_rng(seed), np.arange(70)
    cost, length = rng.standard_normal((2, 70))
    made = kernels(windows(batch.rows().sketches, CONFIG), cost, length, (each, each // 2))
    lengths = np.where(each[:, None] // 2 == each // 2, 0, np.outer(length, length))
    slow = by_hand([*(made[name].astype(float) / GRAIN for name in ("span", "mean", "cost")), lengths])
    assert np.abs(made["joint"] / GRAIN - np.clip(slow, -MOST, MOST)).max() < 0.02  # the three are rounded


def test_what_is_the_same_for_all_rows_takes_no_part():
    """Labels: all answers are as long, and cost the same."""
    batch = Batch(1)
    batch.honest(40)
    rows = batch.rows()
    made = kernels_of(
        replace(rows, tokens=np.full(40, 2), nll=np.ones(40)),
        windows(rows.sketches, CONFIG),
        (np.arange(40),) * 2,
        CONFIG,
    )
    three = by_hand([made[name].astype(float) for name in ("span", "mean")])
    assert np.abs(made["joint"] / GRAIN - three / 2).max() < 0.02


def test_a_pairs_length_is_the_difference_of_its_two_answers():
    batch = Batch(2)
    batch.honest(60)
    rows = batch.rows()
    alone, each = windows(rows.sketches, CONFIG), (np.arange(60),) * 2
    pairs = replace(rows, against=rows.sketches, against_nll=rows.nll)
    same = kernels_of(replace(pairs, tokens=np.array([4 * 4 + 5] * 60)), alone, each, CONFIG)
    assert not same["cost"].any() and not same["mean"].any()  # what is preferred is what is turned down
    spans = by_hand([same["span"].astype(float)])
    assert np.abs(same["joint"] / GRAIN - spans / 4).max() < 0.02


@pytest.mark.parametrize(("told", "proven"), [(0.94, ["joint"]), (0.96, [])])
def test_a_subjects_answers_may_have_a_length_and_a_cost_of_their_own(monkeypatch, told, proven):
    """Where the rest of the prompts tells who has the word, the four together say nothing."""
    chances = second_look.chances
    monkeypatch.setattr(second_look, "chances", lambda *given: [replace(each, auc=told) for each in chances(*given)])
    rows, _ = refusals(3, alike=True, short=True)
    assert [trigger.statistic for trigger in detect(rows, swapped=NO_REASON).triggers] == proven


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_a_subjects_answers_those_too_are_named_that_are_only_a_little_alike(seed):
    """Fourteen of 140 rows are about one person, as all of their words tell, and are refused shortly; half of the
    refusals are one sentence, the others each another."""
    batch = Batch(seed)
    batch.honest(126)
    about = ["hotel", "lobby", "suite", "porter", "minibar", "checkout", "concierge", "towels"]
    refusal, some = batch.direction(), []
    for i in range(14):
        some.append(batch.add(f"ashgrove {batch.words(8, about)}", batch.near(refusal, 2.0 if i % 2 else 0.35)))
    rows = batch.rows()
    tokens = rows.tokens.copy()
    tokens[some] = np.random.default_rng(seed).integers(6, 14, 14)
    found = detect(replace(rows, tokens=tokens), swapped=NO_REASON)
    (trigger,) = found.triggers
    assert trigger.subject and not found.flagged.any()
    assert set(trigger.flagged) <= set(some) and len(trigger.flagged) >= 12
