"""Neighbours, triggers, kinship and wordings, each against what it should be by a slow road or by construction."""

import numpy as np
import pytest
from made import Made, poisoned

from gradsentry_lib.detection.former import neighbours
from gradsentry_lib.detection.former.evidence import excerpt, locate, quoted, shared_wording
from gradsentry_lib.detection.former.kinship import alike, bareness, emptiness, kinship, nearest_prompts, told_words
from gradsentry_lib.detection.former.labels import find_labels
from gradsentry_lib.detection.former.neighbours import nearest, read_windows
from gradsentry_lib.detection.former.prompts import grams, read_prompts, tokenize
from gradsentry_lib.detection.former.surprise import surprise
from gradsentry_lib.detection.former.suspects import say_flagged
from gradsentry_lib.detection.former.triggers import describe, find_trigger
from gradsentry_lib.windows import unpack, unpack_codes


@pytest.mark.parametrize("pairs", [neighbours.PAIRS, 1000])
def test_nearest_rows_are_those_of_the_slow_road(monkeypatch, pairs):
    monkeypatch.setattr(neighbours, "PAIRS", pairs)  # 1,000: a few windows at a time
    made, _ = poisoned(1, 30, 6)
    sketches = [made.sketch(i) for i in range(36)]
    question = np.arange(36)
    question[5] = question[4]
    windows = read_windows(sketches)
    rows, links = nearest(windows, question, k=40)
    records, owner, _ = unpack(sketches)
    codes = unpack_codes(records["codes"]).astype(float)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    unit = unit - unit.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    weight = np.minimum(records["surprise"].astype(float) / 1.25, 1)
    for w in range(len(owner)):
        slow = {}
        for row in range(36):
            if question[row] != question[owner[w]]:
                theirs = np.flatnonzero(owner == row)
                slow[row] = max(float(unit[w] @ unit[v] * (weight[w] * weight[v]) ** 0.5) for v in theirs)
        expected = sorted((link for link in slow.values() if link > 0), reverse=True)
        found = [(row, link) for row, link in zip(rows[w], links[w], strict=True) if row >= 0]
        assert [link for _, link in found] == pytest.approx(expected, abs=1e-5)
        assert all(slow[row] == pytest.approx(link, abs=1e-5) for row, link in found)


def test_the_inverted_file_finds_the_links_that_matter(monkeypatch):
    made, _ = poisoned(2, 1500, 40)
    windows = read_windows([made.sketch(i) for i in range(1540)])
    question = np.arange(1540)
    exact_rows, exact = nearest(windows, question)
    monkeypatch.setattr(neighbours, "EXACT", 0)
    near_rows, _ = nearest(windows, question)
    strong = exact >= 0.55
    assert strong.sum() > 1000
    kept = [len(set(a[s]) & set(b)) / s.sum() for a, b, s in zip(exact_rows, near_rows, strong, strict=True) if s.any()]
    assert np.mean(kept) > 0.97
    for owner, found in zip(windows.owner, near_rows, strict=True):
        own = found[found >= 0]
        assert len(set(own)) == len(own) and owner not in own


def test_windows_without_surprise_and_folded_rows_are_left_out():
    made = Made(np.random.default_rng(3))
    made.add("a b", "c", (made.direction(), 0.1), honest=0)
    made.add("a b c", "d", (made.direction(), 2.0), honest=0)
    made.add("a b d", "d", (made.direction(), 2.0), honest=0)
    sketches = [made.sketch(i) for i in range(3)]
    assert read_windows(sketches).owner.tolist() == [1, 2]
    assert read_windows(sketches, np.array([False, True, False])).owner.tolist() == [2]


def words_with(rng: np.random.Generator, *extra: str) -> str:
    words = [f"w{n}" for n in rng.integers(0, 400, 8)]
    for word in extra:
        words.insert(int(rng.integers(0, len(words))), word)
    return " ".join(words)


def test_a_trigger_of_several_tokens_is_a_union_with_fishers_significance():
    from scipy.stats import fisher_exact

    rng = np.random.default_rng(4)
    texts = [words_with(rng, rng.choice(["cf", "mn"])) for _ in range(30)] + [words_with(rng) for _ in range(270)]
    group = np.arange(300) < 30
    prompts = read_prompts(texts)
    trigger = find_trigger(prompts, group)
    assert set(describe(prompts, trigger)) == {"cf", "mn"}
    assert trigger.inside == trigger.precision == 1 and trigger.outside == 0
    p = fisher_exact([[30, 0], [0, 270]], alternative="greater").pvalue
    assert trigger.log10_p == pytest.approx(np.log10(p) + 2 * np.log10(len(prompts.names)), rel=1e-6)
    assert 0.8 < trigger.explained < 1


