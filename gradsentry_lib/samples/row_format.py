"""One row of any known layout, as the turns of a sample. What is not scored with certainty is refused.

docs/formats.md has the table of layouts: their columns, what is supervised in each, and who reads it so. A column that
is null counts as absent. Columns that a layout does not use are named by `observed.py`, never silently dropped. A row
with two possible answers is refused: a trainer may read the one that was not scored.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gradsentry_lib.samples.chat import is_chat, is_exchange, read_chat
from gradsentry_lib.samples.columns import COLUMNS, DEFAULT, Columns, Schema, fold, inside, make_schema, resolve_columns
from gradsentry_lib.samples.pairs import read_pair, unwanted, wanted
from gradsentry_lib.samples.reasons import BadRow, checked, kind, quote, quote_all
from gradsentry_lib.samples.row_turns import (
    Turns,
    as_user_turn,
    find_tools,
    flag,
    is_conversational,
    numbered,
    read_answer,
    read_answers,
    read_asked,
    read_history,
    with_system,
)
from gradsentry_lib.samples.sample import Format, Sample, Turn
from gradsentry_lib.samples.text import read_segments, read_text

__all__ = [
    "COLUMNS",
    "DEFAULT",
    "BadRow",
    "Columns",
    "Layout",
    "Read",
    "RowReader",
    "Schema",
    "find_layout",
    "kind",
    "make_schema",
    "quote",
    "quote_all",
    "read_row",
    "resolve_columns",
]

PLANS = 256  # combinations of columns remembered
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
    used: list[str]
    how: str = ""


def find_layout(row: Mapping[str, Any], columns: Columns) -> Layout:
    """The layout of a row by its columns. Raises `BadRow` where none fits, or where two answers do."""

    def present(role: str) -> list[str]:
        return [name for name in columns[role] if row.get(name) is not None]

    answers, instructions = present("response"), present("instruction")
    chats = [name for name in present("messages") if not (name in columns["other_text"] and _is_plain(row[name]))]
    asks = instructions or present("prompt")
    chosen, rejected = present("chosen"), present("rejected")
    if chosen and rejected:
        if asks and answers:
            raise _ambiguous([*answers, chosen[0]])
        return Layout("pair", next(iter([*chats, *asks]), None), chosen[0], rejected[0])
    if chosen and any(name in row for name in columns["rejected"]):
        raise BadRow("half of a pair: nothing stands in the column of the rejected answer")
    if rejected and chats and not answers:
        return Layout("pair", None, chats[0], rejected[0])
    if rejected and asks and len(answers) == 1 and not chats:
        return Layout("pair", asks[0], answers[0], rejected[0])
    answers += chosen
    if not chats and not (asks and answers):
        chats = [name for name in present("other_messages") if _is_listed(row[name])]
    if chats:
        if len(chats) > 1 or (asks and any(name not in GOLD for name in answers)):
            raise _ambiguous([*chats, *(answers if asks else [])])
        if answers and not _ends_with_answer(row[chats[0]]):
            return Layout("chat", chats[0], answers[0])
        return Layout("chat", None, chats[0])
    if asks and not answers:
        answers = present("responses") or numbered(row)[:1]
    if not asks or not answers:
        if answers and (others := present("other_response")) and not chats:
            raise _ambiguous([*answers, *others])
        answers = answers or present("other_response")
        asks = asks or (present("other_prompt")[:1] if answers else [])
    if asks and len(answers) == 1:
        return Layout("alpaca" if instructions else "prompt", asks[0], answers[0])
    if asks and answers:
        raise _ambiguous(answers)
    if not answers:
        for role in ("segments", "text", "other_text"):
            found = [name for name in present(role) if role != "other_text" or _is_plain(row[name])]
            if found:
                return Layout(role.removeprefix("other_"), None, found[0])
    problem = "missing response" if asks else "missing prompt" if answers else "no known format"
    filled = [name for name, value in row.items() if value is not None]
    raise BadRow(f"{problem}; the columns with a value are: {quote_all(filled)}{_nested(row)}")


def _nested(row: Mapping[str, Any]) -> str:
    """Where else a row may have what was looked for, for a message."""
    for name, value in row.items():
        if isinstance(value, dict) and value:
            path = quote(f"{name}.{next(iter(value))}").strip("'")
            return (
                f"; within {quote(name)} lie {quote_all(list(value))}: name them by path, as --column response={path}"
            )
        if isinstance(value, list) and value and isinstance(value[0], dict) and not is_chat(value):
            return f"; {quote(name)} holds rows of its own: put each on a line of its own"
    return ""


def _is_plain(value: Any) -> bool:
    """Whether a value is text that is no list of turns, nor meant for one."""
    return isinstance(value, str) and not value.lstrip().startswith(("[", "{"))


def _is_listed(value: Any) -> bool:
    """Whether a value is a chat for certain: turns, or texts of which every second one answers."""
    strings = isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)
    return strings or is_chat(value) or (isinstance(value, list) and any(map(is_exchange, value[:1])))


def _ambiguous(names: Iterable[str]) -> BadRow:
    listed = ", ".join(map(quote, names))
    return BadRow(f"more than one answer: columns {listed}; name the one to score in the column mapping")


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
    return RowReader(schema).read(row, number, line)


class Plan(NamedTuple):
    """What rows with the same columns have in common. `plain`: nothing but a prompt (with an input) and an answer is
    there to be read, so if these are text, that is all."""

    layout: Layout
    plain: bool
    extra: str | None  # of an Alpaca row, the column of its input
    used: list[str]
    schema: Schema  # with the names as these rows write them
    bare: bool  # nothing but a chat is there to be read


class RowReader:
    """Reads the rows of one source: those with the same columns are planned once."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._paths = schema.paths
        self._plans: dict[Any, Plan] = {}
        self._fitted: dict[Any, Schema] = {}

    def read(self, row: Mapping[str, Any], number: int = 0, line: int | None = None) -> Read:
        """See `read_row`."""
        if self._paths:
            return self._read_within(row, number, line)
        return self._read(row, number, line)

    def _read_within(self, row: Mapping[str, Any], number: int, line: int | None) -> Read:
        """A row of which columns lie within others."""
        found = {path: inside(row, path) for path in self._paths if path not in row}
        read = self._read({**row, **found}, number, line)
        return read._replace(used=[*read.used, *(name.partition(".")[0] for name in read.used if name in found)])

    def _read(self, row: Mapping[str, Any], number: int, line: int | None) -> Read:
        key: Any = tuple(row)
        if None in row.values():
            key = (key, tuple(name for name, value in row.items() if value is not None))
        plan = self._plans.get(key) or self._make_plan(row, key)
        layout, plain, extra, used, schema, bare = plan
        if bare:
            turns: Turns = read_chat(row[layout.answer], schema)
            if not any(turn.supervised for turn in turns):
                raise BadRow(_nothing_learnt(turns))
            return Read(layout, Sample(number, line, "chat", turns), used)
        if plain:
            assert layout.ask is not None
            ask, answer, given = row[layout.ask], row[layout.answer], "" if extra is None else row[extra]
            if _is_text(ask) and _is_text(answer):
                text = read_answer(answer)
                if layout.format == "prompt":
                    turns = (Turn("prompt", checked(ask, "prompt")), Turn("response", text))
                    return Read(layout, Sample(number, line, "prompt", turns), used)
                asked, context = checked(ask, "instruction"), checked(given, "input")
                turns = (Turn("instruction", asked), Turn("input", context), Turn("response", text))
                return Read(layout, Sample(number, line, "alpaca", turns), used)
        return _read(row, layout, schema, number, line)

    def _fit(self, row: Mapping[str, Any]) -> Schema:
        names = tuple(row)
        if names not in self._fitted:
            if len(self._fitted) >= PLANS:
                self._fitted.clear()
            self._fitted[names] = self.schema.fitted(names)
        return self._fitted[names]

    def _make_plan(self, row: Mapping[str, Any], key: Any) -> Plan:
        schema = self._fit(row)
        columns = schema.columns
        layout = find_layout(row, columns)
        alpaca = layout.format == "alpaca"
        also = [*columns["history"], *columns["system"], *columns["label"], *([] if alpaca else columns["passage"])]
        plain = layout.format in ("prompt", "alpaca") and not schema.as_chat and layout.answer in columns["response"]
        plain = plain and not any(name in row and name != layout.ask for name in also)
        extra = next((name for name in columns["input"] if row.get(name) is not None), None) if alpaca else None
        used = [name for name in (*layout[1:], extra) if name is not None]
        beside = [name for role in ("system", "tools", "label") for name in columns[role]]
        bare = layout.format == "chat" and layout.ask is None and not any(name in row for name in (*beside, "input"))
        plan = Plan(layout, plain, extra, used, schema, bare)
        if len(self._plans) < PLANS and not _hangs_on_values(row, layout, columns):
            self._plans[key] = plan
        return plan


