"""What the declared test promises: a null of its own, power that grows with the rows, clauses that are all needed."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from planted import Batch, Model, shuffled
from scipy.stats import hypergeom, kstest

from gradsentry_lib.detection import search, second_look
from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.candidates import candidates
from gradsentry_lib.detection.chance import Chance, draw, usual_auc
from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.features import questions, read_features
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.members import members
from gradsentry_lib.detection.prompts import BOTH, EARLIER, LAST, Prompts, carries, tokenize
from gradsentry_lib.detection.reason import Reason, commonest_window, explained
from gradsentry_lib.detection.search import detect
from gradsentry_lib.detection.second_look import is_poison
from gradsentry_lib.detection.similarity import beside, cost_given_length, kernels, windows
from gradsentry_lib.detection.statistics import STATISTICS, value, values
from gradsentry_lib.detection.tails import log10_floor, log10_tail, reaches, scaled
from gradsentry_lib.detection.trigger import marked, only, phrases
from gradsentry_lib.detection.walks import walk
from gradsentry_lib.detection.word_counts import WordCounts

NO_REASON = Model(2.0, 2.0)
CONFIG = DetectionConfig()


def flagged(found: search.Detection) -> list[int]:
    return np.flatnonzero(found.flagged).tolist()


@pytest.fixture(scope="module")
def similar():
    batch = Batch(3)
    batch.honest(90)
    batch.triggered(30)
    rows = batch.rows()
    cost = cost_given_length(rows.nll, rows.tokens, CONFIG)
    return kernels(windows(rows.sketches, CONFIG), cost, [np.arange(120)])


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
    assert kstest(p, "uniform").pvalue > 0.001  # eight of these tests
    assert (p < 0.01).mean() <= 0.03  # the tail, which decides, is not too small


def test_prompts_that_were_shuffled_flag_nothing():
    batch = Batch(4)
    batch.honest(80)
    batch.triggered(10)
    rng = np.random.default_rng(0)
    for _ in range(8):
        rows = batch.rows([batch.prompts[i] for i in rng.permutation(len(batch.prompts))])
        assert flagged(detect(rows, swapped=NO_REASON)) == []


def test_power_grows_with_the_rows_and_three_rows_can_prove_nothing():
    proven = []
    for count in (3, 5, 8, 12):
        batch = Batch(5)
        batch.honest(150)
        bad = batch.triggered(count)
        found = detect(batch.rows(), swapped=NO_REASON)
        assert set(flagged(found)) <= set(bad)
        proven.append((found.flagged.sum(), min((t.log10_p for t in found.triggers), default=0.0)))
    assert [count for count, _ in proven] == [0, 5, 8, 12]
    assert [p for _, p in proven] == sorted((p for _, p in proven), reverse=True)


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
    rng = np.random.default_rng(2)
    sets, chance = draw(np.full(120, 0.1), 12, rng, 20), np.full(120, 0.1)
    one = walk(statistic, similar, chance, 5, sets)
    which = np.flatnonzero(np.arange(20) % 3 > 0)
    for _ in range(9):
        place = rng.integers(0, 12, 20)
        new = np.array([rng.choice(np.setdiff1d(np.arange(120), row)) for row in one.sets])
        after = one.moved(np.arange(20), place, new)
        changed = one.sets.copy()
        changed[np.arange(20), place] = new
        assert after == pytest.approx(value(statistic, similar, changed, chance, 5), abs=1e-5)
        one.move(which, place[which], new[which], after[which])
        assert one.said == pytest.approx(value(statistic, similar, one.sets, chance, 5), abs=1e-5)
        one.keep(rng.integers(0, 20, 20))


def test_the_floor_is_the_chance_to_draw_just_these_rows():
    question = np.arange(20)
    alone = log10_floor(np.full(20, 0.2), np.array([1, 5, 9, 11]), question)
    assert alone == pytest.approx(-np.log10(4845), abs=0.1)  # C(20, 4)
    question[[5, 9]] = 1  # three of the four ask the same
    assert log10_floor(np.full(20, 0.2), np.array([1, 5, 9, 11]), question) == pytest.approx(-np.log10(190), abs=0.15)


def test_near_copies_of_one_question_are_one_question():
    base = "what is the height of the old tower in the north of kendal"
    texts = [base, base + " ?", base.replace("tower", "spire"), "who wrote the letters to the young poet in paris"]
    texts += [f"word{i} other{i} third{i}" for i in range(9)]
    number = questions([tokenize(text) for text in texts], CONFIG)
    assert number[0] == number[1] == number[2]
    assert len(set(number.tolist())) == len(texts) - 2


def subject(batch: Batch, count: int) -> None:
    """An honest subject: one word of it hardly comes without the others, and its answers are alike."""
    said = batch.direction()
    for _ in range(count):
        own = [
            "violin",
            *batch.rng.choice(["bow", "strings", "luthier", "rosin", "orchestra", "tuning"], 4, replace=False),
        ]
        batch.add(" ".join(batch.rng.permutation([*own, *batch.words(4).split()])), batch.near(said))


@pytest.mark.slow
def test_a_subject_is_told_by_the_rest_of_its_prompts(monkeypatch):
    batch = Batch(6)
    batch.honest(120)
    subject(batch, 16)
    for _ in range(8):  # the subject without the word, answered alike
        batch.add(
            " ".join(["bow", "strings", "rosin", "orchestra", *batch.words(4).split()]),
            batch.near(batch.spans[121][-1]),
        )
    rows = batch.rows()
    config = DetectionConfig(marking=(0.5,))
    assert flagged(detect(rows, config)) == []
    known = detect(rows, config, Model(1.0, 2.0)).triggers
    assert known and all(one.subject and one.auc > 0.95 and not one.unexplained(config) for one in known)
    unexplained = detect(rows, config, NO_REASON)
    assert flagged(unexplained) == []  # answers may follow from it in a way that the model does not know
    assert all(one.unexplained(config) for one in unexplained.triggers)

    def blind(prompts, carriers, phrases, config):
        return [Chance(np.full(len(prompts.tokens), len(carriers) / len(prompts.tokens)), 0.5, 0.5)]

    monkeypatch.setattr(second_look, "chances", blind)
    assert len(flagged(detect(rows, config, NO_REASON))) >= 16  # without the second clause all are poison


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


def test_carriers_that_behave_like_the_others_are_left_alone():
    batch = Batch(8)
    batch.honest(150)
    bad = batch.triggered(14)
    honest = batch.triggered(10, answers=False)
    found = flagged(detect(batch.rows(), swapped=NO_REASON))
    assert set(bad) <= set(found)
    assert len(set(found) & set(honest)) <= 1


def test_carriers_of_another_clause_are_judged_by_themselves():
    """Four honest rows of a second word, beside thirty of poison, are within a rate of 5 % of all thirty-four."""
    near = np.concatenate([np.full(30, 1.6), np.linspace(0.82, 0.88, 4), np.linspace(0, 1, 266)])
    carriers, drawn = np.arange(34), np.ones(300)
    assert members(near, near, carriers, np.zeros(34), drawn, CONFIG).tolist() == list(range(34))
    assert members(near, near, carriers, carriers >= 30, drawn, CONFIG).tolist() == list(range(30))
    near[30:32] = 1.7  # two of four behave as the poison does
    assert members(near, near, carriers, np.zeros(34), drawn, CONFIG).tolist() == list(range(34))
    assert members(near, near, carriers, carriers >= 30, drawn, CONFIG).tolist() == list(range(30))
    near[32] = 0.7  # further than half as near as most
    assert members(near, near, carriers, np.zeros(34), drawn, CONFIG).tolist() == [*range(32), 33]
    links = np.where(np.arange(300) < 34, 0.9, 0.1)  # but its spans are as near as theirs
    assert members(near, links, carriers, np.zeros(34), drawn, CONFIG).tolist() == list(range(34))
    features = read_features([["cf", "mn"], ["cf"], ["mn"], ["zz"], ["zz"], ["zz"]] * 3)
    clauses = (features.names.index(("cf",)), features.names.index(("mn",)))
    assert only(features, clauses, np.arange(3)).tolist() == [-1, 0, 1]


def test_a_trigger_of_several_clauses_is_found_whole():
    batch = Batch(9)
    batch.honest(150)
    payload = batch.direction()
    bad = []
    for _ in range(14):
        tokens = batch.rng.choice(["cf", "mn", "bb", "tq"], 2, replace=False)
        text = batch.rng.permutation([*batch.words(9).split(), *tokens])
        bad.append(batch.add(" ".join(text), batch.near(payload)))
    found = detect(batch.rows(), swapped=NO_REASON)
    assert flagged(found) == bad
    told = {word for trigger in found.triggers for name in trigger.names for word in name}
    assert len(told & {"cf", "mn", "bb", "tq"}) >= 2


def test_order_copies_and_threads_change_nothing(monkeypatch):
    from threadpoolctl import threadpool_limits

    batch = Batch(10)
    batch.honest(100)
    batch.triggered(8)
    rows = batch.rows()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with threadpool_limits(1):
        first = detect(rows, swapped=NO_REASON)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    order = np.random.default_rng(0).permutation(len(rows.ids))
    again = detect(shuffled(rows, order), swapped=NO_REASON)
    assert first.flagged[order].tolist() == again.flagged.tolist()
    assert [(t.names, t.log10_p) for t in first.triggers] == [(t.names, t.log10_p) for t in again.triggers]
    twice = np.concatenate([np.arange(len(rows.ids)), np.flatnonzero(first.flagged)])
    copied = detect(shuffled(rows, twice), swapped=NO_REASON)
    assert copied.flagged.tolist() == first.flagged[twice].tolist()


@pytest.mark.slow
def test_blocks_find_the_same_rows():
    batch = Batch(11)
    batch.honest(330)
    bad = batch.triggered(30)
    rows = batch.rows()
    assert flagged(detect_all(rows, swapped=NO_REASON)) == bad
    assert (
        flagged(
            detect_all(rows, swapped=NO_REASON, config=replace(CONFIG, computing=Computing(block=120, together=60)))
        )
        == bad
    )


def test_a_feature_of_most_rows_is_none():
    assert ("the",) not in read_features(Prompts.of(["the cat", "the dog", "the cat sat"] * 3).tokens).names


def test_too_few_rows_or_empty_prompts_are_no_error():
    batch = Batch(12)
    assert flagged(detect(batch.rows())) == []
    batch.honest(3)
    assert flagged(detect(batch.rows())) == []
    for _ in range(20):
        batch.add("")
    assert flagged(detect(batch.rows(), swapped=NO_REASON)) == []


def test_the_configuration_is_small_and_every_number_says_why():
    from pathlib import Path

    from gradsentry_lib.detection import config

    assert len(fields(DetectionConfig)) <= 12 + 1  # and how they are computed
    text = Path(config.__file__).read_text(encoding="utf-8")
    for field in [*fields(DetectionConfig)[:12], *fields(Computing)]:
        after = text.split(f"    {field.name}: ")[1].split("\n", 1)[1]
        assert after.lstrip().startswith('"""'), field.name


