"""A conversation as the model's own chat template writes it, whole or in part.

What goes in is what a trainer would give `apply_chat_template`: role, content and what the row has beside it (tool
calls, reasoning, names), and the tools on offer. Where rows and templates differ in what they mean by an answer
without text or by a tool call's arguments, the first of the usual forms that the template takes is used. A template
that knows nothing of tool calls, or of reasoning, would leave out what another model is taught by them: it is given
them within the content, as Hermes and Qwen write them, so that they are looked at.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradsentry_lib.errors import UnusableModel
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.render import Failed, Job, Rendered, renderer

# For tokenizers that bring no chat template: plain, and the same for every model.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
REASONING = ("reasoning_content", "thinking", "reasoning")  # one thing under three names; templates read the first two

MOST_TURNS = 500  # each turn costs renderings of all before it

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
    _beginnings: dict[tuple[int, bool], str | None] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        self._beginnings[len(self.messages), False] = self.text

    def render(self, jobs: Sequence[tuple[Sequence[Message], bool]]) -> list[str | None]:
        """Renderings of (messages, with the opening of the next answer); None where the template refuses one."""
        wanted = [Job(self.messages), *(Job(messages, prompt) for messages, prompt in jobs)]
        _, *found = renderer().render(self.template, self.variables, wanted, self.tools)
        return [one.text if isinstance(one, Rendered) else None for one in map(_checked, found)]

    def beginnings(self, wanted: Iterable[tuple[int, bool]]) -> list[str | None]:
        """Renderings of the first `n` messages, each made once."""
        wanted = list(wanted)
        new = [each for each in dict.fromkeys(wanted) if each not in self._beginnings]
        found = self.render([(self.messages[:count], prompt) for count, prompt in new]) if new else []
        self._beginnings.update(zip(new, found, strict=True))
        return [self._beginnings[each] for each in wanted]

    def keep(self, beginnings: Sequence[tuple[int, bool]], found: Sequence[Rendered | Failed]) -> None:
        """Renderings of beginnings that have been made already."""
        texts = [one.text if isinstance(one, Rendered) else None for one in found]
        self._beginnings.update(zip(beginnings, texts, strict=True))


def learnt_beginnings(turns: Sequence[Turn]) -> list[tuple[int, bool]]:
    """(messages, with the opening of the next answer) before and after each answer that is learnt: all the befores,
    then all the afters."""
    wanted = [i for i, turn in enumerate(turns) if turn.supervised and turn.role == "assistant"]
    return [(i, True) for i in wanted] + [(i + 1, False) for i in wanted]


def read_conversation(sample: Sample, tokenizer: Any) -> Conversation:
    """Renders a chat. Raises EncodingError with the template's own words where it refuses the row, and BadInput where
    the template is not to be used at all: it reaches outside its sandbox, or cannot be read.
    """
    if len(sample.turns) > MOST_TURNS:
        raise EncodingError(f"a conversation of {len(sample.turns):,} turns: no more than {MOST_TURNS} are scored")
    tools = json.loads(sample.tools) if sample.tools else None
    template = _template(tokenizer, tools)
    named = tokenizer.special_tokens_map.items()
    variables = {name: str(token) for name, token in named if not isinstance(token, list)}
    refusal: Failed | None = None
    wordless: Conversation | None = None
    for messages in _forms(sample.turns):
        # What the spans will most likely be found by comes along: a question and an answer the fewer.
        wanted = [] if GENERATION.search(template) else learnt_beginnings(sample.turns)
        jobs = [Job(messages), *(Job(messages[:count], prompt) for count, prompt in wanted)]
        found, *begun = map(_checked, renderer().render(template, variables, jobs, tools))
        if isinstance(found, Failed):
            refusal = refusal or found
            if found.kind == "stopped":
                break
            continue
        if _escaped_twice(messages, found.text):
            continue
        chat = Conversation(messages, tools, template, variables, found.text, found.generated)
        chat.keep(wanted, begun)
        if _holds_answers(sample.turns, found.text):
            return _with_all(chat)
        wordless = wordless or chat
    if wordless is not None:  # what it drops is not learnt: for chat_spans.py to say
        return _with_all(wordless)
    if refusal is not None and refusal.kind == "stopped":
        raise EncodingError(f"the model's chat template was stopped: {refusal.words}")
    words = refusal.words if refusal else "it writes the arguments of tool calls as a string within a string"
    raise EncodingError(f"the model's chat template refuses the conversation: {words}")


def _template(tokenizer: Any, tools: list[Any] | None) -> str:
    if not tokenizer.chat_template:
        return PLAIN_CHAT_TEMPLATE
    try:
        return str(tokenizer.get_chat_template(None, tools))
    except ValueError as error:  # several of them, and none is the default
        raise UnusableModel(
            f"the model's chat template cannot be chosen: {' '.join(str(error).split())[:300]}"
        ) from None


def content_text(message: Message) -> str:
    """A message's content, whether it is text or one part that is."""
    content = message.get("content", "")
    return content[0]["text"] if isinstance(content, list) else content


def with_content(message: Message, text: str) -> Message:
    """The message with other words, in the form that its content has."""
    content = [{"type": "text", "text": text}] if isinstance(message.get("content"), list) else text
    return {**message, "content": content}


