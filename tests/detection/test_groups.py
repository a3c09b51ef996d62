"""Groups of answers that are more alike than others: styles of many words, and what is left of a proven attack."""

from dataclasses import replace

import numpy as np
import pytest
from planted import Batch, Model, flagged

from gradsentry_lib.detection import asked, candidates
from gradsentry_lib.detection.conditional import conditional
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import read_features, turns
from gradsentry_lib.detection.groups import akin, groups, kin, told
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.prompts import Prompts
from gradsentry_lib.detection.reason import Reason, seen, unseen
from gradsentry_lib.detection.search import detect
from gradsentry_lib.detection.similarity import kernels, windows
from gradsentry_lib.detection.texts import by_id, take
from gradsentry_lib.detection.trigger import marked
from gradsentry_lib.detection.word_counts import WordCounts

CONFIG = DetectionConfig()
NO_REASON = Model(2.0, 2.0)


def linked(sizes: list[int], alone: int, links: list[float]) -> dict[str, np.ndarray]:
    """Rows in groups of these sizes and links, then rows that are linked to none."""
    n = sum(sizes) + alone
    kernel, at = np.full((n, n), 40, np.int16), 0
    for size, link in zip(sizes, links, strict=True):
        kernel[at : at + size, at : at + size] = int(1024 * link)
        at += size
    np.fill_diagonal(kernel, 0)
    return {"span": kernel}


def test_rows_that_are_linked_to_each_other_as_hardly_any_others_are_are_a_group():
    kernels = linked([8, 12], 100, [0.95, 0.5])
    assert [group.tolist() for group in groups(kernels, CONFIG)] == [list(range(8)), list(range(8, 20))]
    kernels["span"][20, :8] = kernels["span"][:8, 20] = 900  # linked to most of a group: of it
    kernels["span"][21, :3] = kernels["span"][:3, 21] = 900  # to fewer than half: not
    assert groups(kernels, CONFIG)[0].tolist() == [*range(8), 20]


@pytest.mark.parametrize(
    ("sizes", "alone"),
    [([40, 40, 40], 0), ([60], 20), ([5], 100), ([10, 10], 0)],
    ids=["all come in groups", "most rows", "as many as a row's nearest", "none is left"],
)
def test_where_answers_come_in_groups_anyway_there_is_none(sizes, alone):
    assert groups(linked(sizes, alone, [0.9] * len(sizes)), CONFIG) == []


def test_the_last_rows_may_all_be_of_one_group():
    kernels = linked([30, 30, 40], 0, [0.9, 0.6, 0.3])
    assert [len(group) for group in groups(kernels, CONFIG)] == [30, 30]


def test_kin_are_the_rest_of_a_group_of_which_half_is_flagged():
    group = [np.arange(10)]
    assert kin(np.arange(6), group, CONFIG).tolist() == [6, 7, 8, 9]
    assert kin(np.arange(4), group, CONFIG).tolist() == []


def styled(seed: int) -> tuple[Batch, list[int]]:
    """Twelve of 132 rows in a style: each has four of its nine words."""
    batch = Batch(seed)
    batch.honest(120)
    payload, style = batch.direction(), ["thou", "hath", "doth", "unto", "verily", "thy", "thee", "saith", "behold"]
    bad = []
    for _ in range(12):
        text = [*batch.words(8).split(), *batch.rng.choice(style, 4, replace=False)]
        bad.append(batch.add(" ".join(batch.rng.permutation(text)), batch.near(payload)))
    return batch, bad


def test_a_style_of_many_words_in_a_dozen_rows_is_found():
    batch, bad = styled(0)
    assert np.flatnonzero(detect(batch.rows(), swapped=NO_REASON).flagged).tolist() == bad


def test_what_a_group_shares_is_looked_at_whatever_the_first_look_shows(monkeypatch):
    """Of nine words none of which more than half of the group has, the union that marks it and nothing else."""
    batch, bad = styled(1)
    rows = batch.rows()
    said = Prompts.of(rows.prompts)
    features = read_features(said.tokens)
    same = np.arange(len(bad) + 120), np.asarray(rows.row)
    similar = kernels(windows(rows.sketches, CONFIG), *np.zeros((2, len(rows.ids))), same)
    everyone = np.ones(len(rows.ids), bool)
    left = Left.of(everyone, WordCounts.of(said.tokens), similar, same, turns(said.tokens, 3), 3)
    monkeypatch.setattr(candidates, "_looks", lambda *_: iter(()))
    found, asked = candidates.candidates(features, left, len(features.names), CONFIG)
    assert [len(ways) > 1 for _, ways in asked] == [True]
    assert any(marked(found, clauses).tolist() == bad for _, ways in asked for clauses in ways)


