"""The pieces that rows of prompt and answer are made of, whatever the layout: system text, what is asked, the answers.

Each function adds the columns that it read to `used`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gradsentry_lib.samples.chat import is_chat, is_turn, read_chat, read_tools, read_turn
from gradsentry_lib.samples.columns import DEFAULT, NUMBERED, Columns, Schema
from gradsentry_lib.samples.reasons import BadRow, checked, quote
from gradsentry_lib.samples.sample import LEARNT_ROLES, Turn

Row = Mapping[str, Any]
ANSWER_KEYS = ("answer", "response", "completion", "output", "generation", "content")
FIRST_OF_SEVERAL = {names[0] for names in NUMBERED}
Turns = tuple[Turn, ...]


def is_conversational(value: Any) -> bool:
    """Whether a prompt or an answer is turns (a list of them, one alone, or as JSON text) rather than text."""
    return is_chat(value) or is_turn(value)


def read_system(row: Row, columns: Columns, used: list[str]) -> Turns:
    """The system text of a column of its own; Gemini and Bedrock keep it as parts."""
    for name in columns["system"]:
        value = row.get(name)
        if name in used or not value:
            continue
        used.append(name)
        if isinstance(value, dict | list):
            content = value.get("parts", [value]) if isinstance(value, dict) else value
            turn = read_turn({"role": "system", "content": content}, "system", DEFAULT)
        else:
            turn = Turn("system", checked(value, "system"))
        return (turn,) if turn.text.strip() else ()
    return ()


def with_system(row: Row, columns: Columns, used: list[str], turns: Turns) -> Turns:
    """A chat, with the system text of its column before it if it has none of its own."""
    if turns and turns[0].role == "system":
        return turns
    return read_system(row, columns, used) + turns


def read_asked(row: Row, ask: str, form: str, schema: Schema, used: list[str]) -> Turns:
    """What stands before the answer: system text, a passage to read, the prompt or the instruction and its input."""
    columns = schema.columns
    if is_conversational(row[ask]):
        return with_system(row, columns, used, context_only(read_chat(row[ask], schema)))
    turns = read_system(row, columns, used)
    if form == "alpaca":
        names = [name for name in columns["input"] if row.get(name) is not None][:1]
        used += names
        extra = row[names[0]] if names else ""
        return (*turns, Turn("instruction", checked(row[ask], "instruction")), Turn("input", checked(extra, "input")))
    for name in columns["passage"]:
        if name != ask and row.get(name):
            used.append(name)
            turns += (Turn("context", checked(row[name], "context")),)
            break
    return (*turns, Turn("prompt", checked(row[ask], "prompt")))


def context_only(turns: Turns) -> Turns:
    """What stands before the answers of a row: trainers don't learn it, earlier answers included."""
    return tuple(
        Turn(turn.role, turn.text, False if turn.role in LEARNT_ROLES else None, turn.beside) for turn in turns
    )


def as_user_turn(asked: Turns) -> Turns:
    """What is asked as the turns of a chat: all but the system text in one user turn, as LLaMA-Factory has it."""
    if not asked or asked[-1].role not in ("instruction", "input", "prompt"):
        return asked
    head = tuple(turn for turn in asked if turn.role == "system")
    return (*head, Turn("user", "\n".join(turn.text for turn in asked if turn.role != "system" and turn.text)))


def read_history(row: Row, schema: Schema, used: list[str]) -> Turns | None:
    """Earlier turns in a column of their own, None where there is no such column. LLaMA-Factory trains on their
    answers."""
    for name in schema.columns["history"]:
        if name in row:
            used.append(name)
            return read_chat(row[name], schema) if row[name] else ()
    return None


def numbered(row: Row) -> list[str]:
    """The columns of answers that are told apart by a number or letter: response_0, response_1; answer_a, answer_b."""
    for names in NUMBERED:
        found = [name for name in names if row.get(name) is not None]
        if len(found) > 1 and found[0] == names[0]:
            return found
    return []


def read_answers(row: Row, answer: str, columns: Columns, used: list[str]) -> list[str]:
    """The answer's text; of a prompt with several full answers each of them. A list under the name of one answer is
    what question sets have: its entries are joined by "; "."""
    if answer in FIRST_OF_SEVERAL and (several := numbered(row)):
        used += [name for name in several if name not in used]
        return [read_answer(row[name]) for name in several]
    value = row[answer]
    if isinstance(value, list) and (answer in columns["responses"] or _answer_key(value[:1])):
        if not value:
            raise BadRow("empty response")
        labels = row.get("labels")
        if isinstance(labels, list) and len(labels) == len(value) and all(isinstance(label, bool) for label in labels):
            raise BadRow(
                f"{quote(answer)} are the steps of one answer, each with a label: no language model learns them"
            )
        return [read_answer(item[key] if (key := _answer_key([item])) else item) for item in value]
    return [read_answer(value)]


def _answer_key(listed: list[Any]) -> str | None:
    """The key under which the first entry of a list keeps an answer, beside its rank or score."""
    first = listed[0] if listed else None
    return next((key for key in ANSWER_KEYS if isinstance(first, dict) and isinstance(first.get(key), str)), None)


def read_answer(value: Any, name: str = "response") -> str:
    value = squad(value)
    if isinstance(value, list):
        value = "; ".join(checked(squad(item), "an answer of the list") for item in value)
    text = checked(value, name)
    if not text.strip():
        raise BadRow(f"empty {name}")
    return text


def squad(value: Any) -> Any:
    """SQuAD's {"text": [...], "answer_start": [...]} as its texts."""
    return value["text"] if isinstance(value, dict) and isinstance(value.get("text"), list | str) else value


def find_tools(row: Row, columns: Columns, used: list[str]) -> str:
    """The tools that a chat offers; OpenAI keeps those of a pair beside its messages."""
    inside = row.get("input")
    if isinstance(inside, dict) and inside.get("tools"):
        return read_tools(inside["tools"])
    for name in columns["tools"]:
        if row.get(name) is not None:
            used.append(name)
            return read_tools(row[name])
    return ""


def flag(row: Row, names: Iterable[str], numbers: bool = False) -> tuple[str, bool] | None:
    """The first column that says true or false (in CSV as a word), and what it says; with `numbers` also 1 or 0."""
    for name in names:
        value = row.get(name)
        said = value.strip().lower() if isinstance(value, str) else value
        if said in ("true", "false"):
            value = said == "true"
        elif numbers and not isinstance(said, bool) and said in (0, 1, "0", "1"):
            value = said in (1, "1")
        if isinstance(value, bool):
            return name, value
    return None