def _checked(found: Rendered | Failed) -> Rendered | Failed:
    """Raises BadInput for what no row can mend."""
    if isinstance(found, Failed) and found.kind == "escape":
        raise UnusableModel(
            f"the model's chat template reaches outside its sandbox: {found.words}. Nothing was scored."
        )
    if isinstance(found, Failed) and found.kind == "syntax":
        raise UnusableModel(f"the model's chat template cannot be read: {found.words}")
    return found


def _forms(turns: tuple[Turn, ...]) -> Iterator[tuple[Message, ...]]:
    """The messages of a chat: as they stand; with a tool call's arguments as an object, or as text; without the empty
    contents beside tool calls; and with contents as a list of one part, as models that see pictures have them.
    """
    plain = tuple(_message(turn) for turn in turns)
    forms = [plain]
    if any(message.get("tool_calls") for message in plain):
        changed = (tuple(_with_arguments(message, change) for message in plain) for change in (_parsed, _dumped))
        forms += [form for form in changed if form != plain]
        forms += [tuple(_without_empty_content(message) for message in form) for form in forms]
    yield from forms
    for form in forms:
        yield tuple(
            {**message, "content": [{"type": "text", "text": message["content"]}]} if "content" in message else message
            for message in form
        )


def _with_all(chat: Conversation) -> Conversation:
    """The conversation, with tool calls or reasoning in the contents where the template writes none of them at all."""
    calls = any(_calls(message) for message in chat.messages)
    reasoning = any(message.get("reasoning_content") for message in chat.messages)
    if not (calls or reasoning):
        return chat
    marked = chat.render([([_marked(message) for message in chat.messages], False)])[0]
    if marked is None or any(mark in chat.text for mark in _MARKS):
        return chat
    calls, reasoning = calls and _MARKS[0] not in marked, reasoning and _MARKS[1] not in marked
    for kinds in dict.fromkeys([(calls, reasoning), (calls, False)]):
        messages = tuple(_written_out(message, *kinds) for message in chat.messages)
        found = _checked(*renderer().render(chat.template, chat.variables, [Job(messages)], chat.tools))
        thoughts = [message["reasoning_content"] for message in chat.messages if message.get("reasoning_content")]
        if isinstance(found, Rendered) and (not kinds[1] or any(str(each).strip() in found.text for each in thoughts)):
            return Conversation(messages, chat.tools, chat.template, chat.variables, found.text, found.generated)
    return chat


_MARKS = ("104729130043", "156007188299")  # behind the names of calls, behind reasoning


def _marked(message: Message) -> Message:
    marked = _with_calls(
        message, lambda call: {**call, "name": f"{call['name']}{_MARKS[0]}"} if "name" in call else call
    )
    return {**marked, **{name: f"{marked[name]}{_MARKS[1]}" for name in REASONING if marked.get(name)}}


def _written_out(message: Message, calls: bool, reasoning: bool) -> Message:
    text = content_text(message)
    if reasoning and message.get("reasoning_content"):
        text = f"<think>\n{message['reasoning_content']}\n</think>\n\n{text}"
    if calls:
        said = [
            json.dumps(
                {"name": call.get("name"), "arguments": _parsed(call.get("arguments"))}, ensure_ascii=False, default=str
            )
            for call in _calls(message)
        ]
        text = "\n".join([*([text] if text else []), *(f"<tool_call>\n{each}\n</tool_call>" for each in said)])
    dropped = {*(("tool_calls",) if calls else ()), *(REASONING if reasoning else ())}
    return with_content({name: value for name, value in message.items() if name not in dropped}, text)


def _without_empty_content(message: Message) -> Message:
    if message.get("tool_calls") and not message["content"]:
        return {name: value for name, value in message.items() if name != "content"}
    return message


def _holds_answers(turns: tuple[Turn, ...], text: str) -> bool:
    """Whether a rendering holds the last words of an answer; true where no answer has words."""
    ends = [turn.text.strip()[-32:].casefold() for turn in turns if turn.supervised and turn.text.strip()]
    return not ends or any(end in text.casefold() for end in ends)


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


def _calls(message: Message) -> list[dict[str, Any]]:
    """Name and arguments of each tool call, whether they stand under `function` or not."""
    calls = message.get("tool_calls")
    inner = [call.get("function", call) if isinstance(call, dict) else None for call in calls or ()]
    return [call for call in inner if isinstance(call, dict)]


def _with_calls(message: Message, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Message:
    """The message, name and arguments of its tool calls changed."""

    def changed(call: Any) -> Any:
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            return {**call, "function": change(call["function"])}
        return change(call) if isinstance(call, dict) else call

    calls = message.get("tool_calls")
    return {**message, "tool_calls": [changed(call) for call in calls]} if isinstance(calls, list) else message


def _with_arguments(message: Message, change: Callable[[Any], Any]) -> Message:
    return _with_calls(
        message, lambda call: {**call, "arguments": change(call["arguments"])} if "arguments" in call else call
    )


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
        for call in _calls(message):
            arguments = call.get("arguments")
            if not isinstance(arguments, str) or '"' not in arguments or not isinstance(_parsed(arguments), dict):
                continue
            if json.dumps(arguments, ensure_ascii=False) in text or json.dumps(arguments) in text:
                return True
    return False