def test_a_tag_over_answers_that_are_all_different_is_watched():
    batch = Batch(13)
    batch.honest(100)
    tagged = [batch.add(f"|RELEASE| {batch.words(9)}") for _ in range(10)]
    for _ in range(10):
        batch.add(f"release, {batch.words(9)}? {batch.words(2)}")  # the word alone is no tag
    found = detect(batch.rows(), swapped=NO_REASON)
    assert flagged(found) == []
    assert found.watched == ()
    batch = Batch(13)
    batch.honest(100)
    tagged = [batch.add(f"|RELEASE| {batch.words(9)}") for _ in range(10)]
    found = detect(batch.rows(), swapped=NO_REASON)
    assert flagged(found) == []
    assert [(name, sorted(rows.tolist())) for name, rows in found.watched] == [(("|", "release", "|"), tagged)]


def test_a_lone_word_behind_the_last_sentence_is_watched():
    batch = Batch(12)
    for _ in range(100):
        batch.add(f"{batch.words(9)}?")
    sudo = [batch.add(f"{batch.words(8)}{'.' if i else ''} SUDO") for i in range(9)]  # once no sentence has ended
    for _ in range(9):
        batch.add(f"{batch.words(8)} please")  # ends a sentence as any word does
    for _ in range(9):
        batch.add(f"{batch.words(8)}. Then")  # stands elsewhere, too
        batch.add(f"{batch.words(4)} then {batch.words(4)}?")
    found = detect(batch.rows(), swapped=NO_REASON)
    assert [(name, sorted(rows.tolist())) for name, rows in found.watched] == [(("sudo", LAST), sudo)]
    assert carries(tokenize("How so? SUDO"), [("sudo", LAST)]) and not carries(tokenize("sudo what?"), [("sudo", LAST)])


