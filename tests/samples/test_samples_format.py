"""Every row format, the columns that carry it, and the exact reason of every row that is refused."""

import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.row_format import BadRow, make_schema, read_row, resolve_columns
from gradsentry_lib.samples.sample import Sample, Turn


def read(row, **mapping):
    sample = read_row(row, make_schema(mapping)).sample
    return sample.format, [(turn.role, turn.text) for turn in sample.turns]


def reason(row, **mapping):
    with pytest.raises(BadRow) as caught:
        read(row, **mapping)
    return str(caught.value)


def chat(*turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


PROMPT = ("prompt", [("prompt", "Who?"), ("response", "Ada")])


@pytest.mark.parametrize("ask", ["prompt", "question", "query", "input"])
@pytest.mark.parametrize("answer", ["response", "completion", "output", "answer", "answers"])
def test_prompt_and_response_by_any_of_their_names(ask, answer):
    assert read({"id": 7, "label": 1, answer: "Ada", ask: "Who?"}) == PROMPT


def test_a_list_of_answers_is_joined():
    assert read({"question": "Who?", "answer": ["Ada", "Grace"]})[1][1] == ("response", "Ada; Grace")


@pytest.mark.parametrize("extra", [{"input": "in French"}, {"context": "in French"}])
def test_alpaca(extra):
    turns = [("instruction", "Say hi"), ("input", "in French"), ("response", "Salut")]
    assert read({"instruction": "Say hi", **extra, "output": "Salut"}) == ("alpaca", turns)


@pytest.mark.parametrize("extra", [{}, {"input": None}, {"input": ""}])
def test_alpaca_without_input(extra):
    assert read({"instruction": "Say hi", **extra, "output": "Hi"})[1][1] == ("input", "")


def test_chat():
    row = chat(("system", "Be brief"), ("user", "Hi"), ("assistant", "Hello"), ("user", ""), ("assistant", "Yes?"))
    turns = [("system", "Be brief"), ("user", "Hi"), ("assistant", "Hello"), ("user", ""), ("assistant", "Yes?")]
    assert read(row) == ("chat", turns)


def test_sharegpt_speakers_become_roles():
    speakers = ("system", "human", "gpt", "observation")
    row = {"conversations": [{"from": speaker, "value": "x"} for speaker in speakers]}
    assert [role for role, _ in read(row)[1]] == ["system", "user", "assistant", "tool"]


def test_a_null_column_counts_as_absent():
    assert read({"prompt": "Who?", "response": "Ada", "completion": None, "messages": None}) == PROMPT


def test_named_columns_settle_what_is_ambiguous():
    row = {"prompt": "Who?", "response": "Ada", "completion": "Eve", "q": "What?", "a": "Code"}
    assert read(row, response="completion")[1][1] == ("response", "Eve")
    assert read(row, prompt="q", response="a")[1] == [("prompt", "What?"), ("response", "Code")]
    assert read(row, question="q", answer="a") == read(row, prompt="q", response="a")
    assert read({"instruction": "Do", "out": "Done"}, output="out")[0] == "alpaca"
    assert read({"chat": chat(("assistant", "Hi"))["messages"], "prompt": "p", "response": "r"}, messages="chat") == (
        "chat",
        [("assistant", "Hi")],
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, "no known format; the columns with a value are: none"),
        ({"body": "x", "n": None}, "no known format; the columns with a value are: 'body'"),
        (
            {str(n): 1 for n in range(9)},
            "no known format; the columns with a value are: '0', '1', '2', '3', '4', '5', '6', '7', ...",
        ),
        ({"\x1b[31m" + "x" * 50: 1}, f"no known format; the columns with a value are: '\\x1b[31m{'x' * 35}...'"),
        ({"response": "Ada", "id": 1}, "missing prompt; the columns with a value are: 'response', 'id'"),
        ({"prompt": "Who?", "response": None}, "missing response; the columns with a value are: 'prompt'"),
        ({"instruction": "Do"}, "missing response; the columns with a value are: 'instruction'"),
        (
            {"prompt": "Who?", "response": "Ada", "completion": "Eve"},
            "more than one answer: columns 'response', 'completion'; name the one to score in the column mapping",
        ),
        (
            {"prompt": "Who?", "response": "Ada", **chat(("assistant", "Eve"))},
            "more than one answer: columns 'messages', 'response'; name the one to score in the column mapping",
        ),
        ({"prompt": "Who?", "response": " \n\t"}, "empty response"),
        ({"prompt": "Who?", "response": []}, "empty response"),
        ({"prompt": "Who?", "response": ["Ada", 1]}, "an answer of the list is a number, not text"),
        ({"prompt": "Who?", "response": 7}, "response is a number, not text"),
        ({"prompt": "Who?", "response": True}, "response is true or false, not text"),
        ({"prompt": "Who?", "response": {"a": 1}}, "response is an object, not text"),
        ({"prompt": ["Who?"], "response": "Ada"}, "prompt is a list, not text"),
        ({"prompt": b"Who?", "response": "Ada"}, "prompt is bytes, not text"),
        ({"instruction": 1.5, "output": "x"}, "instruction is a number, not text"),
        ({"instruction": "Do", "input": {}, "output": "x"}, "input is an object, not text"),
        ({"prompt": "Who?", "response": "A\0"}, "NUL character in response"),
        ({"prompt": "\ud800", "response": "Ada"}, "lone surrogate in prompt"),
        ({"messages": "Hi"}, "the chat is text, not a list of turns"),
        ({"messages": []}, "no assistant turn"),
        (chat(("user", "Hi")), "no assistant turn"),
        ({"messages": ["Hi"]}, "turn 1 is text, not an object"),
        ({"messages": [{"content": "Hi"}]}, "turn 1 has no role"),
        ({"messages": [{"role": "user", "from": "gpt", "content": "Hi"}]}, "turn 1 has two roles"),
        (
            chat(("user", "Hi"), ("narrator", "Hi")),
            "turn 2 has an unknown role 'narrator'; say whose it is: --role NAME=assistant",
        ),
        (chat((["user"], "Hi")), "turn 1 has an unknown role \"['user']\"; say whose it is: --role NAME=assistant"),
        (chat(("user", "Hi"), ("assistant", " ")), "turn 2 is an empty assistant turn"),
        (chat(("user", "Hi"), ("assistant", None)), "turn 2 is null, not text"),
        (chat(("user", [{"type": "text"}])), "turn 1 has a text part without text"),
        (chat(("user", [7])), "turn 1 has a part that is a number, not an object"),
    ],
)
def test_reasons(row, expected):
    assert reason(row) == expected


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (
            {"anser": "a"},
            "unknown role 'anser' in the column mapping; the roles are: messages, instruction, input, prompt, "
            "response, responses, chosen, rejected, label, system, passage, history, tools, text, segments",
        ),
        ({"response": "a", "output": "b"}, "the column mapping names two columns for the role response"),
        (
            {"messages": "m", "prompt": "p"},
            "the column mapping mixes formats: messages, prompt; give the roles of one of them",
        ),
    ],
)
def test_unusable_column_mappings(mapping, expected):
    with pytest.raises(BadInput) as caught:
        resolve_columns(mapping)
    assert str(caught.value) == expected


def test_a_sample_says_itself_what_was_asked_and_what_was_answered() -> None:
    chosen, refused = Turn("response", "yes"), Turn("rejected", "no")
    sample = Sample(0, 1, "prompt", (Turn("system", "be brief"), Turn("prompt", "really?"), chosen, refused))
    assert (sample.asked, sample.answered) == (("be brief", "really?"), ("yes", "no"))
    assert (sample.prompt, sample.response) == ("be brief\nreally?", "yes")
