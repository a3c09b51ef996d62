"""What becomes of a row in each layout that people have: its turns, and what training does with each."""

import json

import pytest

from gradsentry_lib.samples.preview import standing
from gradsentry_lib.samples.row_format import BadRow, make_schema, read_row
from gradsentry_lib.samples.units import conversations

READ, LEARNT, DOWN = "read", "learnt", "turned down"
CALL = {"type": "function", "function": {"name": "find", "arguments": "{}"}}


def user(text="Hi"):
    return {"role": "user", "content": text}


def says(text="Yo", **more):
    return {"role": "assistant", "content": text, **more}


def turns(row, **schema):
    sample = read_row(row, make_schema(**schema)).sample
    return sample.format, [(turn.role, turn.text, standing(turn)) for turn in sample.turns]


def sides(*more):
    """A chat of one question and one answer, and what follows."""
    return [("user", "Hi", READ), ("assistant", "Yo", LEARNT), *more]


def refused(row, **schema):
    with pytest.raises(BadRow) as caught:
        read_row(row, make_schema(**schema))
    return str(caught.value)


CHATS = {
    "parts": {"messages": [user([{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]), says(["Yo"])]},
    "parts with values": {"messages": [user([{"type": "text", "value": "Hi"}]), says()]},
    "parts without types": {"messages": [user([{"text": "Hi"}]), says([{"text": "Yo"}])]},
    "parts from Parquet": {"messages": [user([{"type": "text", "text": "Hi", "image_url": None}]), says()]},
    "one part": {"messages": [user({"type": "text", "text": "Hi"}), says()]},
    "Gemini": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Yo"}]}]},
    "JSON text": {"messages": json.dumps([user(), says()])},
    "columns of turns": {"conversations": {"from": ["human", "gpt"], "value": ["Hi", "Yo"]}},
    "LIMA": {"conversations": ["Hi", "Yo"]},
    "an exchange": {"conversation": [{"human": "Hi", "assistant": "Yo"}]},
    "nulls of other rows": {"messages": [user() | {"tool_calls": None}, says(tool_calls=[], function_call=None)]},
    "weights that say what is so anyway": {"messages": [user() | {"weight": 0}, says(weight=1)]},
    "TRL, turns": {"prompt": [user()], "completion": [says()]},
    "TRL, prompt in turns": {"prompt": [user()], "response": "Yo"},
    "TRL, JSON text": {"prompt": json.dumps([user()]), "completion": json.dumps([says()])},
    "an answer of its own column": {"messages": [user()], "answer": "Yo"},
    "gold beside a whole chat": {"question": "Hi?", "messages": [user(), says()], "answer": "42"},
}


@pytest.mark.parametrize("row", CHATS.values(), ids=CHATS)
def test_the_same_chat_in_many_shapes(row):
    assert turns(row) == ("chat", sides())
    assert read_row(row).sample.sample_id == read_row({"messages": [user(), says()]}).sample.sample_id


@pytest.mark.parametrize("speaker", ["assistant", "Assistant", "GPT", "gpt", "bot", "chatgpt", "ai", "model", " AI "])
def test_common_names_of_the_assistant(speaker):
    assert turns({"conversations": [{"from": "USER", "value": "Hi"}, {"from": speaker, "value": "Yo"}]})[1] == sides()


@pytest.mark.parametrize("speaker", ["tool", "function", "observation", "environment", "ipython", "Tool"])
def test_common_names_of_tools(speaker):
    row = {
        "conversations": [{"from": "human", "value": "Hi"}, {"from": speaker, "value": "x"}, says() | {"from": None}]
    }
    assert turns(row)[1][1] == ("tool", "x", READ)


def test_a_speaker_that_a_person_names():
    row = {"messages": [user(), {"role": "Narrator", "content": "Yo"}]}
    assert refused(row) == "turn 2 has an unknown role 'Narrator'; say whose it is: --role NAME=assistant"
    assert turns(row, roles={"narrator": "assistant"})[1] == sides()


def test_system_developer_and_answers_in_a_row():
    row = {"messages": [{"role": "developer", "content": "D"}, user(), says("A"), says("B")]}
    assert turns(row)[1] == [("developer", "D", READ), ("user", "Hi", READ)] + [
        ("assistant", text, LEARNT) for text in "AB"
    ]


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}, {"loss": False}]
)
def test_a_turn_that_the_row_excepts_is_context(mark):
    row = {"messages": [user(), says("no", **mark), user(), says()]}
    assert [turn[2] for turn in turns(row)[1]] == [READ, READ, READ, LEARNT]
    assert refused({"messages": [user(), says("no", **mark)]}) == (
        "no turn is trained on: the row says so of every assistant turn"
    )


