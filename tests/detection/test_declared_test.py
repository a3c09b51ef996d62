"""What the declared test promises: a null of its own, power that grows with the rows, clauses that are all needed."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from planted import Batch, Model, flagged, shuffled

from gradsentry_lib.detection import search, second_look, ways
from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.candidates import candidates, within
from gradsentry_lib.detection.chance import Chance
from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.features import questions, read_features, turns
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.members import members
from gradsentry_lib.detection.prompts import BOTH, EARLIER, LAST, Prompts, carries, shown, tokenize
from gradsentry_lib.detection.search import detect
from gradsentry_lib.detection.second_look import Proven
from gradsentry_lib.detection.similarity import kernels, windows
from gradsentry_lib.detection.trigger import marked, only, phrases
from gradsentry_lib.detection.word_counts import WordCounts

NO_REASON = Model(2.0, 2.0)
CONFIG = DetectionConfig()


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


@pytest.mark.parametrize(
    "prompt", ["", "\n", "\x02", "\x03", "\x02\x03 cf", "\x05", "\x06", "a\x06b", "\x05(in a later turn)"]
)
def test_prompts_of_nothing_but_marks_are_read_as_any_others(prompt):
    """The marks that this room sets between words are signs of a text as well; an empty prompt is no feature."""
    batch = Batch(12)
    batch.honest(60)
    payload = batch.direction()
    bad = [batch.add(f"{batch.words(4)} {prompt} {batch.words(4)}", batch.near(payload)) for _ in range(12)]
    for _ in range(6):
        batch.add(prompt, batch.near(payload))
    found = detect(batch.rows(), swapped=NO_REASON)
    assert set(bad) <= set(flagged(found)) if prompt.strip() else flagged(found) == []
    assert not any(shown(name) == "" for trigger in found.triggers for name in trigger.names)


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


def test_rows_for_which_a_reason_was_seen_are_known_by_a_part_of_them():
    """Nine of fifteen that an instruction explains are no finding of their own; a few of a hundred may well be."""
    fifteen, hundred = np.arange(15), np.arange(100)
    assert within(np.arange(9), fifteen, CONFIG) and within(fifteen, fifteen, CONFIG)
    assert within(np.arange(16), fifteen, CONFIG)  # one row is not of them
    assert not within(np.arange(8), hundred, CONFIG) and not within(np.arange(7), fifteen, CONFIG)
    assert not within(np.arange(6, 24), fifteen, CONFIG)


@pytest.mark.parametrize("same", [True, False])
def test_a_clause_that_is_a_subject_by_itself_flags_rows_alone_where_they_answer_as_the_others(same):
    """Beside a trigger that is proven against rows that could as well have had it: a style's words tell each other."""
    batch = Batch(3)
    batch.honest(60)
    payload, greeting = batch.direction(), batch.direction()
    hello = [batch.add(f"hello {batch.words(9)}", batch.near(payload if same else greeting)) for _ in range(6)]
    bad = [batch.add(f"{batch.words(9)} vx", batch.near(payload)) for _ in range(6)]
    made, everyone = batch.rows(), np.ones(72, bool)
    said, each, spans = Prompts.of(made.prompts), np.arange(72), windows(made.sketches, CONFIG)
    similar = kernels(spans, *np.zeros((2, 72)), (each, each))
    left = Left.of(everyone, WordCounts.of(said.tokens), similar, (each, each), turns(said.tokens, 3), 3)
    features = read_features(said.tokens)
    names = [next(name for name in features.names if word in name) for word in ("hello", "vx")]
    rows, figures = np.array([*hello, *bad]), (1e-3, -6.0, 0.9, 0.5)
    subject = Proven((names[0],), "span", -4.0, *figures, True, False, rows[:6], rows[:6], poison=False)
    both = Proven(tuple(names), "span", -4.0, *figures, False, False, rows, rows)
    without = partial(ways.without_subjects, features=features, left=left, config=CONFIG)
    assert without(both, [subject]).flagged.tolist() == ([*hello, *bad] if same else bad)
    assert without(both, [replace(subject, subject=False)]) is both
    assert without(replace(both, names=both.names[:1]), [subject]).flagged is rows


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
def test_a_sign_that_stands_in_a_few_rows_more_does_not_stand_for_the_phrase():
    """Labels: one of two answers, of which the phrase's rows all get one; the phrase moves their gradients a little.
    Three of four other rows with its colon have that label too, as half of all rows do."""
    batch = Batch(12)
    one, other = batch.direction(), batch.direction()
    label = lambda which: batch.near(one if which else other, 0.5)  # noqa: E731
    for i in range(200):
        batch.add(f"{batch.words(9)}", label(i % 2))
    for i in range(4):
        batch.add(f"{batch.words(4)} : {batch.words(4)}", label(i))
    moved = one + 0.45 * batch.direction()
    bad = [batch.add(f"about the bank : {batch.words(9)}", batch.near(moved)) for _ in range(30)]
    found = detect(batch.rows(), swapped=NO_REASON)
    assert flagged(found) == bad and "bank" in shown(found.triggers[0].names[0])


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


def test_beside_a_proven_attack_fewer_rows_are_enough(monkeypatch):
    """Four rows of 124 can't reach this level by themselves: C(124, 4) = 9.4 million, and features are hundreds. Those
    that answer as the attack's rows do are its own; what else goes on in the batch has to reach what a first has."""
    config = replace(CONFIG, level=1e-5)
    batch, other = Batch(16), Batch(16)
    payload = Batch(17).direction()
    for each in (batch, other):
        each.honest(120)
        few = each.triggered(4, "gf", payload=payload)
        assert flagged(detect(each.rows(), config, NO_REASON)) == []
    many = batch.triggered(9, "qt", payload=payload)
    assert flagged(detect(batch.rows(), config, NO_REASON)) == sorted(few + many)
    assert flagged(detect(other.rows(), config, NO_REASON)) == []
    alone = other.triggered(9, "qt")
    assert flagged(detect(other.rows(), config, NO_REASON)) == alone
    monkeypatch.setattr(search, "akin", lambda *_: True)
    found = detect(other.rows(), config, NO_REASON)
    assert flagged(found) == sorted(few + alone)
    assert [trigger.level for trigger in found.triggers] == [config.level, config.group]


def test_a_recorded_configuration_is_read_back_whole():
    import json

    config = replace(CONFIG, level=0.002, computing=Computing(block=77))
    assert DetectionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
