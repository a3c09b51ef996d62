"""Chats: a list of turns, in any of the shapes in which people keep them, as turns of a sample.

{"role", "content"} / {"from", "value"}     OpenAI, TRL / ShareGPT; the content is text, a list of parts, or null
{"role", "parts"}                           Gemini
{"human", "assistant"} / {"input", "output"} / ["question", "answer"]    an exchange
["question", "answer", "question", ...]     LIMA: user and assistant take turns
{"role": [...], "content": [...]}           a list of turns as columns, which older Parquet files have
"[{...}]"                                   any of these as JSON text
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from gradsentry_lib.samples.columns import ROLES, Schema
from gradsentry_lib.samples.parse import DECODER
from gradsentry_lib.samples.reasons import BadRow, checked, kind, quote
from gradsentry_lib.samples.sample import CALLS, LEARNT_ROLES, REASONING, Turn

SPEAKER_KEYS = ("role", "from")
OTHER_SPEAKER_KEYS = ("speaker", "author", "sender")  # where there is none of those
CONTENT_KEYS = ("content", "value", "parts", "text", "message", "utterance", "refusal")
TRAIN_KEYS = ("weight", "train", "training", "trainable", "loss", "loss_weight")
# What templates render beside the content. `name` and `tool_call_id` tell which call a tool's turn answers.
BESIDE = (*REASONING, *CALLS, "name", "tool_call_id")
LEARNT = frozenset((*REASONING, *CALLS))  # beside its content these are an answer too
READ_KEYS = frozenset((*SPEAKER_KEYS, *OTHER_SPEAKER_KEYS, *CONTENT_KEYS, *TRAIN_KEYS, *BESIDE))
PYTHON = re.compile(r"\s*\[?\s*\{'")  # a list or an object as Python shows it
EXCHANGES = (
    ("human", "assistant"),
    ("user", "assistant"),
    ("human", "gpt"),
    ("input", "output"),
    ("question", "answer"),
)
TEXT_PARTS = frozenset((None, "text", "input_text", "output_text", "refusal"))
RESULTS = ("functionResponse", "toolResult")  # of a tool: Gemini's parts, Bedrock's
CALLED = ("functionCall", "toolUse")


def is_chat(value: Any) -> bool:
    """Whether a column holds turns rather than text: a list of objects with a speaker, or such a list as JSON text."""
    if isinstance(value, str):
        keys = (*SPEAKER_KEYS, *OTHER_SPEAKER_KEYS)
        if not value.lstrip().startswith(("[{", "[ {")) or not any(f'"{key}"' in value.lower() for key in keys):
            return False
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and _has_speaker(value[0])


def read_keys(message: Mapping[str, Any]) -> set[str]:
    """Of the keys of a turn, those that are read though `READ_KEYS` does not have them as they are written."""
    for ask, answer in EXCHANGES:
        if message.get(ask) is not None and message.get(answer) is not None and not _has_speaker(message):
            return {"system", ask, answer}
    return {key for key in message if key not in READ_KEYS and key.strip().lower() in READ_KEYS}


def is_turn(value: Any) -> bool:
    return isinstance(value, dict) and _has_speaker(value)


def _has_speaker(message: Mapping[str, Any]) -> bool:
    if message.get("role") is not None or message.get("from") is not None:
        return True
    return _usual(message).get("role") is not None


def _usual(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A turn with its keys in small letters, its speaker under "role"."""
    plain = {key.strip().lower() if isinstance(key, str) else key: value for key, value in message.items()}
    for key in ("role", "from", *OTHER_SPEAKER_KEYS):
        speaker = plain.pop(key, None)
        if speaker is not None:
            return {"role": speaker.get("role") if isinstance(speaker, dict) else speaker, **plain}
    return plain


def read_chat(value: Any, schema: Schema) -> tuple[Turn, ...]:
    """The turns of a chat. Raises `BadRow`."""
    messages = as_messages(value)
    if not isinstance(messages, list):
        raise BadRow(f"the chat is {kind(messages)}, not a list of turns")
    if messages and all(isinstance(message, str) for message in messages) and len(messages) > 1:
        return tuple(
            Turn("assistant" if number % 2 == 0 else "user", checked(message, f"turn {number}"))
            for number, message in enumerate(messages, 1)
        )
    turns: list[Turn] = []
    usual = schema.usual_turns
    for number, message in enumerate(messages, 1):
        if usual and type(message) is dict and len(message) == 2 and (turn := _usual_turn(message)):
            turns.append(turn)
            continue
        where = f"turn {number}"
        if exchange := _exchange(message):
            turns += [Turn(role, checked(text, where)) for role, text in exchange]
        else:
            turns.append(read_turn(message, where, schema))
    return tuple(turns)


