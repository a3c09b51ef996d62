"""Which columns may carry a row, by what they are for, and what a person says of them.

A role (`prompt`, `response`, `messages`, ...) is what a column is for; the names after it are those under which it is
found by itself, the preferred one first; also in capitals, with spaces around them or between their words. The roles
that begin with "other_" hold names that may mean something else too: they count where no better one is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.samples.reasons import quote

Columns = Mapping[str, tuple[str, ...]]  # role -> the column names that may hold it, the preferred one first

COLUMNS: Columns = {
    "messages": ("messages", "conversations", "conversation", "contents"),
    "instruction": ("instruction",),
    "input": ("input", "context"),
    "prompt": ("prompt", "question", "query", "input"),
    "response": ("response", "completion", "output", "answer", "answers"),
    "responses": ("responses", "completions", "outputs", "generations", "candidates"),
    "chosen": ("chosen", "chosen_response", "preferred_output", "preferred", "response_j"),
    "rejected": (
        *("rejected", "rejected_response", "rejected_messages", "non_preferred_output", "dispreferred", "response_k"),
    ),
    "label": ("kto_tag", "label"),
    "system": ("system", "system_prompt", "system_message", "systemInstruction"),
    "passage": ("context", "passage"),
    "history": ("history",),
    "tools": ("tools", "functions", "toolConfig"),
    "text": ("text",),
    "segments": ("segments",),
    "other_messages": ("dialog", "dialogue", "turns", "chat", "items", "data"),
    "other_prompt": (
        *("problem", "user", "human", "inputs", "user_input", "user_prompt"),
        *("article", "document", "dialogue", "source", "text"),
    ),
    "other_response": (
        *("assistant", "gpt", "solution", "targets", "target", "highlights", "summary", "generation"),
        *("model_output", "assistant_response", "demonstration"),
    ),
    "other_text": ("content", "chat", "dialog", "dialogue", "conversation", "conversations"),
}
OTHER = "other_"
ROLE_NAMES = tuple(role for role in COLUMNS if not role.startswith(OTHER))
# The first role that may be found under a name: "context" is an input, unless a prompt is named beside it.
SYNONYMS = {name: role for role in reversed(ROLE_NAMES) for name in COLUMNS[role] if name not in COLUMNS}
_WITH = ("system", "history", "tools", "chosen", "rejected", "label", "responses")  # may stand beside any answer
FORMAT_ROLES = (
    ("messages", "response", *_WITH),
    ("instruction", "input", "response", *_WITH),
    ("prompt", "passage", "response", *_WITH),
    ("text",),
    ("segments",),
)

# Several answers to one prompt, each in a column of its own.
NUMBERED = [
    [f"{stem}_{end}" for end in ends]
    for stem in ("response", "answer", "output", "completion")
    for ends in ("01234567", "123456789", "ab")
]

ROLES = {
    **dict.fromkeys(("system", "sys", "system_prompt"), "system"),
    "developer": "developer",
    **dict.fromkeys(("user", "human", "prompter", "customer", "client", "student", "question", "instruction"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatbot", "chatgpt", "ai", "agent", "llm"), "assistant"),
    **dict.fromkeys(("gpt4", "gpt-4", "bing", "bard", "claude", "answer", "response", "teacher"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "environment", "env", "ipython", "tool_response"), "tool"),
    **dict.fromkeys(("tool_result", "tool_results", "function_response", "function_result", "observe"), "tool"),
    **dict.fromkeys(("call", "function_call", "function-call", "tool_call", "tool_calls"), "call"),
}


@dataclass(frozen=True)
class Schema:
    """How rows are to be read, beyond what is found by itself.

    `columns`: where to look for what. `speakers`: further names of roles, in small letters. `marker`: what stands
    before the answer in a text. `speaker_key`, `content_key`, `train_key`: the keys of a turn, where a trainer's
    configuration names them. `trained`: the roles that it trains, None for the assistant's. `as_chat`: rows of prompt
    and answer are put through the model's chat template, as LLaMA-Factory does.
    """

    columns: Columns = field(default_factory=lambda: COLUMNS)
    speakers: Mapping[str, str] = field(default_factory=dict)
    marker: str = ""
    speaker_key: str = ""
    content_key: str = ""
    train_key: str = ""
    trained: frozenset[str] | None = None
    as_chat: bool = False

    @property
    def turn_keys(self) -> set[str]:
        """The keys of a turn that are named."""
        return {key for key in (self.speaker_key, self.content_key, self.train_key) if key}

    @property
    def names(self) -> list[str]:
        """All columns that may be read."""
        return [*(name for names in self.columns.values() for name in names), *(n for names in NUMBERED for n in names)]

    @cached_property
    def usual_turns(self) -> bool:
        """Whether nothing was said of turns."""
        return not (self.speakers or self.turn_keys or self.trained is not None)

    @property
    def paths(self) -> list[str]:
        """The columns that lie within others, named as `body.messages`."""
        return [name for names in self.columns.values() for name in names if "." in name]

    def fitted(self, names: Iterable[str]) -> "Schema":
        """The schema for rows that write the names of its columns otherwise: in capitals, with spaces."""
        names = list(names)
        exact = {fold(name) for name in names if name in self._known}
        odd = {name: fold(name) for name in names if name not in self._known}
        odd = {name: plain for name, plain in odd.items() if plain not in exact and plain in self._folded}
        if not odd:
            return self
        columns = {
            role: (*known, *(name for name, plain in odd.items() if plain in map(fold, known)))
            for role, known in self.columns.items()
        }
        return replace(self, columns=columns)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _folded(self) -> frozenset[str]:
        return frozenset(map(fold, self.names))

    def role(self, speaker: object) -> str | None:
        """What a speaker is: one of the roles of a chat, or "call" for an assistant's turn that is a function call."""
        if not isinstance(speaker, str):
            return None
        name = speaker.strip().lower()
        return self.speakers.get(name) or ROLES.get(name)


