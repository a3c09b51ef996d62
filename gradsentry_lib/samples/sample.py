"""The one shape that every row format is read into."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from gradsentry_lib.files import sha256_json

Format = Literal["prompt", "alpaca", "chat", "text"]
LEARNT_ROLES = frozenset({"response", "assistant"})  # what trainers teach unless a turn says otherwise


@dataclass(frozen=True, slots=True)
class Turn:
    """One piece of a sample. Roles: `prompt`, `response`; `instruction`, `input`, `response`; `text`; or a chat's own.

    `train` is what the row itself says of the turn (`weight: 0`, `train: false`), None where it says nothing.
    `beside` is a JSON object of what chat templates render beside the content (`tool_calls`, `reasoning_content`,
    `name`, ...), "" where there is nothing.
    """

    role: str
    text: str
    train: bool | None = None
    beside: str = ""

    @property
    def supervised(self) -> bool:
        """Whether training learns this turn: an answer, unless the row says otherwise."""
        return self.role in LEARNT_ROLES if self.train is None else self.train

    @property
    def extras(self) -> dict[str, Any]:
        """What `beside` holds."""
        return json.loads(self.beside) if self.beside else {}


@dataclass(frozen=True, slots=True)
class Sample:
    """A readable row.

    `row` is its 0-based position among the source's rows (rejected rows take a position too), `line` the 1-based
    line of a text source (None for Parquet and the like). `tools` is the JSON list of tools that a chat offers, ""
    where it offers none.
    """

    row: int
    line: int | None
    format: Format
    turns: tuple[Turn, ...]
    tools: str = ""

    @property
    def sample_id(self) -> str:
        """SHA-256 (hex) of the canonical content: the same text in the same format has the same id anywhere."""
        return sha256_json(
            [self.format, [_canonical(turn) for turn in self.turns], *([self.tools] if self.tools else [])]
        )


def _canonical(turn: Turn) -> list[Any]:
    """Role and text; more only where there is more, so that plain rows keep their ids from version to version."""
    more = [turn.train, turn.beside] if turn.train is not None or turn.beside else []
    return [turn.role, turn.text, *more]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be read: where it stood, why, and how it began (at most 200 characters, untrusted)."""

    row: int
    line: int | None
    reason: str
    excerpt: str