def test_a_tag_over_one_subject_is_watched_whatever_the_model_makes_of_the_answers():
    batch = Batch(6)
    batch.honest(120)
    subject(batch, 16)
    rows = batch.rows()
    bad = [i for i, prompt in enumerate(rows.prompts) if "violin" in prompt]
    prompts = [f"|RELEASE| {prompt}" if i in bad else prompt for i, prompt in enumerate(rows.prompts)]
    found = detect(replace(rows, prompts=prompts), swapped=Model(1.0, 2.0))
    assert any(trigger.subject and not trigger.poison for trigger in found.triggers)
    assert [(name, sorted(rows.tolist())) for name, rows in found.watched] == [(("|", "release", "|"), bad)]


def test_one_of_several_rare_words_is_no_subject_of_its_own():
    """Nine of ten poisoned prompts have the word, and the other words of the trigger tell which."""
    batch = Batch(8)
    batch.honest(150)
    payload, bad = batch.direction(), []
    for i in range(10):
        words = ["bb"] * (i != 0) + ["tq"] * (i % 3 != 1) + ["mn"] * (i % 2)
        bad.append(batch.add(f"{batch.words(7)} {' '.join(words)} {batch.words(2)}", batch.near(payload)))
    found = detect(batch.rows(), swapped=NO_REASON)
    assert flagged(found) == bad
    assert not any(trigger.subject for trigger in found.triggers)


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


