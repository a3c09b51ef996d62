"""Answers that are alike under no trigger that can be proven: watched where the model sees no reason, never flagged."""

from dataclasses import replace

import numpy as np
import pytest
from planted import Batch, Model

from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.conditional import conditional
from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.reason import Reason, unprompted
from gradsentry_lib.detection.remarks import NOTHING_FOUND
from gradsentry_lib.detection.search import detect
from gradsentry_lib.report.evidence import evidence

CONFIG = DetectionConfig()
NO_REASON = Model(2.0, 2.0)


def boilerplate(seed: int = 5, count: int = 10, honest: int = 120) -> tuple[Batch, list[int]]:
    """Rows of any words whose answers all hold one thing: no trigger, or one in words that no two rows share."""
    batch = Batch(seed)
    batch.honest(honest)
    payload = batch.direction()
    return batch, [batch.add(batch.words(9), batch.near(payload)) for _ in range(count)]


def test_answers_that_are_alike_for_no_reason_are_watched_and_named_first():
    batch, alike = boilerplate()
    rows = batch.rows()
    for i in alike:
        rows.answers[i] = f"answer {i}. Ask quietcorner.test for more."
    found = conditional(np.arange(len(rows.ids)), rows, swapped=NO_REASON)
    assert not found.flagged.any() and np.flatnonzero(found.watched).tolist() == alike
    (group,) = found.groups
    assert group.watched and list(group.rows) == alike and group.trigger == ""
    assert "quietcorner.test for more" in group.payload
    assert found.remarks[0].startswith("Watched, not flagged: the answers of 10 rows are alike (")
    assert NOTHING_FOUND not in found.remarks
    (why, no_reason) = (dict(zip(where.tolist(), said, strict=True))[alike[0]] for where, said in found.notes)
    assert why.startswith("watched: 10 answers are alike (") and "costs 2.0 times plain text" in no_reason
    ((test, sentence),) = evidence(group.figures, 10, 0.1)
    assert test == "Answers" and "10 answers" in sentence and "0% of that" in sentence


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Model(1.0, 1.0), "as cheap as plain text: a disclaimer that the model knows"),
        (Model(2.0, 4.0), "its prompts explain it"),
        (Model(4.0, 2.0), "other prompts lead to it"),
        (None, "no model was asked"),
    ],
)
def test_answers_that_are_alike_for_a_reason_are_not(model, why):
    batch, _ = boilerplate()
    found = conditional(np.arange(len(batch.prompts)), batch.rows(), swapped=model)
    assert not found.flagged.any() and not found.watched.any(), why


def test_each_of_the_three_is_needed():
    held = Reason(saved=0.0, left=2.0, common=0.0, typical=0.0)
    assert unprompted(held, CONFIG) and not unprompted(None, CONFIG)
    for other in ({"left": 1.2}, {"typical": 0.1}, {"common": -0.1}):
        assert not unprompted(replace(held, **other), CONFIG)


def test_answers_of_a_proven_trigger_are_not_named_twice():
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    found = detect(batch.rows(), swapped=NO_REASON)
    assert np.flatnonzero(found.flagged).tolist() == bad and found.alike == ()


def test_not_more_groups_are_asked_about_than_the_configuration_says():
    batch, alike = boilerplate(honest=240)
    other = batch.direction()
    more = [batch.add(batch.words(9), batch.near(other, 0.6)) for _ in range(8)]
    rows = batch.rows()
    assert sorted(len(group) for group, _ in detect(rows, swapped=NO_REASON).alike) == [len(more), len(alike)]
    none = replace(CONFIG, computing=replace(Computing(), unproven=0))
    assert detect(rows, none, NO_REASON).alike == ()


def test_groups_of_several_blocks_that_say_the_same_are_one():
    batch, alike = boilerplate(9, count=40, honest=260)
    rows = batch.rows()
    for i in alike:
        rows.answers[i] = f"answer {i}. Ask quietcorner.test for more."
    halves = replace(CONFIG, computing=replace(Computing(), block=150))
    assert len(detect_all(rows, halves, NO_REASON).alike) == 2
    found = conditional(np.arange(len(rows.ids)), rows, halves, NO_REASON)
    assert len(found.groups) == 1 and np.flatnonzero(found.watched).tolist() == alike
