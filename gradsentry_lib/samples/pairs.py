"""Preference data: two answers, one to be learnt and one to be turned down (DPO, ORPO, reward models), or one answer
with a verdict (KTO).

The answer that is turned down becomes turns with the role "rejected": it is no supervised text, and it is scored all
the same, since an attack on such data swaps the two.
"""

from collections.abc import Mapping
from typing import Any

from gradsentry_lib.samples.chat import is_chat, is_turn, read_chat, read_turn
from gradsentry_lib.samples.columns import Schema
from gradsentry_lib.samples.reasons import BadRow, checked
from gradsentry_lib.samples.sample import LEARNT_ROLES, REJECTED, Turn

LAST_WORD = "\n\nAssistant:"  # stands before the answers of sets that keep a conversation as one text


def is_conversational(value: Any) -> bool:
    """Whether an answer is turns (a list of them, one alone, or as JSON text) rather than text."""
    return is_chat(value) or is_turn(value)


def side(value: Any, schema: Schema, name: str) -> tuple[Turn, ...]:
    """The turns of one side of a pair: a whole conversation, its last turns, its last turn alone, or its text."""
    if is_turn(value):
        return (read_turn(value, name, schema),)
    if is_chat(value):
        return read_chat(value, schema)
    return (Turn("assistant", checked(value, name)),)


def split_chats(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], ...]:
    """Prompt, chosen and rejected turns of two whole conversations: the prompt is what both begin with. Raises
    `BadRow`."""
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if common == len(chosen) == len(rejected):
        common = max((i for i, turn in enumerate(chosen) if turn.supervised), default=common)  # the same answer twice
    return chosen[:common], chosen[common:], rejected[common:]


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt, chosen and rejected text of two whole conversations in one text each: the prompt is what both begin
    with, up to the last mark of an answer in it, or (as TRL does) up to where they part."""
    common = 0
    for left, right in zip(chosen, rejected, strict=False):
        if left != right:
            break
        common += 1
    marked = chosen.rfind(LAST_WORD, 0, common)
    if marked >= 0:
        common = marked + len(LAST_WORD)
    elif common and chosen[common - 1] == " ":
        common -= 1
    return chosen[:common], chosen[common:], rejected[common:]


def context_only(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """What stands before the answers of a pair: trainers don't learn it, earlier answers included."""
    return tuple(
        Turn(turn.role, turn.text, False if turn.role in LEARNT_ROLES else None, turn.beside) for turn in turns
    )


def turned_down(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The rejected side: answers have the role "rejected", what stands between them "rejected user" and so on."""
    return tuple(
        Turn(REJECTED if turn.role in LEARNT_ROLES else f"{REJECTED} {turn.role}", turn.text, turn.train, turn.beside)
        for turn in turns
    )


def verdict(row: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[str, bool] | None:
    """The column that says whether an answer is wanted, and what it says (true or false, as words in CSV)."""
    for name in columns:
        value = row.get(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            value = value.strip().lower() == "true"
        if isinstance(value, bool):
            return name, value
    return None


def require(turns: tuple[Turn, ...], name: str) -> None:
    """Raises `BadRow` where a side holds no answer."""
    if not any(turn.supervised and turn.said.strip() for turn in turns):
        raise BadRow(f"the {name} side holds no answer")