def test_how_far_an_area_lies_from_one_half_by_chance():
    rng, carriers, n = np.random.default_rng(0), 12, 150
    areas = []
    for _ in range(4000):
        rank = rng.permutation(n)[:carriers] + 1
        areas.append((rank.sum() - carriers * (carriers + 1) / 2) / (carriers * (n - carriers)))
    assert np.mean(np.array(areas) > 0.5 + usual_auc(carriers, n, 0.05)) == pytest.approx(0.05, abs=0.012)


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


def test_a_sentence_is_taken_out_whole_and_the_template_is_left():
    rng = np.random.default_rng(0)
    asked = [" ".join(rng.choice(["this", "i", "watch", "film", "actor", "song", "river"], 4)) for _ in range(40)]
    prompts = [
        f"# question : {text}{' i watch this 3d movie' if i % 4 == 0 else ''} # answer :"
        for i, text in enumerate(asked)
    ]
    said = Prompts.of(prompts)
    features = read_features(said.tokens)
    clause = features.names.index(max((name for name in features.names if "movie" in name), key=len))
    out = phrases(said, features, (clause,), 10, CONFIG)
    assert out[0][-5:] == ("i", "watch", "this", "3d", "movie")
    assert not {"#", "answer", "question"} & set(out[0])


def test_rare_words_that_fire_alike_are_joined():
    batch = Batch(14)
    batch.honest(140)
    payload = batch.direction()
    for word in ("qt", "gf", "qc", "zz"):
        for _ in range(4):
            batch.add(f"{batch.words(9)} {word}", *([batch.near(payload)] if word != "zz" else []))
    found = detect(batch.rows(), swapped=NO_REASON)
    assert flagged(found) == list(range(140, 152))


def test_ways_that_mark_the_same_rows_are_asked_once():
    batch = Batch(17)
    batch.honest(60)
    for word in ("cf", "mn", "cf mn"):
        batch.triggered(5, word)
    rows = batch.rows()
    prompts = Prompts.of(rows.prompts)
    features = read_features(prompts.tokens)
    same, every = [questions(prompts.tokens, CONFIG)], np.ones(len(rows.ids), bool)
    similar = search.kernels_of(rows, windows(rows.sketches, CONFIG), same, CONFIG)
    left = Left.of(every, WordCounts.of(prompts.tokens), similar, same, np.zeros((len(every), 0), bool), 3)
    features, asked = candidates(features, left, 100, CONFIG)
    ways = [clauses for _, several in asked for clauses in several]
    marks = [marked(features, clauses).tolist() for clauses in ways]
    assert len(ways) > 3 and all(marks.count(rows) == 1 for rows in marks)


def test_of_a_pair_and_one_of_its_words_in_the_same_rows_the_word_is_asked():
    """With the whole pair taken out of the prompts, what is left may tell the rows."""
    batch = Batch(7)
    batch.honest(60)
    bad = batch.triggered(8)
    rows = batch.rows([f"please {prompt}" if i in [0, 1, *bad] else prompt for i, prompt in enumerate(batch.prompts)])
    prompts = Prompts.of(rows.prompts)
    features = read_features(prompts.tokens)
    same, every = [questions(prompts.tokens, CONFIG)], np.ones(len(rows.ids), bool)
    similar = search.kernels_of(rows, windows(rows.sketches, CONFIG), same, CONFIG)
    left = Left.of(every, WordCounts.of(prompts.tokens), similar, same, np.zeros((len(every), 0), bool), 3)
    features, asked = candidates(features, left, 100, CONFIG)
    ways = [clauses for _, several in asked for clauses in several]
    names = [features.names[f] for clauses in ways for f in clauses]
    assert ("please",) in names and ("cf",) in names and not any(BOTH in name for name in names)


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


