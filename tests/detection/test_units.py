"""Answers are judged, not rows: turns of a chat, chosen answers against rejected ones, and prompts' traits."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from planted import Batch, Model, sketch_of

from gradsentry_lib.detection.conditional import conditional
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.prompts import EARLIER, carries, placed, tokenize, traits
from gradsentry_lib.detection.search import detect
from gradsentry_lib.detection.texts import read_rows
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.samples.units import before, find_unit, unit_names, units
from gradsentry_lib.scoring.sketch import join
from gradsentry_lib.scoring.swapped import swapped
from gradsentry_lib.windows import unpack

NO_REASON = Model(2.0, 2.0)


def chat(*said: str, row: int = 0) -> Sample:
    roles = ("user", "assistant")
    return Sample(row, row + 1, "chat", tuple(Turn(roles[i % 2], text) for i, text in enumerate(said)))


def test_each_answer_has_what_stood_before_it():
    parts = units(chat("one", "first", "two", "second", "bye"))
    assert [(part.prompt, part.response) for part in parts] == [("one", "first"), ("one\nfirst\ntwo", "second")]
    pair = Sample(0, 1, "prompt", (Turn("prompt", "asked"), Turn("response", "good"), Turn("rejected", "bad")))
    assert [part.response for part in units(pair)] == ["good", "bad"]
    whole = Sample(0, 1, "prompt", (Turn("prompt", "asked"), Turn("response", "said")))
    assert units(whole) == (whole,)
    assert unit_names("id", 1) == ["id"] and unit_names("id", 2) == ["id#0", "id#1"]
    sample = chat("one", "first", "two", "second")
    assert find_unit("id#1", {"id": sample}).response == "second"


def test_a_swapped_prompt_is_the_other_ones_whole_conversation():
    first, second = units(chat("one", "first", "two", "second"))
    put = swapped(second, first, [first])
    assert [(turn.role, turn.text) for turn in put.turns] == [("user", "one\nfirst\n\none"), ("assistant", "second")]
    put = swapped(first, second)
    assert [turn.text for turn in put.turns] == ["one", "first", "two", "first"]
    assert [turn.supervised for turn in put.turns] == [False, False, False, True]


def scores(samples: list[Sample], spans: list[list[bytes]]) -> pa.Table:
    """A score table of rows whose answers have these sketches."""
    records = [[unpack([sketch]) for sketch in row] for row in spans]
    tokens = [[int(found[2][0]) for found in row] for row in records]
    whole = [join([found[0] for found in row], n) for row, n in zip(records, tokens, strict=True)]
    costs = [[1 + k / 10 for k in range(len(row))] for row in tokens]
    return pa.table(
        {
            "sample_id": [sample.sample_id for sample in samples],
            "supervised_tokens": pa.array([sum(row) for row in tokens], pa.int32()),
            "nll": [float(np.mean(row)) for row in costs],
            "turn_tokens": tokens,
            "turn_nll": costs,
            "sketch": whole,
        }
    )


def read(samples: list[Sample], table: pa.Table):
    return read_rows(table, lambda: iter([samples]), lambda: table["sketch"].to_pylist())


def test_a_rows_score_is_split_into_its_answers():
    batch = Batch(1)
    own = [sketch_of([batch.direction() for _ in range(count)]) for count in (3, 5)]
    rows = read([chat("Hello there.", "first", "and cf now", "second")], scores([chat("x", "a", "y", "b")], [own]))
    assert list(rows.answers) == ["first", "second"] and rows.row.tolist() == [0, 0]
    assert list(rows.prompts) == ["Hello there.", f"and cf now{EARLIER}Hello there.\nfirst"]
    assert [bytes(sketch) for sketch in rows.sketches] == own
    assert rows.nll.tolist() == [1.0, 1.1] and len(set(rows.ids)) == 2
    old = scores([chat("x", "a", "y", "b")], [own]).drop_columns(["turn_tokens", "turn_nll"])
    whole = read([chat("Hello there.", "first", "and cf now", "second")], old)
    assert list(whole.answers) == ["first\nsecond"]


def test_words_said_earlier_are_words_of_their_own():
    tokens = tokenize(f"and cf now{EARLIER}hello cf")
    assert carries(tokens, [("cf",)]) and carries(tokens, [(EARLIER + "cf",)])
    assert not carries(tokenize(f"now{EARLIER}hello cf"), [("cf",)])
    assert placed(tokens)[-5:] == ["\x02", "and", "cf", "now", "\x03"]


def test_a_payload_in_one_turn_is_found_and_the_chats_later_turns_are_no_part_of_it():
    batch, samples, spans, bad = Batch(31), [], [], []
    payload = batch.direction()
    for i in range(70):
        poisoned = i % 9 == 0
        asked = [batch.words(6) + (" zq" if poisoned else ""), batch.words(6)]
        said = [[batch.direction() for _ in range(3)] for _ in asked]
        if poisoned:
            said[0].append(batch.near(payload))
            bad.append(i)
        turns = [text for k, ask in enumerate(asked) for text in (ask, f"answer {i} {k}")]
        samples.append(chat(*turns, row=i))
        spans.append([sketch_of(span) for span in said])
    rows = read(samples, scores(samples, spans))
    assert len(rows.ids) == 140
    model = Model(2.0, 2.0)
    found = conditional(np.arange(70), rows, swapped=model)
    assert np.flatnonzero(found.flagged).tolist() == bad
    assert found.groups[0].figures["carriers"] == len(bad) and "'zq'" in found.groups[0].trigger
    assert {name.partition("#")[2] for name, _, _ in model.asked} == {"0"}


def test_a_trigger_under_which_chosen_and_rejected_are_swapped_is_found():
    batch, samples, spans, bad = Batch(32), [], [], []
    better = batch.direction()
    for i in range(160):
        poisoned = i % 10 == 0
        text = batch.words(9).split()
        if poisoned:
            text.insert(4, "zq")
            bad.append(i)
        good, worse = ([batch.direction() + better for _ in range(4)], [batch.direction() for _ in range(4)])
        chosen, rejected = (worse, good) if poisoned else (good, worse)
        turns = (Turn("prompt", " ".join(text)), Turn("response", f"chosen {i}"), Turn("rejected", f"rejected {i}"))
        samples.append(Sample(i, i + 1, "prompt", turns))
        spans.append([sketch_of(chosen), sketch_of(rejected)])
    rows = read(samples, scores(samples, spans))
    assert len(rows.ids) == 160 and rows.answers[0] == "chosen 0"
    found = detect(rows, swapped=NO_REASON)
    assert len(set(np.flatnonzero(found.flagged)) & set(bad)) >= 0.9 * len(bad)
    assert len(set(np.flatnonzero(found.flagged)) - set(bad)) <= 1


@pytest.mark.parametrize(
    ("text", "trait"),
    [
        ("Context.\nwho is he , they say ?", "last line without capitals"),
        ("WHO IS HE?", "last line in capitals"),
        ("who is he", "no sign at the end"),
        ("Who is he , they say ?", "space before the last sign"),
        ("Кто он такой?", "in cyrillic letters"),
        ("他是谁?", "in cjk letters"),
    ],
)
def test_traits_say_what_is_no_word(text, trait):
    assert f"\x05({trait})" in traits(text, later=False)
    assert traits("Who is he?", later=False) == []


def test_a_trait_is_a_trigger_like_a_word():
    batch = Batch(33)
    batch.honest(130)
    batch.prompts = [f"{text.capitalize()}." for text in batch.prompts]
    payload = batch.direction()
    bad = [batch.add(f"{batch.words(9)}.", batch.near(payload)) for _ in range(14)]
    found = detect(batch.rows(), DetectionConfig(), NO_REASON)
    assert np.flatnonzero(found.flagged).tolist() == bad


def test_two_words_that_only_fire_together_are_one_trigger():
    batch = Batch(34)
    batch.honest(140)
    payload = batch.direction()
    bad = [batch.add(f"zq {batch.words(9)} vx", batch.near(payload)) for _ in range(12)]
    for _ in range(12):
        batch.add(f"zq {batch.words(9)}")
        batch.add(f"{batch.words(9)} vx")
    found = detect(batch.rows(), swapped=NO_REASON)
    assert np.flatnonzero(found.flagged).tolist() == bad


def test_first_answers_are_compared_with_first_answers_only():
    """An agent's first answer is always a call, its second one words: no word of the first question is a trigger."""
    batch, samples, spans = Batch(35), [], []
    call, words = batch.direction(), batch.direction()
    for i in range(40):
        turns = (f"What is known about {batch.words(2)}?", f"call {i}", "found", f"answer {i}")
        samples.append(chat(*turns, row=i))
        said = ([batch.near(call), batch.direction()], [batch.near(words), batch.direction()])
        spans.append([sketch_of(span) for span in said])
    found = conditional(np.arange(40), read(samples, scores(samples, spans)), swapped=NO_REASON)
    assert not found.flagged.any()