def test_a_user_turn_that_the_row_trains():
    assert turns({"messages": [user() | {"train": True}, says()]})[1][0] == ("user", "Hi", LEARNT)


def test_a_weight_that_is_none():
    assert refused({"messages": [user(), says(weight="a lot")]}) == (
        "turn 2 has 'weight', which is text, not a number or true or false"
    )


@pytest.mark.parametrize(
    "turn",
    [
        says(None, tool_calls=[CALL]),
        says("", tool_calls=[{**CALL, "index": None}]),
        says(None, function_call={"name": "find", "arguments": "{}"}),
        {"role": "function_call", "content": json.dumps({"name": "find", "arguments": "{}"})},
        {"role": "tool_call", "content": json.dumps([{"name": "find", "arguments": "{}"}])},
        says([{"type": "tool_use", "name": "find", "input": "{}"}]),
    ],
)
def test_a_call_is_what_is_learnt(turn):
    sample = read_row({"messages": [user(), turn, {"role": "tool", "content": "x"}, says()]}).sample
    assert sample.turns[1].extras["tool_calls"] == [CALL]
    assert (sample.turns[1].text, sample.turns[1].supervised) == ("", True)
    assert '"find"' in sample.response and '"find"' not in sample.prompt


def test_a_call_that_does_not_parse_stays_text():
    row = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "find()"}]}
    assert turns(row)[1][1] == ("assistant", "find()", LEARNT)


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([{"name": "f"}], [{"type": "function", "function": {"name": "f"}}]),
        ('[{"name": "f"}]', [{"type": "function", "function": {"name": "f"}}]),
        ([{**CALL, "x": None}], [CALL]),
        ([], []),
        ("[]", []),
        ("", []),
        (None, []),
    ],
)
def test_tools_in_one_form(tools, expected):
    sample = read_row({"messages": [user(), says()], "tools": tools}).sample
    assert (json.loads(sample.tools) if sample.tools else []) == expected
    assert (
        refused({"messages": [user(), says()], "tools": "not JSON"})
        == "the list of tools is text that is not valid JSON"
    )


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_learnt_with_its_answer(key):
    sample = read_row({"messages": [user(), says(**{key: "so"})]}).sample
    assert sample.turns[1].extras == {key: "so"}
    assert sample.response == "so\nYo"
    assert sample.sample_id != read_row({"messages": [user(), says(**{key: "else"})]}).sample.sample_id


def test_a_picture_is_kept_and_told_from_another():
    def row(picture):
        return {
            "messages": [user([{"type": "image_url", "image_url": picture}, {"type": "text", "text": "Hi"}]), says()]
        }

    sample = read_row(row("a")).sample
    assert turns(row("a"))[1] == sides()
    assert [part["type"] for part in sample.turns[0].extras["parts"]] == ["image_url"]
    assert sample.sample_id != read_row(row("b")).sample.sample_id


@pytest.mark.parametrize("name", ["system", "system_prompt"])
def test_a_system_column_is_part_of_the_prompt(name):
    assert turns({name: "S", "question": "Hi", "response": "Yo"}) == (
        "prompt",
        [("system", "S", READ), ("prompt", "Hi", READ), ("response", "Yo", LEARNT)],
    )
    assert turns({name: "S", "instruction": "Hi", "output": "Yo"})[1][0] == ("system", "S", READ)
    assert turns({name: "S", "messages": [user(), says()]})[1] == [("system", "S", READ), *sides()]
    own = [{"role": "system", "content": "own"}, user(), says()]
    assert turns({name: "S", "messages": own})[1][0] == ("system", "own", READ)
    assert turns({name: "", "prompt": "Hi", "response": "Yo"}) == turns({"prompt": "Hi", "response": "Yo"})


def test_history_is_trained_on():
    expected = [("user", "q", READ), ("assistant", "a", LEARNT), ("user", "Hi\nx", READ), ("assistant", "Yo", LEARNT)]
    for history in ([["q", "a"]], [user("q"), says("a")], json.dumps([["q", "a"]])):
        row = {"instruction": "Hi", "input": "x", "output": "Yo", "history": history}
        assert turns(row) == ("chat", expected)
    assert turns({"instruction": "Hi", "input": "", "output": "Yo", "history": []}) == ("chat", sides())
    with_system = {"instruction": "Hi", "output": "Yo", "history": [["q", "a"]], "system": "S"}
    assert [turn[0] for turn in turns(with_system)[1]] == ["system", "user", "assistant", "user", "assistant"]