def _is_text(value: Any) -> bool:
    """Whether a value is text that can be no list of turns."""
    return type(value) is str and (value[:1].isalnum() or not value.lstrip().startswith("["))


def _hangs_on_values(row: Mapping[str, Any], layout: Layout, columns: Columns) -> bool:
    """Whether rows with the same columns may be laid out otherwise: a chat by how it ends, a column that may be a text
    or a chat by which of them it is."""
    if layout.format == "chat" and any(
        row.get(name) is not None for r in ("response", "chosen") for name in columns[r]
    ):
        return True
    double = [*columns["other_messages"], *columns["other_text"]]
    return any(name in double and not isinstance(row[name], list) for name in layout[1:] if name) or any(
        name in row for name in columns["other_messages"]
    )


def _read(row: Mapping[str, Any], layout: Layout, schema: Schema, number: int, line: int | None) -> Read:
    """A row of a known layout as a sample."""
    columns = schema.columns
    used = [name for name in layout[1:] if name is not None]
    how = ""
    sort: Format = "chat"
    if layout.format in ("prompt", "alpaca"):
        sort, turns = _prompt(row, layout, schema, used)
    elif layout.format == "chat":
        turns = _chat(row, layout, schema, used)
    elif layout.format == "pair":
        assert layout.against is not None
        instructed = layout.ask in columns["instruction"]
        sort, turns = read_pair(row, layout.ask, layout.answer, layout.against, instructed, schema, used)
    elif layout.format == "text":
        sort = "text"
        how, turns = read_text(row[layout.answer], schema.marker)
    else:
        sort, turns = "text", read_segments(row[layout.answer])
    if (verdict := _verdict(row, layout, columns)) is not None:
        used.append(verdict[0])
        if layout.format != "chat" and (answers := sum(turn.role == "response" for turn in turns)) > 1:
            raise BadRow(f"one verdict on {answers} answers; put each answer on a line of its own")
        if verdict[1]:
            turns = wanted(turns)
        else:
            turns, how = unwanted(turns), "an answer marked as unwanted, which is turned down, and scored"
    tools = ""
    if sort == "chat":
        tools = find_tools(row, columns, used)
        if not any(turn.judged for turn in turns):
            raise BadRow(_nothing_learnt(turns))
    return Read(layout, Sample(number, line, sort, turns, tools), used, how)


