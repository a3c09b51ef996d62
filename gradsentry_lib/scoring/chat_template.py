"""A conversation as the model's own chat template writes it, whole or in part.

What goes in is what a trainer would give `apply_chat_template`: role, content and what the row has beside it (tool
calls, reasoning, names), and the tools on offer. Where rows and templates differ in what they mean by an answer
without text or by a tool call's arguments, the first of the usual forms that the template takes is used.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.render import Failed, Job, Rendered, renderer

# For tokenizers that bring no chat template: plain, and the same for every model.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
REASONING = ("reasoning_content", "thinking", "reasoning")  # one thing under three names; templates read the first two

Message = dict[str, Any]


class EncodingError(ValueError):
    """The sample cannot be put into tokens; the message is the reason kept with the row."""


@dataclass(frozen=True)
class Conversation:
    """A chat in the form that its template takes. `text`: all of it, as a trainer sees it."""

    messages: tuple[Message, ...]
    tools: list[Any] | None
    template: str
    variables: dict[str, Any]
    text: str
    generated: tuple[tuple[int, int], ...]

    def render(self, jobs: Sequence[tuple[Sequence[Message], bool]]) -> list[str | None]:
        """Renderings of (messages, with the opening of the next answer); None where the template refuses one."""
        wanted = [Job(messages, self.tools, prompt) for messages, prompt in jobs]
        found = [_checked(one) for one in renderer().render(self.template, self.variables, wanted)]
        return [one.text if isinstance(one, Rendered) else None for one in found]


def read_conversation(sample: Sample, tokenizer: Any) -> Conversation:
    """Renders a chat. Raises EncodingError with the template's own words where it refuses the row, and BadInput where
    the template is not to be used at all: it reaches outside its sandbox, or cannot be read.
    """
    tools = json.loads(sample.tools) if sample.tools else None
    template = tokenizer.get_chat_template(None, tools) if tokenizer.chat_template else PLAIN_CHAT_TEMPLATE
    variables = dict(tokenizer.special_tokens_map)
    first: Failed | None = None
    for messages in _forms(sample.turns):
        found = _checked(*renderer().render(template, variables, [Job(messages, tools)]))
        if isinstance(found, Failed):
            first = first or found
        elif not _escaped_twice(messages, found.text):
            return Conversation(messages, tools, template, variables, found.text, found.generated)
    if first is not None and first.kind == "stopped":
        raise EncodingError(f"the model's chat template was stopped: {first.words}")
    words = first.words if first else "it writes the arguments of tool calls as a string within a string"
    raise EncodingError(f"the model's chat template refuses the conversation: {words}")


def _checked(found: Rendered | Failed) -> Rendered | Failed:
    """Raises BadInput for what no row can mend."""
    if isinstance(found, Failed) and found.kind == "escape":
        raise BadInput(f"the model's chat template reaches outside its sandbox: {found.words}. Nothing was scored.")
    if isinstance(found, Failed) and found.kind == "syntax":
        raise BadInput(f"the model's chat template cannot be read: {found.words}")
    return found


def _forms(turns: tuple[Turn, ...]) -> Iterator[tuple[Message, ...]]:
    """The messages of a chat: as they stand, then with arguments as objects or as text, then without empty contents."""
    plain = tuple(_message(turn) for turn in turns)
    yield plain
    if not any("tool_calls" in message for message in plain):
        return
    objects = tuple(_with_arguments(message, _parsed) for message in plain)
    texts = tuple(_with_arguments(message, _dumped) for message in plain)
    forms = [form for form in (objects, texts) if form != plain]
    yield from forms
    for form in (plain, *forms):
        yield tuple(
            {name: value for name, value in message.items() if (name, value) != ("content", "")}
            if "tool_calls" in message
            else message
            for message in form
        )


def _message(turn: Turn) -> Message:
    """As transformers hands it to a template: null is absent, reasoning stands under each of its names."""
    beside = {name: value for name, value in turn.extras.items() if value is not None}
    called = beside.get("function_call")
    if called and not beside.get("tool_calls"):
        beside["tool_calls"] = [{"type": "function", "function": called}]
    reasoning = next((beside[name] for name in REASONING if name in beside), None)
    if reasoning is not None:
        beside = {"thinking": reasoning, **beside, "reasoning_content": reasoning}
    return {"role": turn.role, "content": turn.text, **beside}


def _with_arguments(message: Message, change: Any) -> Message:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_changed(call, change) for call in calls]}


def _changed(call: Any, change: Any) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _changed(call["function"], change)}
    return {**call, "arguments": change(call["arguments"])} if "arguments" in call else call


def _parsed(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments
    return value if isinstance(value, dict) else arguments


def _dumped(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _escaped_twice(messages: Sequence[Message], text: str) -> bool:
    """Whether arguments that are JSON text came out as a JSON string of that text: no model was taught that."""
    for message in messages:
        for call in message.get("tool_calls") or ():
            inner = call.get("function", call) if isinstance(call, dict) else {}
            arguments = inner.get("arguments") if isinstance(inner, dict) else None
            if isinstance(arguments, str) and '"' in arguments and isinstance(_parsed(arguments), dict):
                if json.dumps(arguments, ensure_ascii=False) in text or json.dumps(arguments) in text:
                    return True
    return False
