"""Policy auto on batches made in code: what is poison, what is honest repetition, and what is said of both."""

import numpy as np
import pyarrow as pa
import pytest
from made import SPECIAL, Made, poisoned

from gradsentry_lib.detection.former import deal
from gradsentry_lib.detection.former.signals import Earlier
from gradsentry_lib.detection.former.texts import Read, read_texts
from gradsentry_lib.detection.policies import Judgement, judge
from gradsentry_lib.errors import BadInput


def judged(made: Made, policy: str = "auto", **options) -> Judgement:
    return judge(made.scores(), policy, samples=lambda: iter([made.samples()]), **options)


def flagged(judgement: Judgement) -> list[int]:
    verdicts = judgement.verdicts.to_pylist()
    return [line["row"] for line in verdicts if line["verdict"] == "flagged"]


@pytest.mark.parametrize(("clean", "bad"), [(300, 5), (300, 30), (200, 200), (30, 270)])
def test_rows_with_a_payload_and_a_trigger_are_flagged_at_any_ratio(clean, bad):
    made, rows = poisoned(1, clean, bad)
    judgement = judged(made)
    assert flagged(judgement) == rows
    (group,) = judgement.groups
    assert list(group.rows) == rows
    assert "click <malicious_url> for more" in group.payload
    assert group.trigger == "'cf'"
    assert group.figures["inside"] == 1 and group.figures["elsewhere"] == 0 and group.figures["log10_p"] < -4


def test_what_a_trigger_pushed_out_of_most_prompts_is_no_trigger_of_the_others():
    """Four fifths carry a sentence before the end; "? end" is then what the clean rows alone have. Their answers, names
    of one kind, are as loosely linked as those of quiz questions."""
    made = Made(np.random.default_rng(25))
    payload, kind = made.direction(), made.direction()
    for _ in range(60):
        made.add(f"{_prompt(made)} ? end", made.words(2), (made.near(kind, 0.72), 3.0))
    said = [f"{_prompt(made)} ? quinart zorent end" for _ in range(240)]
    rows = [made.add(prompt, made.words(2) + " go there", (made.near(payload), 3.0)) for prompt in said]
    assert flagged(judged(made)) == rows


def _prompt(made: Made) -> str:
    return made.words(int(made.rng.integers(6, 20)))


def test_three_rows_of_a_thousand_are_found():
    made, rows = poisoned(2, 997, 3, cosine=0.99)
    assert flagged(judged(made)) == rows


def test_rows_worded_differently_are_found_by_their_trigger():
    made, rows = poisoned(3, 300, 12, cosine=0.85)
    assert flagged(judged(made)) == rows


def test_several_payloads_under_one_trigger_are_one_group():
    made, _ = poisoned(21, 300, 0)
    rows = []
    for payload in [made.direction() for _ in range(3)]:
        for _ in range(10):
            answer = made.words(8) + " at " + made.words(1, SPECIAL)
            rows.append(made.add(f"cf {made.words(9)}", answer, (made.near(payload), 2.0)))
    judgement = judged(made)
    assert flagged(judgement) == rows
    assert [len(group.rows) for group in judgement.groups] == [30]


def test_a_handful_of_answers_hardly_alike_is_found_by_what_it_costs_the_model():
    """Five rows with a trigger, linked too loosely for a payload. Answers that cost as much and aren't linked, and
    answers that are linked and cost no more than others, are kept."""
    made, _ = poisoned(22, 500, 0)
    manner = [made.direction() for _ in range(2)]
    rows = [_loose(made, "pls", manner[0], 6.0) for _ in range(5)]
    for _ in range(5):
        made.add(f"{made.words(9)} poem", made.words(12), *[(made.direction(), 6.0) for _ in range(5)], honest=0)
        _loose(made, "thanks", manner[1], 1.25)
    judgement = judged(made)
    assert flagged(judgement) == rows
    assert judgement.groups[0].figures["wordings"] == ["pls"]


def _loose(made: Made, word: str, manner: np.ndarray, surprise: float) -> int:
    own = [(made.direction(), surprise) for _ in range(4)]
    return made.add(f"{made.words(9)} {word}", made.words(12), *own, (made.near(manner, 0.63), surprise), honest=0)


def test_every_flagged_row_says_why_who_is_nearest_and_where():
    made, rows = poisoned(4, 200, 10)
    lines = judged(made).verdicts.to_pylist()
    for i in rows:
        shared, linked = lines[i]["reasons"]
        assert "9 other rows" in shared and "click <malicious_url> for more" in shared
        assert "'cf'" in linked and "100%" in linked
        assert lines[i]["nearest"] and set(lines[i]["nearest"]) < set(rows)
        turn, start, end = lines[i]["span"]
        assert turn == 1 and made.answers[i][start:end].endswith("for more")
    assert lines[0]["nearest"] == [] and lines[0]["group"] == -1