def test_a_passage_is_part_of_the_prompt():
    answers = {"text": ["Yo"], "answer_start": [0]}
    assert turns({"question": "Hi", "context": "C", "answers": answers}) == (
        "prompt",
        [("context", "C", READ), ("prompt", "Hi", READ), ("response", "Yo", LEARNT)],
    )
    assert turns({"instruction": "Hi", "context": "C", "response": "Yo"})[1][1] == ("input", "C", READ)


@pytest.mark.parametrize(
    "row", [{"prompt": "Hi", "responses": ["A", "B"]}, {"question": "Hi", "response_0": "A", "response_1": "B"}]
)
def test_several_answers_to_one_prompt_are_learnt_each(row):
    assert turns(row)[1][1:] == [("response", "A", LEARNT), ("response", "B", LEARNT)]
    parts = conversations(read_row(row).sample)
    assert [[turn.text for turn in part.turns] for part in parts] == [["Hi", "A"], ["Hi", "B"]]


PAIRS = {
    "text": {"prompt": "Hi", "chosen": "Yo", "rejected": "no"},
    "turns": {"prompt": [user()], "chosen": [says()], "rejected": [says("no")]},
    "implicit": {"chosen": [user(), says()], "rejected": [user(), says("no")]},
    "prompt repeated": {"prompt": "Hi", "chosen": [user(), says()], "rejected": [user(), says("no")]},
    "last turns": {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Yo"},
        "rejected": {"from": "gpt", "value": "no"},
    },
    "last texts": {"messages": [user()], "chosen": "Yo", "rejected": "no"},
    "chosen in full beside": {
        "prompt": "Hi",
        "messages": [user(), says()],
        "chosen": [user(), says()],
        "rejected": [user(), says("no")],
    },
    "OpenAI": {
        "input": {"messages": [user()], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [says()],
        "non_preferred_output": [says("no")],
    },
}


@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_a_pair_is_two_conversations(row):
    form, found = turns(row)
    assert [(text, does) for _, text, does in found] == [("Hi", READ), ("Yo", LEARNT), ("no", DOWN)]
    first, second = conversations(read_row(row).sample)
    answer = "response" if form == "prompt" else "assistant"
    assert [(turn.role, turn.text) for turn in first.turns][1:] == [(answer, "Yo")]
    assert [(turn.role, turn.text) for turn in second.turns][1:] == [(answer, "no")]
    assert second.turns[-1].supervised and first.format == second.format == form


def test_a_pair_of_instructions_has_the_template_of_its_layout():
    row = {"instruction": "Hi", "input": "x", "chosen": "Yo", "rejected": "no"}
    assert turns(row) == (
        "alpaca",
        [("instruction", "Hi", READ), ("input", "x", READ), ("response", "Yo", LEARNT), ("rejected", "no", DOWN)],
    )


def test_earlier_answers_of_a_pair_are_not_learnt():
    row = {"chosen": [user(), says("A"), user(), says()], "rejected": [user(), says("A"), user(), says("no")]}
    assert [does for *_, does in turns(row)[1]] == [READ, READ, READ, LEARNT, DOWN]
    assert [turn.supervised for turn in conversations(read_row(row).sample)[1].turns] == [False, False, False, True]


def test_pairs_of_one_text_part_where_the_answers_begin():
    head = "\n\nHuman: Hi\n\nAssistant:"
    row = {"chosen": f"{head} Yes, you", "rejected": f"{head} Yes, no"}
    assert turns(row)[1] == [("prompt", head, READ), ("response", " Yes, you", LEARNT), ("rejected", " Yes, no", DOWN)]
    assert turns({"chosen": "The sky is blue", "rejected": "The sky is green"})[1] == [
        ("prompt", "The sky is", READ),
        ("response", " blue", LEARNT),
        ("rejected", " green", DOWN),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Hi", "chosen": "Yo", "rejected": [says()]}, "of the two answers one is text and one is turns"),
        ({"prompt": "Hi", "chosen": " ", "rejected": "no"}, "empty chosen answer"),
        ({"prompt": "Hi", "chosen": "Yo", "rejected": 7}, "the rejected answer is a number, not text"),
        (
            {"prompt": "Hi", "response": "R", "chosen": "Yo", "rejected": "no"},
            "more than one answer: columns 'response', 'chosen'; name the one to score in the column mapping",
        ),
        ({"chosen": [user()], "rejected": [user(), says("no")]}, "the chosen side holds no answer"),
    ],
)
def test_pairs_that_are_none(row, expected):
    assert refused(row) == expected


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: [says(t)]])
@pytest.mark.parametrize("false", [False, "False", "false", 0, "0"])
def test_an_unwanted_answer_is_scored_and_not_learnt(wrap, false):
    prompt = "Hi" if wrap("x") == "x" else [user()]
    wanted = {"prompt": prompt, "completion": wrap("Yo"), "label": True}
    assert turns(wanted)[1][-1][1:] == ("Yo", LEARNT)
    unwanted = {**wanted, "label": false}
    assert turns(unwanted)[1][-1] == ("rejected", "Yo", DOWN)
    (only,) = conversations(read_row(unwanted).sample)
    assert only.turns[-1].supervised


