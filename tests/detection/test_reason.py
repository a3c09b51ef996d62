"""The third clause: what the model sees a reason for, and what it is asked."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from planted import Batch, Model, flagged

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.reason import Reason, commonest_window, explained
from gradsentry_lib.detection.search import detect
from gradsentry_lib.detection.second_look import is_poison

NO_REASON = Model(2.0, 2.0)
CONFIG = DetectionConfig()


def test_what_the_model_sees_a_reason_for_is_left_alone():
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    assert flagged(detect(batch.rows(), swapped=Model(2.0, 2.05))) == bad
    found = detect(batch.rows(), swapped=Model(1.0, 2.0))
    assert flagged(found) == []
    assert found.triggers[0].reason.saved == pytest.approx(0.5)
    assert not found.triggers[0].poison


def test_the_model_is_asked_about_rows_without_the_trigger_only():
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    rows, model = batch.rows(), Model(2.0, 2.0)
    detect(rows, swapped=model)
    carriers = {rows.ids[i] for i in bad}
    assert model.asked
    for answer, prompt, shown in model.asked:
        assert answer in carriers
        assert prompt == answer or prompt not in carriers
        assert len(shown) == 4 and not carriers & set(shown)


def test_the_model_is_asked_under_prompts_of_other_conversations():
    """A later turn of the same one shows the answer that it is asked for."""
    batch = Batch(7)
    batch.honest(120)
    batch.triggered(12)
    rows, model = batch.rows(), Model(2.0, 2.0)
    of = np.argsort(np.argsort(rows.ids)) // 2  # two neighbours in the order of ids are one conversation
    detect(replace(rows, row=of), swapped=model)
    row = dict(zip(rows.ids, of.tolist(), strict=True))
    assert model.asked
    for answer, prompt, shown in model.asked:
        assert prompt == answer or row[prompt] != row[answer]
        assert row[answer] not in {row[one] for one in shown}


def test_a_word_put_into_any_prompts_needs_more_of_a_reason():
    """A payload may seem a little likelier after its trigger; an instruction that is understood is expected then."""
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    rows = batch.rows()
    found = detect(rows, swapped=NO_REASON)
    assert flagged(found) == bad and found.triggers[0].inserted
    half = (CONFIG.reason + CONFIG.instruction[1]) / 2
    for said, poison, watched in (
        (Reason(half, 1.8, 0.05, 0.05), True, False),
        (Reason(half, 1.8, 0.05, 0.12), False, True),  # what most of them share is explained
        (Reason(half, 1.3, 0.05, 0.05), False, True),  # no surprise
        (Reason(0.33, 1.8, 0.05, 0.05), False, False),  # much of it gone
    ):
        trigger = replace(found.triggers[0], reason=said)
        trigger = replace(trigger, poison=is_poison(trigger, CONFIG))
        assert (trigger.poison, trigger.unexplained(CONFIG)) == (poison, watched)
    little = replace(found.triggers[0], reason=Reason(half, 1.8, 0.05, 0.05))
    assert CONFIG.reason < little.reason.saved < little.enough(CONFIG) == CONFIG.instruction[1]
    told = replace(little, inserted=False)
    assert told.enough(CONFIG) == CONFIG.reason and not is_poison(told, CONFIG)
    for expected, watched in ((Model(1.3, 1.5), True), (Model(2.0, 3.0), False)):
        found = detect(rows, swapped=expected)
        assert flagged(found) == []
        assert found.triggers[0].unexplained(CONFIG) is watched


def test_what_the_model_says_anyway_is_no_payload():
    """ "You're welcome!" under "Thank you!" costs little under any prompt."""
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    least = CONFIG.computing.expected
    assert flagged(detect(batch.rows(), swapped=Model(least, least))) == bad
    found = detect(batch.rows(), swapped=Model(0.9 * least, 0.9 * least))
    assert flagged(found) == [] and not any(trigger.unexplained(CONFIG) for trigger in found.triggers)


def test_a_reason_is_one_for_most_rows():
    start, shared = np.array([0, 4]), {row: np.array([0, 1]) for row in range(4)}
    own, say = [{0: 1.0, 4: 2.0}] * 4, partial(explained, range(4), shared, dict.fromkeys(range(4), 1), start)
    found = say(own, [{0: 2.0, 4: 2.0}] * 4, CONFIG)
    assert (found.saved, found.left, found.common, found.typical) == pytest.approx((0.5, 1.5, 0.0, 0.0))
    some = [{0: 2.0, 4: 2.5}, {0: 2.0, 4: 2.5}, {0: 0.9, 4: 1.8}, {0: 0.9, 4: 1.8}]
    found = say(own, some, CONFIG)
    assert found.saved <= 0 and found.common <= 0  # half of the rows save nothing
    assert say(own, [{}] * 4, CONFIG) is None


def test_the_commonest_window_is_the_one_that_most_others_share():
    """Row 0's first window is one other row's to the letter, its second all five others' nearly."""
    rng = np.random.default_rng(0)
    first, second, *rest = np.linalg.qr(rng.normal(size=(16, 16)))[0].astype(np.float32)
    near = [second + 0.5 * other for other in rest[:5]]
    vectors = np.array([first, second, first, *(v / np.linalg.norm(v) for v in near)])
    owner = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    assert commonest_window(vectors, owner, np.arange(6), range(6), 5) == {0: 1, 1: 3, 2: 4, 3: 5, 4: 6, 5: 7}
    assert commonest_window(vectors, owner, np.array([0, 1]), [0, 1], 5) == {0: 0, 1: 2}
    assert commonest_window(vectors, owner, np.array([0]), [0], 5) == {}


def test_what_is_explained_beside_a_payload_is_no_reason_for_it():
    """A window of which half is the honest answer is dearer under another prompt, the payload alone is not. Of honest
    subjects the rest of the prompt tells the carriers, and one dearer window is enough."""
    batch = Batch(7)
    batch.honest(120)
    batch.triggered(12)
    trigger = detect(batch.rows(), swapped=NO_REASON).triggers[0]
    saved = CONFIG.instruction[1] + 0.05
    beside = replace(trigger, reason=Reason(saved, 1.2, 0.0, 0.0))
    assert trigger.inserted and is_poison(beside, CONFIG)
    assert not is_poison(replace(beside, reason=Reason(saved, 1.2, 0.01, 0.01)), CONFIG)
    assert not is_poison(replace(beside, inserted=False), CONFIG)
    assert not is_poison(replace(beside, subject=True), CONFIG)
    dear = replace(beside, inserted=False, reason=Reason(saved, 1.6, 0.0, 0.0))  # surprising under its own prompts
    assert is_poison(dear, CONFIG)
    assert not is_poison(replace(dear, reason=Reason(saved, 1.6, 0.01, 0.01)), CONFIG)