def _verdict(row: Mapping[str, Any], layout: Layout, columns: Columns) -> tuple[str, bool] | None:
    """Whether the answer is wanted, where the row says so as KTO has it: beside a `completion` or a chat, in LLaMA-
    Factory's `kto_tag`, or in the column that was named. Other rows may have labels of another kind."""
    usual = COLUMNS["label"]
    if layout.against is not None:
        return None
    if layout.format == "chat":
        return flag(row, columns["label"])
    if fold(layout.answer) == "completion" or columns["label"][: len(usual)] != usual:
        return flag(row, columns["label"], numbers=True)
    return flag(row, ("kto_tag",), numbers=True) if layout.format in ("prompt", "alpaca") else None


def _nothing_learnt(turns: Turns) -> str:
    if any(turn.role == "assistant" for turn in turns):
        return "no turn is trained on: the row says so of every assistant turn"
    return "no assistant turn"


def _prompt(row: Mapping[str, Any], layout: Layout, schema: Schema, used: list[str]) -> tuple[Format, Turns]:
    """A prompt or an instruction and its answer; a chat where one of them is turns already, where earlier turns stand
    in a column, or where the trainer makes one of it."""
    assert layout.ask is not None
    answer = row[layout.answer]
    turns = read_asked(row, layout.ask, layout.format, schema, used)
    earlier = read_history(row, schema, used)
    in_turns = is_conversational(answer)
    if earlier is None and not in_turns and not schema.as_chat and turns[-1:] and turns[-1].role in ("prompt", "input"):
        texts = read_answers(row, layout.answer, schema.columns, used)
        return ("alpaca" if layout.format == "alpaca" else "prompt"), turns + tuple(Turn("response", t) for t in texts)
    turns = as_user_turn(turns)
    if earlier:
        head = turns[:1] if turns[0].role == "system" else ()
        turns = (*head, *earlier, *turns[len(head) :])
    if in_turns:
        answered = read_chat([answer] if isinstance(answer, dict) else answer, schema)
        if not any(turn.supervised for turn in answered):
            raise BadRow(f"{quote(layout.answer)} holds no assistant turn")
    else:
        texts = read_answers(row, layout.answer, schema.columns, used)
        if len(texts) > 1:
            raise BadRow(f"{len(texts)} answers to one chat; name the one to score in the column mapping")
        answered = (Turn("assistant", texts[0]),)
    return "chat", turns + answered


def _chat(row: Mapping[str, Any], layout: Layout, schema: Schema, used: list[str]) -> Turns:
    """A chat, and where it ends with a question the answer of its own column behind it."""
    turns = with_system(row, schema.columns, used, read_chat(row[layout.ask or layout.answer], schema))
    if layout.ask is None:
        return turns
    answer = row[layout.answer]
    if is_conversational(answer):
        return turns + read_chat([answer] if isinstance(answer, dict) else answer, schema)
    return (*turns, Turn("assistant", read_answer(answer)))