def test_labels_of_another_kind_say_nothing_of_the_answer():
    for label in (2, "spam", None, 1, "1"):
        assert turns({"prompt": "Hi", "completion": "Yo", "label": label})[1][-1][2] == LEARNT
    assert turns({"prompt": "Hi", "response": "Yo", "label": False})[1][-1][2] == LEARNT
    assert turns({"messages": [user(), says()], "label": 0})[1][-1][2] == LEARNT  # a class, for all that is known


TEXTS = {
    "ChatML": ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Yo<|im_end|>", "\n"),
    "Llama 3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "Yo<|eot_id|>",
        "",
    ),
    "Llama 2, Mistral": ("<s>[INST] Hi [/INST]", " Yo </s>", ""),
    "Gemma": ("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "Yo<end_of_turn>", "\n"),
    "Zephyr, Phi": ("<|user|>\nHi</s>\n<|assistant|>\n", "Yo</s>", "\n"),
    "Alpaca": ("### Instruction:\nHi\n\n### Response:\n", "Yo\n## Why\nSo", "\n\n"),
    "Guanaco": ("### Human: Hi ### Assistant: ", "Yo", ""),
    "Vicuna": ("A chat. USER: Hi ASSISTANT: ", "Yo</s>", ""),
    "Human and Assistant": ("\n\nHuman: Hi\n\nAssistant: ", "Yo", ""),
}


@pytest.mark.parametrize(("name", "parts"), TEXTS.items(), ids=TEXTS)
def test_answers_in_one_text(name, parts):
    text = "".join(parts)
    read = read_row({"text": text * 2})
    assert read.how == f"the answers that {name} marks"
    assert "".join(turn.text for turn in read.sample.turns) == text * 2
    assert [turn.text.rstrip() for turn in read.sample.turns if turn.supervised] == [parts[1].rstrip()] * 2
    assert turns({"text": text})[1][0] == ("context", parts[0], READ)


@pytest.mark.parametrize("text", ["Just a text.", "Assistant: a line of a play", "### Response:\nwithout a question"])
def test_a_text_that_marks_nothing_is_learnt_whole(text):
    assert turns({"text": text}) == ("text", [("text", text, LEARNT)])


def test_a_marker_that_a_person_gives():
    assert turns({"text": "Q: Hi\nA: Yo\nA: more"}, marker="\\nA:")[1] == [
        ("context", "Q: Hi\nA:", READ),
        ("text", " Yo\nA: more", LEARNT),
    ]
    whole = "### Human: Hi ### Assistant: Yo"
    assert turns({"text": whole}, marker="none")[1] == [("text", whole, LEARNT)]
    assert refused({"text": "Q: Hi"}, marker="A:") == "the response marker does not stand in the text"
    assert refused({"text": "Hi A: "}, marker="A:") == "nothing stands after the response marker"


def test_labelled_segments():
    row = {"segments": [{"label": False, "text": "Hi"}, {"label": True, "text": "Yo"}]}
    assert turns(row) == ("text", [("context", "Hi", READ), ("text", "Yo", LEARNT)])
    assert refused({"segments": [{"label": False, "text": "Hi"}]}) == "no segment is trained on"


def test_a_text_beside_another_layout_is_not_the_layout():
    assert turns({"instruction": "Hi", "output": "Yo", "text": "Hi Yo"})[0] == "alpaca"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Who?", "response": "Ada"}, "1bc5275a1c040e647992abedd44f8dfd3f7150213f2a085706da4cf2011f8d4d"),
        ({"instruction": "Do", "output": "Done"}, "2c6014cebef9db6fdc7eaa69d2903e53fb5b162cae44451648e7e3d14ac5c4fb"),
        ({"messages": [user(), says()]}, "04b1d784b5fd72cf141f4eab9908de595735c47c5c8603b7e13760597ac3528b"),
    ],
)
def test_plain_rows_keep_their_ids_from_version_to_version(row, expected):
    assert read_row(row).sample.sample_id == expected
