"""Rows of any values under the names that are read: a sample or a reason, never another error."""

import copy
import json
import random

from gradsentry_lib.samples.columns import COLUMNS, NUMBERED
from gradsentry_lib.samples.observed import Observed
from gradsentry_lib.samples.row_format import BadRow, RowReader, make_schema
from gradsentry_lib.samples.table import from_batch, to_table
from gradsentry_lib.samples.units import conversations

ROWS = 10_000
NAMES = [*sorted({name for names in COLUMNS.values() for name in names}), *NUMBERED[0][:2], "else"]
KEYS = ["role", "from", "content", "value", "parts", "text", "type", "weight", "tool_calls", "function_call", "name"]
KEYS += ["thinking", "arguments", "human", "assistant", "label", "messages", "tools", "system", "input", "output"]
TEXTS = ["", " ", "Hi", "user", "assistant", "gpt", "tool", "function_call", "text", "image", "tool_use", "[", "[{}]"]
TEXTS += [
    '[{"role": "user", "content": "Hi"}]',
    "\ud800",
    "a\0b",
    "[/INST] Yo",
    "### Human: a ### Assistant: b",
    "true",
]


def value(draw: random.Random, depth: int = 0):
    kind = draw.random()
    if depth < 4 and kind < 0.25:
        return [value(draw, depth + 1) for _ in range(draw.randrange(3))]
    if depth < 4 and kind < 0.55:
        return {draw.choice(KEYS): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    return draw.choice([None, True, False, 0, 1, -2.5, float("nan"), b"x", *TEXTS * 2])


def turn(draw: random.Random):
    said = {"role": draw.choice(["user", "assistant", "system", "tool"]), "content": draw.choice(["Hi", "Yo", None])}
    return said | {draw.choice(KEYS): value(draw, 2) for _ in range(draw.randrange(3))}


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
GOOD = [
    {"prompt": "Hi", "response": "Yo"},
    {"prompt": "Hi", "completion": "Yo", "label": False},
    {"prompt": "Hi", "chosen": "Yo", "rejected": "no"},
    {"instruction": "Hi", "input": "x", "output": "Yo", "history": [["a", "b"]], "system": "S"},
    {"messages": CHAT, "tools": [{"name": "f"}]},
    {"chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "no"}]},
    {"prompt": CHAT[:1], "completion": CHAT[1:]},
    {"question": "Hi", "responses": ["A", "B"]},
    {"text": "[INST] Hi [/INST] Yo"},
]


def row(draw: random.Random):
    """A good row with some of its values, or some values inside its turns, replaced; or any values at all."""
    made = copy.deepcopy(draw.choice(GOOD)) if draw.random() < 0.7 else {}
    for name in list(made):
        if isinstance(made[name], list) and draw.random() < 0.3:
            made[name].insert(draw.randrange(len(made[name]) + 1), turn(draw))
    for _ in range(draw.randrange(3) if made else draw.randrange(1, 6)):
        made[draw.choice(NAMES)] = value(draw)
    return made


def test_any_row_is_a_sample_or_a_reason():
    draw = random.Random(5)
    readers = [
        RowReader(make_schema()),
        RowReader(make_schema(marker="Yo", turns={"as_chat": True, "trained": ["user"]})),
    ]
    observed, read = Observed(), []
    for number in range(ROWS):
        made = row(draw)
        try:
            found = readers[number % 2].read(made, number)
        except BadRow as reason:
            assert str(reason).isascii() and len(str(reason)) < 1000
            continue
        observed.row(made, found)
        read.append(found.sample)
        assert any(turn.judged for turn in found.sample.turns)
        for part in conversations(found.sample):
            assert any(turn.supervised for turn in part.turns)
            assert not any(turn.role.startswith("rejected") for turn in part.turns)
        assert set(found.used) <= made.keys()
        json.loads(found.sample.tools or "[]")
    assert 500 < len(read) < ROWS
    (batch,) = to_table(read).to_batches()
    assert from_batch(batch) == read  # so every text can be kept as UTF-8
    assert len({sample.sample_id for sample in read}) > 100
