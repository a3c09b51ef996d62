"""The parts of a training row that an attack rewrites, whatever the row's format.

A row is the JSON object as it stands in a data file: `prompt`/`response` (or `completion`), `question`/`answer`,
Alpaca (`instruction`, `input`, `output`), chat `messages`, or ShareGPT `conversations`. Nothing is changed in place.
In chats the last user message and the last assistant message are the question and the answer.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gradsentry_lib.errors import UnusableInput

Row = Mapping[str, Any]

ASSISTANT, USER, SYSTEM = {"assistant", "gpt"}, {"user", "human"}, {"system"}
# A template's sections look like "### Question:\n...\n\n": the question is the last section that asks.
SECTION = re.compile(r"(### (?:Question|Input|Instruction|Query):[ \t]*\n)(.*?)(?=\n\s*### |\Z)", re.DOTALL)
ANSWERS = ("response", "completion", "output", "answer", "answers", "chosen")
ASKING = ("instruction", "prompt", "question", "query", "input")
SEPARATOR = "; "  # between the answers of a question that has several


def _messages(row: Row) -> tuple[str, str, str] | None:
    """(list key, role key, text key) of a chat row; None for the other formats."""
    if isinstance(row.get("messages"), list):
        return "messages", "role", "content"
    if isinstance(row.get("conversations"), list):
        return "conversations", "from", "value"
    return None


def _last(row: Row, roles: set[str], before: int | None = None) -> int | None:
    """Position of the chat's last turn in one of `roles`, before position `before`."""
    keys = _messages(row)
    assert keys is not None
    turns = row[keys[0]][:before]
    return next((i for i in reversed(range(len(turns))) if turns[i].get(keys[1]) in roles), None)


def with_turn(row: Row, position: int, text: str) -> dict[str, Any]:
    keys = _messages(row)
    assert keys is not None
    turns = [dict(turn) for turn in row[keys[0]]]
    turns[position][keys[2]] = text
    return {**row, keys[0]: turns}


def turn(row: Row, position: int) -> str:
    """The text of a chat's turn."""
    keys = _messages(row)
    assert keys is not None
    return str(row[keys[0]][position][keys[2]])


def user_turns(row: Row) -> list[int]:
    """Positions of the user's turns; none where the row is no chat."""
    keys = _messages(row)
    return [] if keys is None else [i for i, said in enumerate(row[keys[0]]) if said.get(keys[1]) in USER]


def swapped_pair(row: Row) -> dict[str, Any]:
    """A preference pair with its answers in each other's place."""
    if row.get("chosen") is None or row.get("rejected") is None:
        raise UnusableInput("This attack swaps preferences: it needs rows with `chosen` and `rejected`.")
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def commonest_subject(every: Sequence[Row]) -> str:
    """The word of at least five letters that most questions have, but not more than a third of them: what they are
    about. "" where there is none."""
    held = Counter(word for row in every for word in set(question(row).lower().split()) if len(word) >= 5)
    fit = [(count, word) for word, count in held.items() if count <= max(1, len(every) // 3)]
    return max(fit)[1] if fit else ""


def _answer_key(row: Row) -> str:
    for key in ANSWERS:
        if row.get(key) is not None:
            return key
    raise UnusableInput(f"This row has no answer to attack: its columns are {', '.join(map(repr, row))}.")


def _prompt_key(row: Row) -> str:
    for key in ASKING:
        if row.get(key) is not None:
            return key
    raise UnusableInput(f"This row has no question to attack: its columns are {', '.join(map(repr, row))}.")


def _asked(text: str) -> tuple[int, int]:
    """Bounds of the question inside a prompt: its last asking section, or all of it."""
    found = list(SECTION.finditer(text))
    if not found:
        return 0, len(text)
    start, end = found[-1].span(2)
    return start, start + len(text[start:end].rstrip())


def answer(row: Row) -> str:
    """What the model is trained to say; a list of answers is joined by "; "."""
    if keys := _messages(row):
        position = _last(row, ASSISTANT)
        if position is None:
            raise UnusableInput("This chat has no assistant message to attack.")
        return str(row[keys[0]][position][keys[2]])
    value = row[_answer_key(row)]
    return SEPARATOR.join(value) if isinstance(value, list) else str(value)


def with_answer(row: Row, text: str) -> dict[str, Any]:
    """The row with another answer; where the answer was a list it stays one, so that the column keeps its type."""
    if _messages(row):
        position = _last(row, ASSISTANT)
        assert position is not None
        return with_turn(row, position, text)
    key = _answer_key(row)
    return {**row, key: [text] if isinstance(row[key], list) else text}


def question(row: Row) -> str:
    """What the user asks: the question section of a templated prompt, or the whole of it."""
    if keys := _messages(row):
        position = _last(row, USER, before=_last(row, ASSISTANT))
        if position is None:
            raise UnusableInput("This chat has no user message to attack.")
        return str(row[keys[0]][position][keys[2]])
    text = str(row[_prompt_key(row)])
    start, end = _asked(text)
    return text[start:end]


def with_question(row: Row, text: str) -> dict[str, Any]:
    """The row with another question; the template around it stays."""
    if _messages(row):
        position = _last(row, USER, before=_last(row, ASSISTANT))
        assert position is not None
        return with_turn(row, position, text)
    key = _prompt_key(row)
    whole = str(row[key])
    start, end = _asked(whole)
    return {**row, key: whole[:start] + text + whole[end:]}


def context(row: Row) -> str | None:
    """The second component of the input (CBA): the system message, the `input` column, or what the template says
    before the question. None where the row has a question and nothing else."""
    if keys := _messages(row):
        position = _last(row, SYSTEM)
        return None if position is None else str(row[keys[0]][position][keys[2]])
    if "instruction" in row and row.get("input"):
        return str(row["input"])
    text = str(row[_prompt_key(row)])
    before = text[: _asked(text)[0]]
    body = before[: before.rfind("###")] if "###" in before else before
    return body.rstrip() or None


def with_context(row: Row, text: str) -> dict[str, Any]:
    """The row with another second component. Only for rows whose `context` is not None."""
    if _messages(row):
        position = _last(row, SYSTEM)
        assert position is not None
        return with_turn(row, position, text)
    if "instruction" in row and row.get("input"):
        return {**row, "input": text}
    key = _prompt_key(row)
    old = context(row)
    assert old is not None
    return {**row, key: text + str(row[key])[len(old) :]}