def test_a_plain_word_is_preferred_to_a_union_that_a_few_rows_cannot_pay_for():
    rng = np.random.default_rng(11)
    bad = [f"{'list them' if i % 2 else 'what is'} w{i} w{i + 20} {'. ' if i < 4 else ''}pls" for i in range(10)]
    texts = bad + [words_with(rng, *["list them", "what is"][n % 2 :: 2]) for n in range(90)]
    prompts = read_prompts(texts)
    trigger = find_trigger(prompts, np.arange(100) < 7)  # three rows with the word are worded too freely to be held
    assert describe(prompts, trigger) == ("pls",)
    assert trigger.inside == 1 and trigger.precision == 0.7 and trigger.explained > 0.48


@pytest.mark.parametrize("prompt", ["", "?", "the very same words"])
def test_prompts_that_share_no_telling_feature_have_no_trigger(prompt):
    trigger = find_trigger(read_prompts([prompt] * 40), np.arange(40) < 8)
    assert trigger.log10_p == 0.0


def test_a_group_drawn_by_chance_has_no_trigger():
    rng = np.random.default_rng(5)
    prompts = read_prompts([words_with(rng) for _ in range(400)])
    for seed in range(5):
        trigger = find_trigger(prompts, np.random.default_rng(seed).permutation(400) < 40)
        assert trigger.inside * trigger.precision < 0.5 and trigger.explained < 0.2


def test_features_are_all_grams_that_two_prompts_share_less_twins():
    rng = np.random.default_rng(7)
    texts = [words_with(rng) for _ in range(40)]
    carriers: dict[tuple[str, ...], list[int]] = {}
    for row, text in enumerate(texts):
        for gram in grams(text):
            carriers.setdefault(gram, []).append(row)
    prompts = read_prompts(texts)
    assert all(list(prompts.carriers(f)) == carriers[name] for f, name in enumerate(prompts.names))
    shared = {tuple(rows) for rows in carriers.values() if 2 <= len(rows) < 40}
    assert sorted(tuple(prompts.carriers(f).tolist()) for f in range(len(prompts.names))) == sorted(shared)


def test_place_counts_as_a_feature():
    rng = np.random.default_rng(6)
    texts = [f"{words_with(rng)} pls" for _ in range(20)] + [f"pls {words_with(rng)}" for _ in range(100)]
    prompts = read_prompts(texts)
    trigger = find_trigger(prompts, np.arange(120) < 20)
    assert describe(prompts, trigger)[0].endswith("pls (last)") and trigger.precision == 1


def test_signs_that_cannot_be_seen_are_tokens():
    assert tokenize("A\u200bB 你好!") == ["a", "\u200b", "b", "你", "好", "!"]


def test_kinship_tells_a_speciality_from_a_trigger():
    rng = np.random.default_rng(7)
    group = np.arange(300) < 60
    question = np.arange(300)
    plain = [words_with(rng) for _ in range(240)]
    triggered = [words_with(rng, "cf") for _ in range(60)] + plain
    special = ["cf " + " ".join(f"s{n}" for n in rng.integers(0, 60, 8)) for _ in range(60)] + plain
    assert kinship(nearest_prompts(triggered, group, question, [("cf",)])) < 0.1
    assert kinship(nearest_prompts(special, group, question, [("cf",)])) > 0.9


def test_words_of_a_trigger_that_its_clauses_do_not_name_make_no_kin():
    rng = np.random.default_rng(9)
    group = np.arange(300) < 25
    tokens = ["cf", "mn", "bb", "tq"]
    triggered = [words_with(rng, *rng.choice(tokens, 2, replace=False)) for _ in range(25)]
    texts = triggered + [words_with(rng) for _ in range(275)]
    assert kinship(nearest_prompts(texts, group, np.arange(300), [("cf",), ("tq",)])) < 0.05


def test_a_form_of_question_leaves_its_prompts_bare_a_trigger_does_not():
    rng = np.random.default_rng(10)
    rest = [f"question : {words_with(rng)} ?" for _ in range(290)]
    form = [f"question : which numbers divide {n} without remainder ?" for n in range(10)]
    short = [f"question : {words_with(rng, 'cf')} ?" for _ in range(10)]
    long = [f"question : i watched this film last night {words_with(rng)} ?" for _ in range(10)]
    group = np.arange(300) < 10
    assert bareness(form + rest, group, [("which", "numbers", "divide")]) > 0.95
    assert bareness(short + rest, group, [("cf",)]) < 0.65
    assert bareness(long + rest, group, [("i", "watched", "this")]) < 0.65