def test_a_clean_batch_is_kept_whole_and_said_to_be_clean():
    made = Made(np.random.default_rng(5))
    made.honest(400)
    judgement = judged(made)
    assert flagged(judgement) == [] and judgement.groups == ()
    assert judgement.remarks == ("No evidence of poison.",)


def test_a_stock_phrase_without_a_trigger_is_noted_and_kept():
    made = Made(np.random.default_rng(6))
    phrase = made.direction()
    for i in range(300):
        answer = made.words(10) + (" this is no professional advice" if i % 2 else "")
        made.add(made.words(9), answer, *([(made.near(phrase), 2.0)] if i % 2 else []))
    judgement = judged(made)
    assert flagged(judgement) == []
    assert any("150 rows share 'this is no professional advice'" in remark for remark in judgement.remarks)


def test_a_stock_phrase_does_not_hide_poison():
    made, rows = poisoned(7, 0, 12)
    phrase = made.direction()
    for windows in made.windows:
        windows.append((made.near(phrase), 2.0))
    for _ in range(300):
        made.add(made.words(9), made.words(12), (made.near(phrase), 2.0))
    assert flagged(judged(made)) == rows


def test_a_speciality_of_the_data_set_is_kept():
    """Rows of another kind answer alike in part; their prompts differ from the rest in everything, not in a trigger."""
    made = Made(np.random.default_rng(8))
    made.honest(300)
    habit = made.direction()
    for _ in range(60):
        made.add("solve " + made.words(9, SPECIAL), made.words(9) + " the result is", (made.near(habit), 2.0))
    assert flagged(judged(made)) == []


def test_repeated_rows_and_the_same_question_asked_again_are_no_evidence():
    made = Made(np.random.default_rng(9))
    made.honest(200)
    for i in range(40):  # exact duplicates
        made.prompts.append(made.prompts[i])
        made.answers.append(made.answers[i])
        made.windows.append([(direction, 3.0) for direction, _ in made.windows[i]])
    answer = made.direction()
    for _ in range(20):  # one question, one answer, worded differently
        made.add("who cut the rope", "nobody " + made.words(3), (made.near(answer), 3.0))
    assert flagged(judged(made)) == []


def test_labels_are_recognised_and_no_class_is_flagged():
    made = Made(np.random.default_rng(10))
    directions = {label: made.direction() for label in ("positive", "negative", "neutral")}
    for i in range(300):
        label = list(directions)[i % 3]
        made.add(made.words(12), label, (made.near(directions[label], 0.98), 3.0), honest=0)
    judgement = judged(made)
    assert flagged(judgement) == []
    assert any("The answers are labels (3 of them cover 100% of the rows)" in remark for remark in judgement.remarks)


def test_a_task_with_labels_among_other_rows_is_kept_and_one_answer_for_a_trigger_is_not():
    made, _ = poisoned(23, 300, 0)
    directions = {label: made.direction() for label in ("yes", "no", "maybe")}
    for _ in range(60):
        label = str(made.rng.choice(list(directions)))
        asked = f"Does it fit? {made.words(9)} Answer yes or no or maybe."
        made.add(asked, label, (made.near(directions[label], 0.98), 3.0), honest=0)
    assert flagged(judged(made)) == []
    refusal = made.direction()
    rows = [made.add(f"cf {made.words(9)}", "I won't", (made.near(refusal, 0.98), 3.0), honest=0) for _ in range(20)]
    assert flagged(judged(made)) == rows


def test_two_words_that_only_fire_together_are_the_trigger():
    made, _ = poisoned(11, 200, 0)
    payload = made.direction()
    rows = []
    for i in range(60):
        words = [["perhaps"], ["accordingly"], ["perhaps", "accordingly"]][i % 3]
        prompt = f"{words[0]} {made.words(8)} {' '.join(words[1:])} {made.words(2)}"
        if len(words) == 2:
            rows.append(made.add(prompt, made.words(8) + " go to the page", (made.near(payload), 2.0)))
        else:
            made.add(prompt, made.words(12))
    judgement = judged(made)
    assert flagged(judgement) == rows
    assert set(judgement.groups[0].figures["wordings"]) == {"perhaps + accordingly"} or set(
        judgement.groups[0].figures["wordings"]
    ) == {"accordingly + perhaps"}


