"""One row of any known layout, as the turns of a sample. What is not scored with certainty is refused.

docs/formats.md has the table of layouts: their columns, what is supervised in each, and who reads it so. A column that
is null counts as absent. Columns that a layout does not use are named by `unread.py`, never silently dropped. A row
with two possible answers is refused: a trainer may read the one that was not scored.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gradsentry_lib.samples import pairs
from gradsentry_lib.samples.chat import as_messages, is_chat, read_chat, read_tools
from gradsentry_lib.samples.columns import COLUMNS, DEFAULT, NUMBERED, Columns, Schema, make_schema, resolve_columns
from gradsentry_lib.samples.reasons import BadRow, checked, kind, quote, quote_all
from gradsentry_lib.samples.sample import LEARNT_ROLES, REJECTED, Format, Sample, Turn
from gradsentry_lib.samples.text import read_segments, read_text

__all__ = [
    "COLUMNS",
    "DEFAULT",
    "BadRow",
    "Columns",
    "Layout",
    "Schema",
    "find_layout",
    "kind",
    "make_schema",
    "quote",
    "quote_all",
    "read_row",
    "resolve_columns",
]

GOLD = ("answer", "answers")  # beside a chat: what a grader compares with, unless the chat itself ends with a question


class Layout(NamedTuple):
    """Which columns carry a row: what is asked (None in a chat), what is answered, what is turned down (a pair)."""

    format: str  # prompt, alpaca, chat, pair, text or segments
    ask: str | None
    answer: str
    against: str | None = None

    def __str__(self) -> str:
        columns = [column for column in (self.ask, self.answer, self.against) if column]
        return f"{self.format} ({', '.join(map(quote, columns))})"


class Read(NamedTuple):
    """A row as it was read: its layout, what became of it, which columns it was taken from, and (`how`) what the reader
    decided that the columns alone don't show."""

    layout: Layout
    sample: Sample
    used: tuple[str, ...]
    how: str = ""


def find_layout(row: Mapping[str, Any], columns: Columns) -> Layout:
    """The layout of a row by its columns. Raises `BadRow` where none fits, or where two answers do."""

    def present(role: str) -> list[str]:
        return [name for name in columns[role] if row.get(name) is not None]

    answers = present("response")
    chats = present("messages")
    instructions = present("instruction")
    asks = instructions or present("prompt")
    form = "alpaca" if instructions else "prompt"
    chosen, rejected = present("chosen"), present("rejected")
    if chosen and rejected:
        if asks and answers:
            raise _ambiguous([*answers, chosen[0]])
        return Layout("pair", (chats or asks or [None])[0], chosen[0], rejected[0])
    if chosen:
        answers += chosen
    if chats:
        if len(chats) == 1 and not (asks and any(name not in GOLD for name in answers)):
            late = answers and not _ends_with_answer(row[chats[0]])
            return Layout("chat", chats[0], answers[0]) if late else Layout("chat", None, chats[0])
        raise _ambiguous([*chats, *(answers if asks else [])])
    if asks and not answers:
        answers = present("responses") or _numbered(row)[:1]
    if asks and len(answers) == 1:
        return Layout(form, asks[0], answers[0])
    if asks and answers:
        raise _ambiguous(answers)
    if not answers:
        for role in ("segments", "text"):
            if found := present(role):
                return Layout(role, None, found[0])
    problem = "missing response" if asks else "missing prompt" if answers else "no known format"
    filled = [name for name, value in row.items() if value is not None]
    raise BadRow(f"{problem}; the columns with a value are: {quote_all(filled)}")


def _ambiguous(names: Iterable[str]) -> BadRow:
    listed = ", ".join(map(quote, names))
    return BadRow(f"more than one answer: columns {listed}; name the one to score in the column mapping")


def _numbered(row: Mapping[str, Any]) -> list[str]:
    """The columns of answers that are told apart by a number or letter: response_0, response_1; answer_a, answer_b."""
    for names in NUMBERED:
        found = [name for name in names if row.get(name) is not None]
        if len(found) > 1 and found[0] == names[0]:
            return found
    return []


def _ends_with_answer(chat: Any) -> bool:
    """Whether a chat holds its own last answer. Said of one that cannot be read: it is refused by its own reason."""
    try:
        turns = read_chat(chat, DEFAULT)
    except BadRow:
        return True
    return not turns or turns[-1].role == "assistant"