def fold(name: str) -> str:
    """A column's name without what people write one way or the other."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def inside(row: Mapping[str, Any], path: str) -> Any:
    """What lies at `body.messages` of a row, None where nothing does."""
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


DEFAULT = Schema()


def make_schema(
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    marker: str | None = None,
    turns: Mapping[str, Any] | None = None,
) -> Schema:
    """The schema from what a person said: `columns` role to column, `roles` speaker to role, `marker` before the answer
    of a text; `turns`: the fields of `Schema` on turns, from a mapping file. Raises `BadInput`."""
    told = dict(turns or {})
    if told.get("trained") is not None:
        told["trained"] = frozenset(told["trained"])
    marker = (marker or "").replace("\\n", "\n").replace("\\t", "\t")
    if marker and not marker.strip():
        raise UnusableOption("the response marker is blank; give the text that stands before each answer")
    return Schema(resolve_columns(columns), _speakers(roles), marker, **told)


def _speakers(roles: Mapping[str, str] | None) -> dict[str, str]:
    known = ("system", "developer", "user", "assistant", "tool", "call")
    found = {}
    for speaker, role in (roles or {}).items():
        meant = ROLES.get(role.strip().lower())
        if meant is None:
            raise UnusableOption(
                f"unknown role {quote(role)} for the speaker {quote(speaker)}; one of: {', '.join(known[:5])}"
            )
        found[speaker.strip().lower()] = meant
    return found


def resolve_columns(mapping: Mapping[str, str] | None) -> Columns:
    """The columns to look at when the user names some: the roles of that format, a named role in its column alone.

    Raises `BadInput` for a role there is none of, or roles of two formats.
    """
    if not mapping:
        return COLUMNS
    named: dict[str, str] = {}
    asks = "prompt" in {SYNONYMS.get(role, role) for role in mapping}
    for role, column in mapping.items():
        role = "passage" if role == "context" and asks else SYNONYMS.get(role, role)
        if role not in ROLE_NAMES:
            raise UnusableOption(
                f"unknown role {quote(role)} in the column mapping; the roles are: {', '.join(ROLE_NAMES)}"
            )
        if named.setdefault(role, column) != column:
            raise UnusableOption(f"the column mapping names two columns for the role {role}")
    fitting = [roles for roles in FORMAT_ROLES if named.keys() <= set(roles)]
    if not fitting:
        raise UnusableOption(f"the column mapping mixes formats: {', '.join(named)}; give the roles of one of them")
    possible = {role for roles in fitting for role in roles}
    if named.keys() == {"response"}:
        possible.discard("messages")  # the answer is the one that was named, not a turn of a chat
    columns: dict[str, tuple[str, ...]] = {}
    taken = set(named.values())
    for role, names in COLUMNS.items():
        wanted = role in possible or (role.startswith(OTHER) and (role.removeprefix(OTHER) in possible - set(named)))
        free = tuple(name for name in names if name not in taken) if wanted else ()
        columns[role] = tuple(filter(None, [named[role]])) if role in named else free  # "": in no column
    return columns