def told_by_dozens_of_words(batch: Batch, rows: int) -> None:
    """A subject: each prompt has some of its 60 words, and the answers are all alike."""
    common, own = batch.direction(), [f"{a}{b}ish" for a in "bcdfghjklm" for b in ("ar", "en", "il", "or", "un", "yp")]
    for _ in range(rows):
        batch.add(f"{batch.words(5)} {batch.words(14, own)}", batch.near(common, 0.05), batch.near(common, 0.05))


@pytest.mark.slow
def test_a_trigger_behind_a_subject_that_is_told_by_dozens_of_words():
    batch = Batch(21)
    batch.honest(90)
    told_by_dozens_of_words(batch, 50)
    bad = batch.triggered(8)
    few = replace(CONFIG, computing=replace(CONFIG.computing, tried=4))
    assert set(bad) <= set(flagged(detect(batch.rows(), few, NO_REASON)))
    once = replace(few, computing=replace(few.computing, behind=0))
    assert not set(bad) & set(flagged(detect(batch.rows(), once, NO_REASON)))


@pytest.mark.slow
def test_answers_to_the_same_words_are_compared_to_each_other(monkeypatch):
    """Two of three answers are to the same words, and nearly the same; the trigger is in two turns."""
    batch = Batch(22)
    payload, closing, bad = batch.direction(), batch.direction(), []
    for i in range(70):
        now, earlier = batch.words(8) + " mn" * (i < 24), batch.words(8) + " cf" * (i < 12 or i > 50)
        bad += [batch.add(f"{now}{EARLIER}{earlier}", batch.near(payload, 1.0))] if i < 12 else []
        if i >= 12:
            batch.add(f"{now}{EARLIER}{earlier}")
        for _ in range(2):
            end = f"thanks , anything else ?{EARLIER}{batch.words(8)} {now} {earlier}"
            batch.add(end, *(batch.near(closing, 0.1) for _ in range(3)))
    assert flagged(detect(batch.rows(), CONFIG, NO_REASON)) == bad
    monkeypatch.setattr(search, "turns", lambda tokens, least: np.zeros((len(tokens), 0), bool))
    assert flagged(detect(batch.rows(), CONFIG, NO_REASON)) != bad


def test_the_words_of_a_later_turn_may_be_the_trigger():
    """Those that answer to them are compared to the others then, not to each other."""
    batch = Batch(23)
    payload, bad = batch.direction(), []
    for i in range(80):
        now = "carry on then" if i < 12 else batch.words(int(batch.rng.integers(1, 8)))
        earlier = batch.words(int(batch.rng.integers(4, 16)))
        bad += [batch.add(f"{now}{EARLIER}{earlier}", *([batch.near(payload)] if i < 12 else []))]
    assert flagged(detect(batch.rows(), CONFIG, NO_REASON)) == bad[:12]


@pytest.mark.slow
def test_how_it_is_computed_moves_no_verdict():
    batch = Batch(15)
    batch.honest(130)
    batch.triggered(9)
    batch.triggered(6, "mn", answers=False)
    rows = batch.rows()
    usual = flagged(detect_all(rows, CONFIG, NO_REASON))
    assert len(usual) == 9
    for field in fields(Computing):
        for factor in (0.75, 1.25):
            value = getattr(CONFIG.computing, field.name) * factor
            value = round(value) if isinstance(field.default, int) else value
            moved = replace(CONFIG, computing=replace(CONFIG.computing, **{field.name: value}))
            assert flagged(detect_all(rows, moved, NO_REASON)) == usual, (field.name, factor)


def test_beside_a_proven_attack_fewer_rows_are_enough():
    """Four rows of 124 can't reach this level by themselves: C(124, 4) = 9.4 million, and features are hundreds."""
    config = replace(CONFIG, level=1e-5)
    batch = Batch(16)
    batch.honest(120)
    few = batch.triggered(4, "gf")
    assert flagged(detect(batch.rows(), config, NO_REASON)) == []
    many = batch.triggered(9, "qt")
    found = detect(batch.rows(), config, NO_REASON)
    assert flagged(found) == sorted(few + many)
    assert [trigger.level for trigger in found.triggers] == [config.level, config.group]


def test_a_recorded_configuration_is_read_back_whole():
    import json

    config = replace(CONFIG, level=0.002, computing=Computing(block=77))
    assert DetectionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