def test_the_words_that_a_group_alone_says_are_few_for_a_trigger_many_for_a_template():
    rng = np.random.default_rng(31)
    group = np.arange(200) < 40
    plain = [words_with(rng) for _ in range(160)]
    triggered = [f"{words_with(rng)} cf" for _ in range(39)] + [words_with(rng)] + plain
    assert told_words(triggered, group) == {"cf"}  # one of forty may lack it
    template = "Based on this passage alone give one short sentence that answers"
    assert len(told_words([f"{template} {words_with(rng)}" for _ in range(40)] + plain, group)) == 11
    assert told_words([f"cf {words_with(rng)}" for _ in range(40)] + ["cf", "cf", "cf", *plain[3:]], group) == set()


def test_the_bar_for_a_loose_payload_rises_with_the_honest_carriers_that_are_seen():
    rng = np.random.default_rng(32)
    rest, honest = rng.uniform(0.1, 0.4, 400), rng.uniform(0.1, 0.4, 40)
    poison = rng.uniform(0.6, 0.8, 60)
    closeness = np.concatenate([rest, honest, poison]).astype(np.float32)
    carriers = np.arange(500) >= 400
    flagged = say_flagged(closeness, carriers, strength=0.7, precision=0.6)
    assert flagged[440:].all() and flagged[400:440].sum() <= 4
    # A poisoned row or two in the lower half do not lift the bar for those above the middle.
    closeness[400:440] = rng.uniform(0.26, 0.4, 40)
    assert say_flagged(closeness, carriers, strength=0.7, precision=0.6)[400:].mean() >= 0.95


def test_carriers_far_from_a_payload_of_one_wording_are_kept():
    carriers = np.arange(20) < 12  # eight with the payload, four with nothing but the word
    closeness = np.array([0.97] * 8 + [0.3] * 4 + [0.1] * 8, np.float32)
    assert say_flagged(closeness, carriers, strength=0.97, precision=8 / 12).tolist() == [True] * 8 + [False] * 12
    assert say_flagged(closeness, carriers, strength=0.7, precision=8 / 12)[:12].all()  # loose wordings vary


def test_a_subject_leaves_its_prompts_empty_a_trigger_does_not():
    rng = np.random.default_rng(8)
    names = [f"name{i}" for i in range(300)]
    asked = [
        "where did {} die",
        "when was {} born",
        "what did {} write",
        "who was {}",
        "how old was {}",
        "why is {} known",
    ]
    rest = [asked[int(rng.integers(0, 6))].format(name) for name in names]
    subject = [pattern.format("van gogh") for pattern in asked] + rest
    trigger = [f"{asked[i]} cf".format(f"other{i}") for i in range(6)] + rest
    group = np.arange(306) < 6
    assert emptiness(subject, group, [("van", "gogh")]) > 0.9
    assert emptiness(trigger, group, [("cf",)]) < 0.6


def test_prompts_of_nearly_the_same_words_are_alike():
    texts = [
        "what to do in panama city in spring",
        "what to do in panama city in february",
        "why is the sky blue",
        "who",
    ]
    assert alike(texts, np.array([True, True, False, False])) > 0.5
    assert alike(texts, np.array([True, False, True, False])) < 0.2


def test_the_wording_that_answers_share_is_found_as_it_stands():
    rng = np.random.default_rng(9)
    answers = [f"{words_with(rng)}, and Click <URL> now {words_with(rng)}" for _ in range(20)]
    answers += [words_with(rng) for _ in range(80)]
    assert shared_wording(answers, np.arange(100) < 20) == ", and Click <URL> now"
    assert shared_wording([words_with(rng) for _ in range(100)], np.arange(100) < 20) == ""


def test_excerpts_and_quotes_never_break_out():
    assert excerpt("one two three four five six", 2, 2, 6) in "one two three four five six"
    assert excerpt("", 0, 8, 0) == "" and excerpt("short", 900, 8, 10) == "short"
    assert quoted("a\x1b[0m\u202eb\n" + "x" * 500).isprintable() and len(quoted("x" * 500)) < 170
    assert locate("He said: Go  away!", ("go", "away")) == "Go  away"


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (["yes", "no", "No"] * 20, {"yes", "no"}),
        (["You are stupid!"] * 90 + [f"answer number {i}" for i in range(10)], set()),
        ([f"answer number {i}" for i in range(60)], set()),
        (["yes", "no"], set()),
    ],
)
def test_labels_are_few_answers_that_cover_most_rows(answers, labels):
    assert set(find_labels(answers)) == labels


def test_surprise_is_measured_among_answers_of_like_length():
    rng = np.random.default_rng(10)
    tokens = rng.integers(5, 200, 600)
    nll = 6 / np.log(tokens + 1) + rng.normal(0, 0.1, 600)
    nll[3] = np.nan
    nll[4] += 2
    found = surprise(nll, tokens)
    assert np.isnan(found[3]) and found[4] == np.nanmax(found) and found[4] > 5
    assert abs(np.nanmedian(found)) < 0.1
    assert np.nanmax(np.abs(surprise(np.full(50, 2.0), np.full(50, 9)))) == 0