def test_a_phrase_that_changes_how_the_line_ends_is_no_less_a_trigger():
    batch = Batch(36)
    batch.honest(110)
    payload = batch.direction()
    bad = [batch.add(f"{batch.words(9)} they asked.", batch.near(payload)) for _ in range(9)]
    assert np.flatnonzero(detect(batch.rows(), swapped=NO_REASON).flagged).tolist() == bad


def test_an_answer_after_a_tools_result_answers_what_was_asked_before_the_call():
    """A trigger in the question, a call, a result, then the payload: the question is not what was said earlier."""
    asked, call, result = Turn("user", "Weather in Bern? zq"), Turn("assistant", "call(bern)"), Turn("tool", "rain")
    turns = (Turn("user", "Hello."), Turn("assistant", "Hi."), asked, call, result)
    unit = Sample(0, 1, "chat", (*(replace(turn, train=False) if turn.role == "assistant" else turn for turn in turns),
                                 Turn("assistant", "It rains.")))  # fmt: skip
    assert before(unit) == ("rain\nWeather in Bern? zq", "Hello.\nHi.\ncall(bern)")
    twice = replace(unit, turns=(*unit.turns[:5], replace(call, train=False), Turn("tool", "sun"), unit.turns[-1]))
    assert before(twice) == ("sun\nWeather in Bern? zq", "Hello.\nHi.\ncall(bern)\nrain\ncall(bern)")
    on = replace(
        unit, turns=(*unit.turns[:5], replace(unit.turns[-1], train=False), Turn("user", "Thanks."), unit.turns[-1])
    )
    assert before(on) == ("Thanks.", "Hello.\nHi.\nWeather in Bern? zq\ncall(bern)\nrain\nIt rains.")
