"""Layouts under the names that people give to columns, keys and speakers, and what is said of those that are none."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.samples.preview import preview, standing
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.row_format import BadRow, make_schema, read_row

READ, LEARNT, DOWN = "read", "learnt", "turned down"
USER, SAYS = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}
CHAT = [("user", "Hi", READ), ("assistant", "Yo", LEARNT)]
PLAIN = [("prompt", "Hi", READ), ("response", "Yo", LEARNT)]
PAIR = [*PLAIN, ("rejected", "no", DOWN)]


def turns(row, **schema):
    sample = read_row(row, make_schema(**schema)).sample
    return [(turn.role, turn.text, standing(turn)) for turn in sample.turns]


def refused(row):
    with pytest.raises(BadRow) as caught:
        read_row(row)
    return str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        *({name: [USER, SAYS]} for name in ("dialog", "dialogue", "turns", "chat", "items", "data", "Messages")),
        {"Conversations": [{"From": "Human", "Value": "Hi"}, {"From": "GPT", "Value": "Yo"}]},
        {"conversation": [{"speaker": "user", "text": "Hi"}, {"speaker": "bot", "text": "Yo"}]},
        {"dialog": [{"Speaker": "User", "message": "Hi"}, {"Speaker": "Assistant", "message": "Yo"}]},
        {"messages": [{"author": "user", "content": "Hi"}, {"author": {"role": "assistant"}, "content": "Yo"}]},
        {"data": ["Hi", "Yo"], "id": 1},
        {"messages": [USER, {"role": "assistant", "content": None, "refusal": "Yo"}]},
        {"messages": [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "Yo"}]}]},
    ],
)
def test_a_chat_under_other_names(row):
    assert turns(row) == CHAT


@pytest.mark.parametrize(
    "names",
    [
        *(("user", "assistant"), ("human", "gpt"), ("problem", "solution"), ("inputs", "targets"), ("input", "target")),
        *(("article", "highlights"), ("document", "summary"), ("dialogue", "summary"), ("source", "target")),
        *(("prompt", "generation"), ("Question", "Answer"), (" prompt ", "RESPONSE"), ("user_input", "model_output")),
    ],
)
def test_prompt_and_answer_under_other_names(names, tmp_path):
    row = dict(zip(names, ("Hi", "Yo"), strict=True))
    assert turns(row) == PLAIN
    assert turns({**row, "System Prompt": "S"}) == [("system", "S", READ), *PLAIN]
    pq.write_table(pa.Table.from_pylist([row | {"more": "text"}]), tmp_path / "rows.parquet")
    found = preview(open_source(str(tmp_path / "rows.parquet"), identify=False))
    assert (found.readable, [column.name for column in found.unread]) == (1, ["more"])


def test_a_better_name_goes_before():
    assert turns({"prompt": "Hi", "response": "Yo", "source": "web", "target": "x", "data": ["a", "b"]}) == PLAIN
    assert turns({"prompt": "Hi", "Prompt": "other", "response": "Yo"}) == PLAIN
    assert refused({"problem": "Hi", "solution": "Long", "answer": "4"}) == (
        "more than one answer: columns 'answer', 'solution'; name the one to score in the column mapping"
    )


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, SAYS], "rejected_response": "no"},
        {"messages": [USER, SAYS], "rejected_messages": [USER, {"role": "assistant", "content": "no"}]},
        {"prompt": "Hi", "chosen": [SAYS], "rejected": "no"},
    ],
)
def test_pairs_of_a_chat_and_another_answer(row):
    assert turns(row) == [*CHAT, ("rejected", "no", DOWN)]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "response": "Yo", "rejected": "no"},
        {"question": "Hi", "response_j": "Yo", "response_k": "no"},
        {"prompt": "Hi", "chosen": ["Yo"], "rejected": ["no"]},
    ],
)
def test_pairs_of_texts(row):
    assert turns(row) == PAIR


def test_answers_kept_with_their_ranks():
    row = {"prompt": "Hi", "answers": [{"answer": "Yo", "rank": 1}, {"answer": "no", "rank": 2}]}
    assert turns(row) == [*PLAIN, ("response", "no", LEARNT)]


def test_of_a_verdict_on_a_chat_the_last_answer_is_learnt():
    """As TRL and LLaMA-Factory (`encode_oneturn`) train it."""
    row = {"messages": [USER, SAYS, USER, SAYS], "label": True}
    assert turns(row) == [("user", "Hi", READ), ("assistant", "Yo", READ), *CHAT]


def test_what_tools_answer_and_offer():
    sample = read_row(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]},
                {"role": "model", "parts": [{"text": "Yo"}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "f"}]}],
        }
    ).sample
    assert (sample.turns[2].role, sample.turns[2].text) == ("tool", '{"x": 1}')
    assert json.loads(sample.tools) == [{"type": "function", "function": {"name": "f"}}]
    for content, text in (({"x": [1]}, '{"x": [1]}'), ([1, 2], "[1, 2]"), (7, "7")):
        assert turns({"messages": [USER, SAYS, {"role": "tool", "content": content}, SAYS]})[2] == ("tool", text, READ)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"body": {"messages": [USER, SAYS]}}, {"messages": "body.messages"}),
        ({"body": {"in": {"q": "Hi"}}, "a": "Yo"}, {"prompt": "body.in.q", "response": "a"}),
    ],
)
def test_columns_within_others(row, name, tmp_path):
    assert [turn[1:] for turn in turns(row, columns=name)] == [("Hi", READ), ("Yo", LEARNT)]
    for path in (tmp_path / "rows.parquet", tmp_path / "rows.jsonl"):
        if path.suffix == ".jsonl":
            path.write_text(json.dumps(row) + "\n")
        else:
            pq.write_table(pa.Table.from_pylist([row]), path)
        found = preview(open_source(str(path), name, identify=False))
        assert (found.readable, found.unread) == (1, ())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"translation": {"en": "Hi", "de": "Yo"}}, "'en', 'de': name them by path, as --column response="),
        ({"instruction": "Hi", "instances": [{"input": "", "output": "x"}]}, "holds rows of its own: put each on a"),
        ({"messages": "[{'role': 'user', 'content': 'Hi'}]"}, "in Python's own notation: write it with json.dumps"),
        ({"prompt": "Hi", "completions": ["a", "b"], "labels": [True, False]}, "the steps of one answer"),
        ({"question": "Hi", "responses": ["A", "B"], "kto_tag": True}, "one verdict on 2 answers"),
        ({"question": "Hi", "responses": ["A", "B", "C"], "kto_tag": 0}, "one verdict on 3 answers"),
        ({"prompt": "Hi", "chosen": "Yo", "rejected": None}, "half of a pair"),
        ({"prompt": "Hi", "chosen": "Yo", "rejected": ["a", "b"]}, "2 rejected answers in one row"),
        ({"columns": ["prompt"], "index": [0], "data": [["Hi", "Yo"]]}, "no known format"),
    ],
)
def test_what_is_said_of_a_row_that_is_none(row, said):
    assert said in refused(row)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", b'{"prompt": "Hi", "response": "Yo"},\n' * 2, "leave out the comma behind the row"),
        ("a.jsonl", b"{'prompt': 'Hi', 'response': 'Yo'}\n", "write it with json.dumps"),
        ("a.jsonl", json.dumps(json.dumps({"prompt": "Hi"})).encode(), "put into JSON twice"),
        ("a.jsonl", b'[{"role": "user", "content": "Hi"}]\n' * 2, 'a chat is to be an object, {"messages": [...]}'),
        ("a.json", b'[{"prompt": "Hi", "response": "Yo"},\n]', "nothing stands between two commas, or behind the last"),
    ],
)
def test_what_is_said_of_bytes_that_are_no_row(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    found = preview(open_source(str(tmp_path / name), identify=False))
    assert said in found.refused[0].reason


def test_a_layout_that_hangs_on_values_is_not_taken_from_the_row_before(tmp_path):
    rows = [{"dialogue": ""}, {"dialogue": [USER, SAYS]}, {"dialogue": [USER, SAYS]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert preview(open_source(str(tmp_path / "a.jsonl"), identify=False)).readable == 2