def read_row(row: Mapping[str, Any], schema: Schema = DEFAULT, number: int = 0, line: int | None = None) -> Read:
    """One row as a sample. Raises `BadRow` for an unknown layout, a wrong type, an empty answer, text that is not
    Unicode."""
    columns = schema.columns
    layout = find_layout(row, columns)
    form, ask, answer, against = layout
    used = [answer] if ask is None else [ask, answer]
    how = ""
    if form in ("prompt", "alpaca"):
        wanted = pairs.verdict(row, columns["label"]) if answer == "completion" or "kto_tag" in row else None
        history = next((name for name in columns["history"] if name in row), None)
        chatty = history is not None or pairs.is_conversational(row[ask]) or pairs.is_conversational(row[answer])
        sort: Format = "chat" if chatty else "alpaca" if form == "alpaca" else "prompt"
        turns = _asked(row, layout, schema, used)
        if chatty:
            turns = _as_chat(turns, row, layout, schema, history, used)
        else:
            turns += tuple(Turn("response", text) for text in _answers(row, answer, columns, used))
    elif form == "chat":
        wanted = pairs.verdict(row, columns["label"])
        sort = "chat"
        turns = _chat(row, layout, schema, used)
    elif form == "pair":
        wanted = None
        sort, turns = _pair(row, layout, schema, used)
    elif form == "text":
        wanted, sort = None, "text"
        how, turns = read_text(row[answer], schema.marker)
    else:
        wanted, sort = None, "text"
        turns = read_segments(row[answer])
    if wanted is not None:
        used.append(wanted[0])
        if not wanted[1]:
            turns, how = _unwanted(turns), "answers that are marked as unwanted"
    tools = _tools(row, columns, used) if sort == "chat" else ""
    if sort == "chat" and against is None and not any(turn.judged for turn in turns):
        raise BadRow(_nothing_learnt(turns))
    return Read(layout, Sample(number, line, sort, turns, tools), tuple(used), how)


def _nothing_learnt(turns: tuple[Turn, ...]) -> str:
    if any(turn.role == "assistant" for turn in turns):
        return "no turn is trained on: all assistant turns are marked with a weight of 0"
    return "no assistant turn"


def _first(row: Mapping[str, Any], names: Iterable[str], used: list[str]) -> Any:
    """The value of the first of some columns that is not empty and not yet used; it is used then."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "" and name not in used:
            used.append(name)
            return value
    return None


def _system(row: Mapping[str, Any], columns: Columns, used: list[str]) -> tuple[Turn, ...]:
    value = _first(row, columns["system"], used)
    if value is None:
        return ()
    if isinstance(value, dict | list):  # Gemini and Bedrock keep it as parts
        from gradsentry_lib.samples.chat import read_turn

        turn = read_turn({"role": "system", "content": value.get("parts", [value]) if isinstance(value, dict) else value},
                         "system", DEFAULT)
        return (turn,) if turn.text else ()
    return (Turn("system", checked(value, "system")),) if not isinstance(value, str) or value.strip() else ()


def _asked(row: Mapping[str, Any], layout: Layout, schema: Schema, used: list[str]) -> tuple[Turn, ...]:
    """What stands before the answer: system text, a passage to read, the prompt or instruction and its input."""
    columns, ask = schema.columns, layout.ask
    assert ask is not None
    turns = _system(row, columns, used)
    if pairs.is_conversational(row[ask]):
        return turns + pairs.context_only(read_chat(row[ask], schema))
    if layout.format == "alpaca" or ask in columns["instruction"]:
        names = [name for name in columns["input"] if row.get(name) is not None]
        extra = row[names[0]] if names else ""
        used += names[:1]
        return (*turns, Turn("instruction", checked(row[ask], "instruction")), Turn("input", checked(extra, "input")))
    if passage := _first(row, columns["passage"], used):
        turns += (Turn("context", checked(passage, "context")),)
    return (*turns, Turn("prompt", checked(row[ask], "prompt")))


def _answers(row: Mapping[str, Any], answer: str, columns: Columns, used: list[str]) -> list[str]:
    """The answer's text; of a prompt with several full answers each of them. A list under the name of one answer is
    what question sets have: its entries are joined by "; "."""
    numbered = _numbered(row)
    if answer in numbered:
        used += numbered[1:]
        return [_answer(row[name]) for name in numbered]
    value = as_text_list(row[answer])
    if answer in columns["responses"] and isinstance(value, list):
        if not value:
            raise BadRow("empty response")
        return [_answer(item) for item in value]
    return [_answer(value)]


def as_text_list(value: Any) -> Any:
    """SQuAD's {"text": [...], "answer_start": [...]} as its texts."""
    return value["text"] if isinstance(value, dict) and isinstance(value.get("text"), list | str) else value


def _answer(value: Any) -> str:
    if isinstance(value, list):
        value = "; ".join(checked(as_text_list(item), "an answer of the list") for item in value)
    text = checked(value, "response")
    if not text.strip():
        raise BadRow("empty response")
    return text


def _as_chat(
    asked: tuple[Turn, ...],
    row: Mapping[str, Any],
    layout: Layout,
    schema: Schema,
    history: str | None,
    used: list[str],
) -> tuple[Turn, ...]:
    """A prompt and its answer as a chat, where one of them is turns already, or where earlier turns are in a column:
    LLaMA-Factory trains on the answers of `history`, and puts an instruction and its input into one user turn."""
    head = [turn for turn in asked if turn.role == "system"]
    rest = [turn for turn in asked if turn.role != "system"]
    if rest and rest[0].role in ("instruction", "context", "prompt"):
        rest = [Turn("user", "\n".join(turn.text for turn in rest if turn.text))]
    else:
        head, rest = [], list(asked)
    earlier: tuple[Turn, ...] = ()
    if history is not None:
        used.append(history)
        if row[history]:
            earlier = read_chat(row[history], schema)
    value = row[layout.answer]
    if pairs.is_conversational(value):
        answered = pairs.side(value, schema, "the answer")
        pairs.require(answered, quote(layout.answer))
    else:
        answered = tuple(Turn("assistant", text) for text in _answers(row, layout.answer, schema.columns, used))
    return (*head, *earlier, *rest, *answered)


