"""The one shape that every row format is read into."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from gradsentry_lib.files import sha256_json

Format = Literal["prompt", "alpaca", "chat", "text"]
LEARNT_ROLES = frozenset({"response", "assistant", "text"})  # what trainers teach unless a turn says otherwise
REJECTED = "rejected"  # the role of the answer that a preference pair turns down; its other turns: "rejected user", ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One piece of a sample. Roles by format; any of them may have "rejected" turns last:

    prompt: `system`, `context`, `prompt`, then one `response` or several, each an answer to the same prompt.
    alpaca: `system`, `instruction`, `input`, `response`.
    chat: `system`, `developer`, `user`, `assistant`, `tool`.
    text: `text` and `context` in turns, which one after the other are the text, letter by letter.

    `train` is what the row itself says of the turn (`weight: 0`, `train: false`), None where it says nothing or what
    its role says anyway. `beside` is a JSON object of what chat templates render beside the content (`tool_calls`,
    `reasoning_content`, `name`, ...) and of what stood between the text (`parts`), "" where there is nothing.
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
    def judged(self) -> bool:
        """Whether the turn is scored: it is supervised, or the answer that a pair rejects. Swapping the two is how
        preference data is poisoned, so neither is believed."""
        return self.role == REJECTED or self.supervised

    @property
    def extras(self) -> dict[str, Any]:
        """What `beside` holds."""
        return json.loads(self.beside) if self.beside else {}

    @property
    def said(self) -> str:
        """The text, and what is said beside it: reasoning before it, calls after it, for those who compare or show."""
        return self.text if not self.beside else said(self)

    @property
    def canonical(self) -> list[Any]:
        """Role and text; more only where there is more, so that plain rows keep their ids from version to version."""
        more = [self.train, self.beside] if self.train is not None or self.beside else []
        return [self.role, self.text, *more]


# Keys of a turn that are said as they are; the rest of `beside` (names, ids) only points to other turns.
REASONING = ("reasoning_content", "reasoning", "thinking")
CALLS = ("tool_calls", "function_call")


def said(turn: Turn) -> str:
    extras = turn.extras
    calls = [json.dumps(extras[key], ensure_ascii=False) for key in CALLS if key in extras]
    thoughts = [
        value if isinstance(value := extras[key], str) else json.dumps(value) for key in REASONING if key in extras
    ]
    return "\n".join(part for part in (*thoughts, turn.text, *calls) if part)


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
            [self.format, [turn.canonical for turn in self.turns], *([self.tools] if self.tools else [])]
        )

    @property
    def asked(self) -> tuple[str, ...]:
        """What each turn says that is not scored."""
        return tuple(turn.said for turn in self.turns if not turn.judged)

    @property
    def answered(self) -> tuple[str, ...]:
        """What each turn says that is scored: what training learns, and an answer that is turned down."""
        return tuple(turn.said for turn in self.turns if turn.judged)

    @property
    def prompt(self) -> str:
        """All that was asked, joined by line breaks."""
        return "\n".join(self.asked)

    @property
    def response(self) -> str:
        """All that is supervised, joined by line breaks; of a row that only turns an answer down, that answer."""
        learnt = [turn.said for turn in self.turns if turn.supervised]
        return "\n".join(learnt or self.answered)

    @property
    def has_pair(self) -> bool:
        """Whether an answer is turned down: it is scored like the others, and trained away from."""
        return any(turn.role.startswith(REJECTED) for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be read: where it stood, why, and how it began (at most 200 characters, untrusted)."""

    row: int
    line: int | None
    reason: str
    excerpt: str
