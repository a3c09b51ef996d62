"""Preference data: two answers, one to be learnt and one to be turned down (DPO, ORPO, reward models), or one answer
with a verdict (KTO).

The answer that is turned down becomes turns with the role "rejected": it is no supervised text, and it is scored all
the same, since an attack on such data swaps the two.
"""

from typing import Any

from gradsentry_lib.samples.chat import as_messages, is_chat, is_turn, read_chat, read_turn
from gradsentry_lib.samples.columns import Schema
from gradsentry_lib.samples.reasons import BadRow, checked
from gradsentry_lib.samples.row_turns import (
    Row,
    Turns,
    as_user_turn,
    context_only,
    is_conversational,
    read_answer,
    read_asked,
    read_history,
    read_system,
    squad,
    with_system,
)
from gradsentry_lib.samples.sample import LEARNT_ROLES, REJECTED, Format, Turn

LAST_WORD = "\n\nAssistant:"  # stands before the answers of sets that keep a conversation as one text


def read_pair(
    row: Row, ask: str | None, good: str, bad: str, instructed: bool, schema: Schema, used: list[str]
) -> tuple[Format, Turns]:
    """The prompt, the chosen answer and behind them the rejected one. Raises `BadRow`."""
    chosen, rejected = _only(row[good], "chosen"), _only(row[bad], "rejected")
    turns = is_conversational(chosen)
    if turns != is_conversational(rejected) and not (turns and isinstance(rejected, str)):
        raise BadRow("of the two answers one is text and one is turns")
    if turns:
        return "chat", _turns(row, ask, chosen, rejected, instructed, schema, used)
    if ask is None:
        prompt, *sides = split_texts(checked(squad(chosen), "chosen"), checked(squad(rejected), "rejected"))
        asked: Turns = (*read_system(row, schema.columns, used), Turn("prompt", prompt))
        chosen, rejected = sides
    else:
        asked = _prompt(row, ask, instructed, schema, used)
    answer = read_answer(chosen, "chosen answer")
    turned = checked(squad(rejected), "the rejected answer")
    plain = bool(asked) and asked[-1].role in ("input", "prompt")
    earlier = read_history(row, schema, used) if plain else None
    if plain and (earlier is not None or schema.as_chat):
        *head, last = as_user_turn(asked)
        asked, plain = (*head, *context_only(earlier or ()), last), False
    form: Format = "chat" if not plain else "alpaca" if asked[-1].role == "input" else "prompt"
    return form, (*asked, Turn("response" if plain else "assistant", answer), Turn(REJECTED, turned))


def _turns(row: Row, ask: str | None, good: Any, bad: Any, instructed: bool, schema: Schema, used: list[str]) -> Turns:
    """A pair whose answers are turns: the last ones, behind a prompt, or two whole conversations. Then the prompt is
    what both begin with, whatever a column of prompts says: so does TRL."""
    chosen = _side(good, schema, "the chosen answer")
    if is_conversational(bad):
        rejected = _side(bad, schema, "the rejected answer")
    else:  # it would stand in the place of the last turn
        rejected = (*chosen[:-1], Turn("assistant", read_answer(bad, "rejected answer")))
    whole = chosen[:1] == rejected[:1] and chosen[0].role != "assistant"
    if ask is None or whole:
        if ask is not None and not _repeats(row[ask], chosen):
            used.remove(ask)  # it says something else: named as not read
        asked, chosen, rejected = split_chats(chosen, rejected)
        asked = with_system(row, schema.columns, used, asked)
    else:
        asked = as_user_turn(_prompt(row, ask, instructed, schema, used))
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not any(turn.supervised and turn.said.strip() for turn in turns):
            raise BadRow(f"the {name} side holds no answer")
    return (*context_only(asked), *chosen, *turned_down(rejected))


def _only(value: Any, name: str) -> Any:
    """One answer, also where it is the only one of a list."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        if len(value) > 1:
            raise BadRow(f"{len(value)} {name} answers in one row; put each pair on a line of its own")
        return value[0]
    return value


def _side(value: Any, schema: Schema, name: str) -> Turns:
    """The turns of one side: a list of them, or its last turn alone."""
    return (read_turn(value, name, schema),) if is_turn(value) else read_chat(value, schema)


def _repeats(asked: Any, chosen: Turns) -> bool:
    """Whether a column says nothing that the conversation does not say too."""
    return isinstance(asked, str) and any(asked.strip() in turn.text for turn in chosen)


def _prompt(row: Row, ask: str, instructed: bool, schema: Schema, used: list[str]) -> Turns:
    """What both answers answer. OpenAI keeps it under `input`, beside the tools."""
    value = row[ask]
    if isinstance(value, dict) and "messages" in value:
        value = value["messages"]
    elif ask not in schema.columns["messages"] and not is_chat(value):
        return read_asked(row, ask, "alpaca" if instructed else "prompt", schema, used)
    return context_only(with_system(row, schema.columns, used, read_chat(as_messages(value), schema)))


def split_chats(chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    """Prompt, chosen and rejected turns of two whole conversations: the prompt is what both begin with."""
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if common == len(chosen) == len(rejected):
        common = max((i for i, turn in enumerate(chosen) if turn.supervised), default=common)  # the same answer twice
    return chosen[:common], chosen[common:], rejected[common:]


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt, chosen and rejected text of two whole conversations in one text each: the prompt is what both begin
    with, up to the last mark of an answer in it, or (as TRL does) up to where they part."""
    common = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if common is None:
        common = min(len(chosen), len(rejected))
    marked = chosen.rfind(LAST_WORD, 0, common)
    if marked >= 0:
        common = marked + len(LAST_WORD)
    elif common and chosen[common - 1] == " ":
        common -= 1
    return chosen[:common], chosen[common:], rejected[common:]


def turned_down(turns: Turns) -> Turns:
    """A rejected side: answers have the role "rejected", all else "rejected user" and so on, and is context."""
    return tuple(
        Turn(REJECTED, turn.text, None, turn.beside)
        if turn.supervised
        else Turn(f"{REJECTED} {turn.role}", turn.text, False if turn.role in LEARNT_ROLES else None, turn.beside)
        for turn in turns
    )


def wanted(turns: Turns) -> Turns:
    """KTO, an answer marked as wanted: the last one is learnt, those before it are no answers of this row."""
    last = max((i for i, turn in enumerate(turns) if turn.supervised), default=len(turns))
    return (*context_only(turns[:last]), *turns[last:])


def unwanted(turns: Turns) -> Turns:
    """KTO, an answer marked as unwanted: the last one is turned down, those before it are no answers of this row."""
    last = max((i for i, turn in enumerate(turns) if turn.supervised), default=len(turns))
    return (*context_only(turns[:last]), *turned_down(turns[last:]))