def _chat(row: Mapping[str, Any], layout: Layout, schema: Schema, used: list[str]) -> tuple[Turn, ...]:
    """A chat, with the system text of its own column before it and, where it ends with a question, the answer of its
    own column behind it."""
    columns = schema.columns
    turns = read_chat(row[layout.ask or layout.answer], schema)
    if not turns or turns[0].role != "system":
        turns = _system(row, columns, used) + turns
    if layout.ask is not None:
        value = row[layout.answer]
        if pairs.is_conversational(value):
            turns += pairs.side(value, schema, "the answer")
        else:
            turns += (Turn("assistant", _answer(as_text_list(value))),)
    return turns


def _pair(row: Mapping[str, Any], layout: Layout, schema: Schema, used: list[str]) -> tuple[Format, tuple[Turn, ...]]:
    """A preference pair: the prompt, the chosen answer, and behind them the rejected one."""
    columns, ask = schema.columns, layout.ask
    assert layout.against is not None
    used.append(layout.against)
    good, bad = row[layout.answer], row[layout.against]
    if pairs.is_conversational(good) != pairs.is_conversational(bad):
        raise BadRow("of the two answers one is text and one is turns")
    if not pairs.is_conversational(good):
        good, bad = (as_text_list(value) for value in (good, bad))
        if ask is None:
            prompt, good, bad = pairs.split_texts(checked(good, "chosen"), checked(bad, "rejected"))
            asked: tuple[Turn, ...] = (*_system(row, columns, used), Turn("prompt", prompt))
        elif _holds_chat(row[ask]):
            asked = _pair_prompt(row, ask, schema, used)
        else:
            asked = _asked(row, layout, schema, used)
        chat = _holds_chat(row[ask]) if ask is not None else False
        answer = Turn("assistant" if chat else "response", _side_text(good, "chosen"))
        rejected = (Turn(REJECTED, checked(bad, "rejected")),)
        form: Format = "chat" if chat else "alpaca" if asked[-1].role == "input" else "prompt"
        return form, (*asked, answer, *rejected)
    chosen, turned = (pairs.side(value, schema, f"the {name} answer") for value, name in ((good, "chosen"), (bad, "rejected")))
    whole = any(turn.role != "assistant" for turn in chosen[:1]) and chosen[:1] == turned[:1]
    if ask is None or whole:
        if ask is not None and not _holds_chat(row[ask]) and isinstance(row[ask], str):
            if not any(row[ask].strip() in turn.text for turn in chosen):
                used.remove(ask)  # it is not what the conversations begin with: named as not read
        elif ask is not None:
            used.remove(ask)
        asked, chosen, turned = pairs.split_chats(chosen, turned)
        if not asked or asked[0].role != "system":
            asked = _system(row, columns, used) + asked
    else:
        asked = _pair_prompt(row, ask, schema, used)
    pairs.require(chosen, "chosen")
    return "chat", (*pairs.context_only(asked), *chosen, *pairs.turned_down(turned))


def _holds_chat(value: Any) -> bool:
    return is_chat(value) or (isinstance(value, dict) and "messages" in value) or isinstance(as_messages_safe(value), list)


def as_messages_safe(value: Any) -> Any:
    try:
        return as_messages(value)
    except BadRow:
        return value


def _pair_prompt(row: Mapping[str, Any], ask: str, schema: Schema, used: list[str]) -> tuple[Turn, ...]:
    """What a pair's two answers answer, as turns of a chat. OpenAI keeps it under `input`, with the tools."""
    value = row[ask]
    if isinstance(value, dict) and "messages" in value:
        value = value["messages"]
    if not _holds_chat(value):
        return (*_system(row, schema.columns, used), Turn("user", checked(value, "prompt")))
    turns = read_chat(value, schema)
    if not turns or turns[0].role != "system":
        turns = _system(row, schema.columns, used) + turns
    return pairs.context_only(turns)


def _side_text(value: Any, name: str) -> str:
    text = checked(value, name)
    if not text.strip():
        raise BadRow(f"empty {name} answer")
    return text


def _unwanted(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """KTO, an unwanted answer: the last one is turned down, those before it are no answers of this row."""
    last = max((i for i, turn in enumerate(turns) if turn.supervised), default=-1)
    return (*pairs.context_only(turns[:last]), *pairs.turned_down(turns[last:])) if last >= 0 else turns


def _tools(row: Mapping[str, Any], columns: Columns, used: list[str]) -> str:
    inside = row.get("input")
    if isinstance(inside, dict) and inside.get("tools"):
        return read_tools(inside["tools"])
    for name in columns["tools"]:
        if row.get(name) is not None:
            used.append(name)
            return read_tools(row[name])
    return ""
