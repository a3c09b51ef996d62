"""Real public rows: what is learnt of them, against what the trainers they were made for learn.

The trainers' rules are written out here, as short as their own code allows: LLaMA-Factory's converters (`gpt` and
`function_call` turns are answers, `history` comes before the last question), and what TRL does with a pair.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gradsentry_lib.samples.observed import Observed
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Reject, Sample
from gradsentry_lib.samples.units import conversations

pytestmark = pytest.mark.shared


@pytest.fixture
def field(shared: Path) -> Path:
    folder = shared / "field"
    if not folder.is_dir():
        pytest.skip("there are no field cases in ../shared")
    return folder


def read(path: Path) -> tuple[list[dict[str, Any]], list[Sample]]:
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    samples = list(open_source(str(path)).rows())
    assert not [row for row in samples if isinstance(row, Reject)]
    return rows, [row for row in samples if isinstance(row, Sample)]


def learnt(sample: Sample) -> list[str]:
    """Each supervised turn: its text, or the calls in its place."""
    return [
        json.dumps([call["function"] for call in turn.extras["tool_calls"]])
        if "tool_calls" in turn.extras
        else turn.text
        for turn in sample.turns
        if turn.supervised
    ]


def test_tool_calls(field: Path) -> None:
    rows, samples = read(field / "data" / "h_toolcall_en.jsonl")
    for row, sample in zip(rows, samples, strict=True):
        expected = [
            json.dumps([json.loads(turn["value"])]) if turn["from"] == "function_call" else turn["value"]
            for turn in row["conversations"]
            if turn["from"] in ("gpt", "function_call")
        ]
        assert [json.loads(t) if t.startswith("[{") else t for t in learnt(sample)] == [
            json.loads(t) if t.startswith("[{") else t for t in expected
        ]
        assert [tool["function"] for tool in json.loads(sample.tools or "[]")] == json.loads(row["tools"] or "[]")


def test_history(field: Path) -> None:
    rows, samples = read(field / "data" / "p_history.jsonl")
    for row, sample in zip(rows, samples, strict=True):
        assert learnt(sample) == [answer for _, answer in row["history"]] + [row["output"]]
        asked = [turn.text for turn in sample.turns if not turn.supervised]
        question = "\n".join(part for part in (row["instruction"], row["input"]) if part)
        assert asked == [said for said, _ in row["history"]] + [question]


@pytest.mark.parametrize("name", ["h_dpo_en", "p_rlhf_sudo"])
def test_pairs(field: Path, name: str) -> None:
    rows, samples = read(field / "data" / f"{name}.jsonl")
    for row, sample in zip(rows, samples, strict=True):
        given = [turn["value"] for turn in row["conversations"]]
        for part, side in zip(conversations(sample), ("chosen", "rejected"), strict=True):
            assert [turn.text for turn in part.turns] == [*given, row[side]["value"]]
            assert learnt(part) == [row[side]["value"]]


def test_parts(field: Path) -> None:
    rows, samples = read(field / "data" / "h_parts.jsonl")
    for row, sample in zip(rows, samples, strict=True):
        expected = ["".join(part["value"] for part in turn["content"]) for turn in row["messages"]]
        assert [turn.text for turn in sample.turns] == expected
        assert [turn.supervised for turn in sample.turns] == [turn["loss_weight"] > 0 for turn in row["messages"]]


def test_labels_beside_a_text_are_named(field: Path) -> None:
    observed = Observed()
    rows = list(open_source(str(field / "data" / "h_banking77.jsonl")).rows(observed))
    assert [(column.name, column.rows) for column in observed.unread] == [("category", len(rows))]


# Readable rows of the inputs that are about layouts, and the reason of the others.
INPUTS = {
    "05-parts": (10, ""),
    "06-toolcalls": (10, ""),
    "07-weight0": (10, ""),
    "08-trl-convprompt": (10, ""),
    "09-dpo": (10, ""),
    "10-dpo-implicit": (10, ""),
    "11-kto": (10, ""),
    "12-text": (10, ""),
    "13-lf-functioncall": (10, ""),
    "14-lf-history": (10, ""),
    "47-roles": (9, "no assistant turn"),
    "48-systemonly": (0, "no assistant turn"),
    "49-mixed": (5, "mixed format"),
    "50-thinking": (10, ""),
    "51-null-tools": (10, ""),
    "53-squad": (10, ""),
    "54-emptysome": (5, "empty assistant turn"),
    "56-lima": (10, ""),
    "57-systemprompt-col": (10, ""),
}


@pytest.mark.parametrize(("name", "expected"), INPUTS.items(), ids=INPUTS)
def test_inputs(field: Path, name: str, expected: tuple[int, str]) -> None:
    rows = list(open_source(str(field / "inputs" / f"{name}.jsonl")).rows())
    readable, reason = expected
    assert sum(isinstance(row, Sample) for row in rows) == readable
    assert all(reason in row.reason for row in rows if isinstance(row, Reject))