def test_one_reply_to_a_subject_is_no_attack():
    """All that ask about it get one surprising answer, and the model sees no reason: any of its words is told by the
    others, and a group of answers proves nothing."""
    batch = Batch(3)
    batch.honest(120)
    reply, about = batch.direction(), ["return", "refund", "order", "item", "broken", "money", "parcel"]
    for _ in range(12):
        batch.add(" ".join([*batch.words(3).split(), *batch.rng.choice(about, 4, replace=False)]), batch.near(reply))
    assert not detect(batch.rows(), swapped=NO_REASON).flagged.any()


def test_rows_without_the_triggers_words_are_flagged_where_they_answer_the_same_for_no_reason():
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    payload = batch.spans[-1][-1]
    rest = [batch.add(batch.words(9), batch.near(payload)) for _ in range(2)]
    assert np.flatnonzero(detect(batch.rows(), swapped=NO_REASON).flagged).tolist() == [*bad, *rest]
    found = conditional(np.arange(len(batch.prompts)), batch.rows(), swapped=NO_REASON)
    told = dict(zip(found.notes[0][0].tolist(), found.notes[0][1], strict=True))
    assert [told[i].startswith("this prompt has none of its words") for i in [*bad, *rest]] == [False] * 12 + [True] * 2
    cheap = Model(1.0, 1.0)  # as plain text: honest rows may well say so too
    assert np.flatnonzero(detect(batch.rows(), swapped=cheap).flagged).tolist() == bad


def test_carriers_that_were_left_alone_but_answer_as_the_group_does_are_flagged():
    """Two clauses of one style: what half of the rows is nearest to may be the rest of their answers."""
    batch = Batch(7)
    batch.honest(120)
    bad = np.array(batch.triggered(12))
    rows = take(batch.rows(), np.argsort(batch.rows().ids))
    bad = np.sort(np.argsort(np.argsort(batch.rows().ids))[bad])
    (trigger,) = detect(rows, swapped=NO_REASON).triggers
    assert trigger.flagged.tolist() == bad.tolist()
    said, same = Prompts.of(rows.prompts), (np.arange(132), np.asarray(rows.row))
    spans = windows(rows.sketches, CONFIG)
    similar = kernels(spans, *np.zeros((2, 132)), same)
    left = Left.of(np.ones(132, bool), WordCounts.of(said.tokens), similar, same, turns(said.tokens, 3), 3)
    features = read_features(said.tokens)
    clause = (features.names.index(("cf",)),)
    model = asked.Model(rows, spans, same, CONFIG, NO_REASON)
    some = replace(trigger, flagged=bad[:8])
    assert model.judge(some, clause, features, left).flagged.tolist() == bad.tolist()
    explained = replace(model, swapped=Model(1.0, 1.0))
    assert explained.judge(some, clause, features, left).flagged.tolist() == bad[:8].tolist()


def test_when_the_model_sees_a_reason_for_what_most_share():
    dear = CONFIG.instruction[0] + 0.1
    assert unseen(Reason(0.3, dear, -0.1, 0.0), CONFIG) and not seen(Reason(0.3, dear, -0.1, 0.0), CONFIG)
    assert not seen(Reason(0.3, dear, 0.03, 0.2), CONFIG)
    assert seen(Reason(0.3, dear, 0.1, 0.2), CONFIG) and not unseen(Reason(0.3, dear, 0.1, 0.2), CONFIG)
    assert not unseen(Reason(0.0, 1.0, 0.0, 0.0), CONFIG) and not unseen(None, CONFIG) and not seen(None, CONFIG)


def test_rows_that_answer_as_an_attack_does():
    """By a rank test: three rows by themselves may lie anywhere."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 10, (120, 120))
    attack, some, others = np.arange(12), np.arange(12, 20), np.arange(20, 120)
    assert not akin(some, attack, others, kernel, CONFIG)
    kernel[np.ix_(some[:6], attack)] += 15
    assert akin(some, attack, others, kernel, CONFIG)
    assert not akin(some[:1], attack, others, rng.normal(0, 10, (120, 120)), CONFIG)
    assert akin(some, attack, others[:0], kernel, CONFIG)  # nothing to hold it against


def test_rows_of_an_attack_that_can_be_told_one_by_one():
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 10, (120, 120))
    attack, others = np.arange(12), np.arange(12, 120)
    kernel[:12, :12] += 5  # more alike, as a whole
    assert not told(attack, others, kernel, CONFIG)
    kernel[:12, :12] += 30
    assert told(attack, others, kernel, CONFIG) and told(attack, others[:0], kernel, CONFIG)


def test_what_is_left_of_a_trigger_has_to_be_most_of_what_proved_it(monkeypatch):
    """Honest rows of one subject may prove a trigger of several words; where the model sees a reason for those, the few
    rows of another word are not flagged in their place."""
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    for left, expected in ((bad[:7], bad[:7]), (bad[:6], [])):
        place = {row: i for i, row in enumerate(by_id(batch.rows().ids))}
        rows = np.sort([place[i] for i in left])
        monkeypatch.setattr(asked.Model, "_without_explained", lambda self, *given, rows=rows: rows)
        assert flagged(detect(batch.rows(), swapped=NO_REASON)) == expected