def _usual_turn(message: dict[str, Any]) -> Turn | None:
    """What nearly all turns are: a common speaker and plain words. None for any other, which `read_turn` reads."""
    speaker, text = message.get("role"), message.get("content")
    if speaker is None:
        speaker, text = message.get("from"), message.get("value")
    if type(speaker) is not str or type(text) is not str or "\0" in text or not (text.isascii() or _is_unicode(text)):
        return None
    role = ROLES.get(speaker)
    if role is None or role == "call" or (role == "assistant" and not text.strip()):
        return None
    return Turn(role, text)


def _is_unicode(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def as_messages(value: Any) -> Any:
    """A list of turns that is kept as JSON text, or as columns, as the list it stands for."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parse(value, "the chat")
    columns = list(value.values()) if isinstance(value, dict) else []
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, turn, strict=True)) for turn in zip(*columns, strict=True)]
    return value


def _parse(text: str, what: str) -> Any:
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError):
        hint = "; it is in Python's own notation: write it with json.dumps" if PYTHON.match(text) else ""
        raise BadRow(f"{what} is text that is not valid JSON{hint}") from None


def _exchange(message: Any) -> list[tuple[str, Any]]:
    """Question and answer where one entry holds both, after a system text if there is one; [] where it does not."""
    if isinstance(message, list) and len(message) == 2:
        return [("user", message[0]), ("assistant", message[1])]
    if not isinstance(message, dict) or _has_speaker(message):
        return []
    for ask, answer in EXCHANGES:
        if message.get(ask) is not None and message.get(answer) is not None:
            system = [("system", message["system"])] if message.get("system") else []
            return [*system, ("user", message[ask]), ("assistant", message[answer])]
    return []


def is_exchange(message: Any) -> bool:
    """Whether an object holds a question and its answer."""
    return isinstance(message, dict) and bool(_exchange(message))


def read_turn(message: Any, where: str, schema: Schema) -> Turn:
    """One turn of a chat. Raises `BadRow`: an unknown speaker, no text, an answer of nothing."""
    if not isinstance(message, dict):
        raise BadRow(f"{where} is {kind(message)}, not an object")
    keys = (schema.speaker_key,) if schema.speaker_key else SPEAKER_KEYS
    speakers = [message[key] for key in keys if message.get(key) is not None]
    if not speakers and not schema.speaker_key:
        message = _usual(message)
        speakers = [message["role"]] if message.get("role") is not None else []
    if len(speakers) != 1:
        raise BadRow(f"{where} has {'two roles' if speakers else 'no role'}")
    role = schema.role(speakers[0])
    if role is None:
        raise BadRow(f"{where} has an unknown role {quote(speakers[0])}; say whose it is: --role NAME=assistant")
    content = _content(message, schema)
    if type(content) is str and len(message) == 2 and role != "call":  # what nearly all turns are
        text, beside = checked(content, where), None
    else:
        if role == "tool" and _is_value(content):
            content = _plain_text(content)
        text, beside = _parts(content, where) if isinstance(content, list | dict) else (content, {})
        beside = _beside(message, role) | beside
        if role == "call":
            role, text = "assistant", _call(text, beside)
        if text is None and beside:
            text = ""
        text = checked(text, where)
    train = _train(message, role, where, schema) if len(message) > 2 or schema.trained is not None else None
    if role == "assistant" and not text.strip() and train is not False and not (beside and beside.keys() & LEARNT):
        raise BadRow(f"{where} is an empty assistant turn")
    return Turn(role, text, train, json.dumps(beside, ensure_ascii=False, sort_keys=True) if beside else "")


def _content(message: Mapping[str, Any], schema: Schema) -> Any:
    if schema.content_key:
        return message.get(schema.content_key)
    for key in CONTENT_KEYS:
        if (value := message.get(key)) is not None:
            return value
    return None


def _is_value(content: Any) -> bool:
    """Whether a tool's answer is a value of its own and no parts of a content."""
    if isinstance(content, dict):
        return not any(key in content for key in ("type", "text", "parts", "value", *RESULTS))
    if isinstance(content, list):
        return any(not isinstance(part, str | dict) or (isinstance(part, dict) and _is_value(part)) for part in content)
    return isinstance(content, bool | int | float)


def _parts(content: Any, where: str) -> tuple[str, dict[str, Any]]:
    """The text of a content that is parts, and what else there was: reasoning, calls, and each part that is no text by
    its type and digest, so that two pictures under one question are two samples."""
    texts: list[str] = []
    beside: dict[str, Any] = {}
    if isinstance(content, dict):
        content = content["parts"] if isinstance(content.get("parts"), list) else [content]
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise BadRow(f"{where} has a part that is {kind(part)}, not an object")
        part = pruned(part)
        sort = part["type"] if isinstance(part.get("type"), str) else None
        keys = ("text", "value", "content", "refusal")
        text = next((part[key] for key in keys if isinstance(part.get(key), str)), None)
        if text is not None and (sort in TEXT_PARTS or sort == "tool_result"):
            texts.append(checked(text, where))
        elif sort in TEXT_PARTS and sort is not None:
            raise BadRow(f"{where} has a text part without text")
        elif sort in ("thinking", "reasoning"):
            thought = part.get("thinking") or part.get("text") or part.get("reasoning") or ""
            if isinstance(thought, list):
                thought, _ = _parts(thought, where)
            beside["reasoning_content"] = beside.get("reasoning_content", "") + checked(thought, where)
        elif sort == "tool_result" and isinstance(part.get("content"), list):
            texts.append(_parts(part["content"], where)[0])
        elif (result := next((part[key] for key in RESULTS if isinstance(part.get(key), dict)), None)) is not None:
            texts.append(_plain_text(result.get("response", result.get("content", result))))
        elif sort == "tool_use" or any(isinstance(part.get(key), dict) for key in CALLED):
            call = next((part[key] for key in CALLED if key in part), part)
            arguments = call.get("input", call.get("args", {}))
            beside.setdefault("tool_calls", []).append(_function(call.get("name"), arguments))
        else:
            named = sort or next(iter(part), "nothing")
            beside.setdefault("parts", []).append({"type": named, "sha256": _digest(part)})
    return "".join(texts), beside


def _digest(part: Any) -> str:
    """SHA-256 (hex) of a part, whatever it holds: bytes (a picture from Parquet) and dates by their own words."""
    return hashlib.sha256(json.dumps(part, default=repr, sort_keys=True).encode()).hexdigest()


def pruned(value: Any) -> Any:
    """Without what is null: a list of objects from Parquet has every key of every row."""
    if isinstance(value, dict):
        return {key: pruned(item) for key, item in value.items() if item is not None}
    return [pruned(item) for item in value] if isinstance(value, list) else value


def _beside(message: Mapping[str, Any], role: str) -> dict[str, Any]:
    found = {key: pruned(message[key]) for key in BESIDE if message.get(key)}
    found = {key: value for key, value in found.items() if value}
    if role in ("system", "developer", "user"):
        found = {key: value for key, value in found.items() if key == "name"}
    for value in found.values():
        checked(_plain_text(value), "what stands beside a turn")
    if isinstance(call := found.get("function_call"), dict):  # the older way to say it; templates know the newer one
        found.pop("function_call")
        found["tool_calls"] = [*found.get("tool_calls", []), _function(call.get("name"), call.get("arguments", "{}"))]
    if isinstance(calls := found.get("tool_calls"), str):
        found["tool_calls"] = _parse(calls, "'tool_calls'")
    return found


def _plain_text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise BadRow("what stands beside a turn is no JSON") from None


def _function(name: Any, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _call(text: Any, beside: dict[str, Any]) -> Any:
    """ShareGPT keeps a call as JSON text in a turn of its own. Puts it where templates look for calls and returns the
    text that is left; what does not parse as calls stays text."""
    try:
        calls = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return text
    beside["tool_calls"] = [
        _function(call["name"], call.get("arguments", call.get("parameters", {}))) for call in calls
    ]
    return ""


def _train(message: Mapping[str, Any], role: str, where: str, schema: Schema) -> bool | None:
    """What the row says of training this turn; None where it says what the role says anyway."""
    default = role in LEARNT_ROLES if schema.trained is None else role in schema.trained
    said = default
    for key in (schema.train_key,) if schema.train_key else TRAIN_KEYS:
        value = message.get(key)
        if value is None:
            continue
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "0", "1"):
            value = value.strip().lower() in ("true", "1")
        if not isinstance(value, bool | int | float):
            raise BadRow(f"{where} has {quote(key)}, which is {kind(value)}, not a number or true or false")
        said = value > 0
    return said if said != (role in LEARNT_ROLES) else None


def read_tools(value: Any) -> str:
    """The tools that a chat offers, as a JSON list in one form, "" where there are none. Raises `BadRow`."""
    if isinstance(value, str):
        if not value.strip():
            return ""
        value = _parse(value, "the list of tools")
    if isinstance(value, dict) and isinstance(value.get("tools"), list):
        value = value["tools"]
    tools = [value] if isinstance(value, dict) else value
    if tools is None:
        return ""
    if not isinstance(tools, list):
        raise BadRow(f"the tools are {kind(value)}, not a list")
    told = [_parse(tool, "a tool") if isinstance(tool, str) else pruned(tool) for tool in tools]
    listed = [single for tool in told for single in _declared(tool)]
    named = [{"type": "function", "function": t} if isinstance(t, dict) and "name" in t else t for t in listed]
    return checked(_plain_text(named), "the tools") if named else ""


def _declared(tool: Any) -> list[Any]:
    """The tools in one entry: Gemini lists several in it, Bedrock wraps one."""
    if isinstance(tool, dict):
        for key in ("functionDeclarations", "function_declarations"):
            if isinstance(tool.get(key), list):
                return tool[key]
        if isinstance(tool.get("toolSpec"), dict):
            return [tool["toolSpec"]]
    return [tool]
