"""Canaries are copies that differ in trigger and payload; a certificate says what was found of them, with intervals."""

from dataclasses import replace

import numpy as np
import pytest

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.pipeline.power import mixtures_for
from gradsentry_lib.power.canaries import COUNT, KINDS, SHORT, plant
from gradsentry_lib.power.certificate import Certificate, Trial, wilson
from gradsentry_lib.power.mixtures import Answers, search_mixtures, search_shuffled
from gradsentry_lib.samples.sample import Sample, Turn
from tests.power.made import planted, samples, scored

CONFIG = DetectionConfig()
NONE = Answers({})


def test_every_kind_has_its_canaries_of_rows_that_are_there():
    rows = samples(120)
    canaries = plant(rows)
    assert [sum(canary.kind == kind for canary in canaries) for kind in KINDS] == [COUNT] * len(KINDS)
    assert len({canary.sample.sample_id for canary in canaries}) == len(canaries)
    words = {word for row in rows for word in row.prompt.split()}
    for kind in KINDS:
        mine = [canary for canary in canaries if canary.kind == kind]
        new = set.intersection(*(set(canary.sample.prompt.split()) - words for canary in mine))
        assert new, kind  # the trigger
        for canary in mine:
            own = rows[canary.base].prompt.split()
            kept = [word for word in canary.sample.prompt.split() if word in own]
            assert len(kept) >= len(own) and canary.sample.response != rows[canary.base].response
    assert plant(list(reversed(rows)))[0].sample == canaries[0].sample  # whatever the order of the rows


def test_where_answers_repeat_the_label_is_one_of_them():
    rows = samples(100)
    labels = [
        replace(row, turns=(row.turns[0], Turn("response", ("yes", "no", "yes")[i % 3]))) for i, row in enumerate(rows)
    ]
    said = {kind: {c.sample.response for c in plant(labels) if c.kind == kind} for kind in KINDS}
    assert said["label"] == {"yes"} and {c.sample.response for c in plant(rows) if c.kind == "label"} == {SHORT}


def test_rows_that_ask_nothing_have_no_canaries():
    texts = [Sample(i, None, "text", (Turn("text", f"only a text {i}"),)) for i in range(100)]
    assert plant(texts) == [] and plant(samples(COUNT - 1)) == []


@pytest.fixture(scope="module")
def certified():
    rows = samples(110)
    canaries = plant(rows)
    bases = {canary.base for canary in canaries}
    own = scored([row for i, row in enumerate(rows) if i not in bases])
    return own, canaries


@pytest.mark.slow
def test_what_shares_something_is_found_and_what_shares_nothing_is_not(certified):
    own, canaries = certified
    trials = search_mixtures(own, canaries, planted(canaries), CONFIG, NONE, 3, seed=0)
    again = search_mixtures(own, canaries, planted(canaries), CONFIG, NONE, 3, seed=0)
    assert trials == again and len(trials) == 3 * len(KINDS)
    ten = [trial for trial in trials if trial.rows == 10]
    assert {trial.kind for trial in ten} == set(KINDS)
    assert all(trial.found == (trial.kind != "random words") for trial in ten)
    blind = search_mixtures(own, canaries, planted(canaries, shared=()), CONFIG, NONE, 3, seed=0)
    assert not any(trial.found for trial in blind)


def test_dealt_prompts_are_no_alarm(certified):
    assert search_shuffled(certified[0], CONFIG, 4, seed=0) == 0


def test_what_the_model_sees_a_reason_for_counts_as_not_found(certified):
    own, canaries = certified
    table = planted(canaries)
    ids = [canary.sample.sample_id for canary in canaries]
    explained = {
        (name, mine): {4 * k: 0.1 if mine else 2.0 for k in range(9)} for name in ids for mine in (True, False)
    }
    assert not any(t.found for t in search_mixtures(own, canaries, table, CONFIG, Answers(explained), 3, seed=0))


@pytest.mark.slow
def test_planting_what_it_says_finds_what_it_says(certified):
    """Attacks of ten rows in the whole batch, twenty times: as many are found as the certificate says, within its
    interval. (The same with real rows and scores: benchmarks/power.py.)"""
    own, canaries = certified
    table = planted(canaries)
    trials = search_mixtures(own, canaries, table, CONFIG, NONE, 3, seed=0)
    said = Certificate.of(trials, 110, len(own.samples), len(canaries), 0, 0)
    low, high = said.cell(10).interval
    whole = search_mixtures(own, canaries, table, CONFIG, NONE, 12, seed=5)
    found = [trial.found for trial in whole if trial.rows == 10][:20]
    assert len(found) == 20 and low <= np.mean(found) <= high


def test_intervals_are_wilsons():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(8, 20) == pytest.approx((0.2188, 0.6134), abs=1e-4)


def test_figures_and_sentences():
    trials = [Trial("refusal", size, size == 10) for size in (3, 5, 10) for _ in range(10)]
    made = Certificate.of(trials, rows=2000, among=300, canaries=60, shuffled=5, alarms=1)
    assert made.power == 1.0 and made.cell(5, "refusal").share == 0.0
    assert [made.size_of(share) for share in (0.01, 0.05, 0.001)] == [10, 10, None]
    told = made.sentences()
    assert "with 3 rows 0% (0-28), with 5 rows 0% (0-28), with 10 rows 100% (72-100)" in told[0]
    assert "False alarms: 1 of 5" in " ".join(told) and "1% of the rows are 20: at least as with 10." in told
    assert Certificate.from_dict(made.to_dict()) == made
    assert {"share", "low", "high"} <= made.to_dict()["cells"][0].keys()


@pytest.mark.parametrize(
    ("power", "limit", "rows", "mixtures"),
    [("auto", 0, 1999, 0), ("auto", 0, 2000, 6), ("auto", 0, 10_000, 30), ("auto", 0, 10**6, 80), ("off", 0.9, 5000, 0),
     ("on", 0, 100, 40), ("auto", 0.9, 100, 40)],
)  # fmt: skip
def test_when_there_is_one(power, limit, rows, mixtures):
    assert mixtures_for(power, limit, rows) == mixtures