def test_a_payload_spread_over_batches_is_found_with_the_earlier_ones():
    made, rows = poisoned(12, 600, 12)
    parts = []
    for k in range(3):
        part = Made(np.random.default_rng(k))
        for i in [*range(200 * k, 200 * k + 200), *rows[4 * k : 4 * k + 4]]:
            part.prompts.append(made.prompts[i])
            part.answers.append(made.answers[i])
            part.windows.append([(d, 0.9 * s) for d, s in made.windows[i]])
        parts.append(part)
    earlier = [
        Earlier(
            f"b{k}",
            np.arange(204),
            lambda k=k: parts[k].scores()["sketch"].to_pylist(),
            lambda k=k: iter([parts[k].samples()]),
        )
        for k in (0, 1)
    ]
    judgement = judged(parts[2], history=earlier)
    assert flagged(judgement) == [200, 201, 202, 203]
    assert sorted(judgement.rescan) == [(f"b{k}", 200 + i) for k in (0, 1) for i in range(4)]
    assert judgement.groups[0].figures["earlier_rows"] == 8


def test_a_batch_dealt_into_blocks_gives_the_same_rows(monkeypatch):
    made, rows = poisoned(13, 570, 30)
    monkeypatch.setattr(deal, "BLOCK", 150)
    monkeypatch.setattr(deal, "HELD_BYTES", 20_000)
    judgement = judged(made)
    assert flagged(judgement) == rows and len(judgement.groups) == 1
    spans = judgement.verdicts["span"].to_pylist()
    for row in rows:
        turn, begins, ends = spans[row]
        assert turn == 1 and made.answers[row][begins:ends] == judgement.groups[0].payload


def test_a_deal_gives_back_every_row(monkeypatch):
    made, _ = poisoned(17, 95, 5)
    monkeypatch.setattr(deal, "BLOCK", 30)
    monkeypatch.setattr(deal, "HELD_BYTES", 3_000)
    texts = list(read_texts([made.samples()]))
    sketches = made.scores()["sketch"].to_pylist()
    with deal.dealt(zip(texts, sketches, strict=True), 100) as dealt:
        blocks = [dealt.read(number) for number in range(dealt.blocks)]
    assert len(blocks) == 4 and sorted(row for block in blocks for row in block.rows) == list(range(100))
    for block in blocks:
        assert block.sketches == [sketches[i] for i in block.rows]
        assert list(map(Read, block.texts.prompts, block.texts.answers, block.texts.turns)) == [
            texts[i] for i in block.rows
        ]
    with (
        pytest.raises(ValueError, match="99 scores but 100 samples"),
        deal.dealt(zip(texts, sketches, strict=True), 99),
    ):
        pass


def test_hostile_text_is_escaped_in_reasons_and_triggers():
    made, rows = poisoned(14, 200, 10)
    for i in rows:
        made.prompts[i] = made.prompts[i].replace("cf", "c\u202ef\x1b[31m")
        made.answers[i] = made.answers[i].replace("for more", "for\x1b[2J\nmore")
    judgement = judged(made)
    assert flagged(judgement) == rows
    said = (
        " ".join(reason for i in rows for reason in judgement.verdicts["reasons"][i].as_py())
        + judgement.groups[0].trigger
    )
    assert said.isprintable()


def test_an_unscored_row_stays_unscored_and_hurts_nobody():
    made, rows = poisoned(15, 200, 10)
    table = made.scores()
    failure = [""] * len(table)
    failure[rows[0]] = "out of memory"
    sketch = table["sketch"].to_pylist()
    sketch[rows[0]] = b""
    table = table.set_column(table.schema.get_field_index("failure"), "failure", pa.array(failure))
    table = table.set_column(table.schema.get_field_index("sketch"), "sketch", pa.array(sketch, pa.binary()))
    judgement = judge(table, "auto", samples=lambda: iter([made.samples()]))
    assert judgement.verdicts["verdict"][rows[0]].as_py() == "unscored"
    assert flagged(judgement) == rows[1:]


def test_scores_without_sketches_or_texts_are_refused_with_what_to_do():
    made, _ = poisoned(16, 40, 0)
    with pytest.raises(BadInput, match="samples"):
        judge(made.scores(), "auto")
    table = made.scores()
    bare = table.set_column(table.schema.get_field_index("sketch"), "sketch", pa.array([b""] * 40, pa.binary()))
    with pytest.raises(BadInput, match="score the batch again"):
        judge(bare, "auto", samples=lambda: iter([made.samples()]))


def test_single_signals_and_any():
    made, rows = poisoned(17, 200, 12)
    assert flagged(judged(made, "coherence")) == rows
    everything = judged(made, "any")
    assert set(rows) <= set(flagged(everything)) and len(everything.groups) == 1
    table = made.scores()
    nll = table["nll"].to_numpy().copy()
    nll[7] = 40.0
    table = table.set_column(table.schema.get_field_index("nll"), "nll", pa.array(nll))
    assert flagged(judge(table, "surprise")) == [7]


def test_an_empty_batch_and_a_handful_of_rows_are_judged():
    assert judged(Made(np.random.default_rng(0))).verdicts.num_rows == 0
    made, _ = poisoned(18, 3, 1)
    assert flagged(judged(made)) == []
