"""Control tokens in a row's own text: `<|im_start|>assistant` in a question, `</s>` within an answer.

A trainer's tokenizer takes them for structure, so the model is taught other turns than the ones that the row shows and
that were scored. They are looked for in every turn, in what stands beside it (tool calls, reasoning, names) and in the
tools; also where they only come about when prompt and answer are joined. Two sets count:

- the tokenizer's own: its special tokens, and added tokens that its chat template writes. Not those that are words of
  an earlier training and open no turn (`<filename>`, `<unk>`), unless the template writes them;
- those of the common families (FAMILIES), and whatever is written as most families write theirs, a name in barred
  brackets (`<|name|>`), since the model that is trained is often not the one that scores. Of these `<s>` and `</s>`
  count only where they are no HTML: one without the other.

Thoughts in answers (`<think>`) are what a model learns, and no structure; an end-of-turn token as an answer's very last
word ends it where it ends anyway. A row that is one text is learnt as it stands: there the tokens of the layout that it
begins with, and an end-of-text token where a turn or the text ends, are its own.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gradsentry_lib.samples.sample import LEARNT_ROLES, Sample

FAMILIES: dict[str, tuple[str, ...]] = {
    "ChatML": ("<|im_start|>", "<|im_end|>", "<|im_sep|>"),
    "Llama 2 and Mistral": (
        *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        *("[TOOL_CONTENT]", "[/TOOL_CONTENT]", "[CALL_ID]", "[ARGS]", "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]"),
    ),
    "Llama 3": (
        *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        *("<|eot_id|>", "<|eom_id|>", "<|python_tag|>"),
    ),
    "Llama 4": ("<|header_start|>", "<|header_end|>", "<|eot|>", "<|eom|>"),
    "Gemma": (
        *("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"),
        *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>"),
    ),
    "Phi, Zephyr and GLM": (
        *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|end|>", "<|endoftext|>"),
        *("[gMASK]", "<sop>"),
    ),
    "DeepSeek": (
        *(
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "<｜User｜>",
            "<｜Assistant｜>",
            "<｜tool▁calls▁begin｜>",
        ),
        *("<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"),
        *("<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
    ),
    "Command": (
        *("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>"),
        *("<|CHATBOT_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_ACTION|>", "<|END_ACTION|>"),
    ),
    "Granite": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>"),
    "GPT-OSS": ("<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|call|>", "<|return|>", "<|end|>"),
    "Qwen and Hermes": ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    "Kimi": ("<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>"),
    "InternLM": ("<|action_start|>", "<|action_end|>", "<|interpreter|>", "<|plugin|>"),
    "OLMo and Falcon": ("<|endoftext|>", "<|startoftext|>"),
    "Nemotron": ("<extra_id_0>", "<extra_id_1>", "<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"),
    "Ling": ("<role>SYSTEM</role>", "<role>HUMAN</role>", "<role>ASSISTANT</role>", "<role>OBSERVATION</role>"),
    "MiniMax": ("]~!b[", "]~b]", "[e~["),
    "Seed": ("<seed:bos>", "<seed:eos>"),
    "Baichuan": ("<reserved_106>", "<reserved_107>"),
    "SmolVLM": ("<end_of_utterance>",),
}
HTML = {"<s>", "</s>"}
THOUGHTS = {"<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]", "<seed:think>", "</seed:think>"}
ENDS = {"</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<｜end▁of▁sentence｜>"}
LAST_WORDS = ENDS | {
    "<|im_end|>",
    "<|eot_id|>",
    "<|eot|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|END_OF_TURN_TOKEN|>",
}
TURN_ENDS = re.compile(r"\s*(?:\Z|<s>|(?:###\s*)?(?:user|human|instruction|question|system)\s*\d*\s*:)", re.IGNORECASE)

_WORD = re.compile(r"</?[A-Za-z]+(?:[_ ][A-Za-z]+)*>")  # <filename>, <gh_stars>: a word, as HTML and prose write them
_SHAPE = r"<\|/?[A-Za-z][\w/.-]{0,47}\|>|<｜[^｜<>\s]{1,48}｜>"  # what is a control token by the look of it
_THOUGHT = re.compile(r"\W*(?:begin_of_|end_of_|start_|end_)?(?:think|thought|reason|solution)", re.IGNORECASE)
_NAMED = ("bos_token", "eos_token", "pad_token", "sep_token", "cls_token")
SHOWN = 3  # tokens named in a reason


@dataclass(frozen=True)
class ControlTokens:
    """`own`: the tokenizer's. `end`: its end-of-sequence token. `pattern`: those and the families', longest first."""

    own: frozenset[str]
    end: str | None
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, tokenizer: Any) -> "ControlTokens":
        written = _template_text(tokenizer)
        named = {str(token) for name in _NAMED if (token := getattr(tokenizer, name, None))}
        own = {
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.content.strip()
            and (
                token.content in named
                or token.content in written
                or (token.special and not _WORD.fullmatch(token.content))
            )
        } | {token for token in named if token.strip()}
        every = sorted(own.union(*FAMILIES.values()), key=len, reverse=True)
        return cls(frozenset(own), tokenizer.eos_token, re.compile("|".join([*map(re.escape, every), _SHAPE])))

    def reason(self, sample: Sample) -> str:
        """Which control tokens the row's text holds, and where: "" where none."""
        if sample.format == "text":
            found = [("the text", token) for token in self._beside_layout("".join(turn.text for turn in sample.turns))]
        else:
            found = [
                (place, token) for place, text, answer, ends in _texts(sample) for token in self._in(text, answer, ends)
            ]
            if sample.format == "prompt" and not found:
                joined = "".join(turn.text for turn in sample.turns)
                found = [("prompt and answer joined", token) for token in self._in(joined, True, True)]
        seen = list(dict.fromkeys(found))
        named = [f"{ascii(token) if token.isascii() else repr(token)} in {place}" for place, token in seen[:SHOWN]]
        more = f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else ""
        return f"{', '.join(named)}{more}" if seen else ""

    def _in(self, text: str, answer: bool, ends: bool) -> list[str]:
        """The tokens of a text that count. `answer`: thoughts do not; `ends`: nor does an end of turn as last word."""
        found = list(self.pattern.finditer(text))
        if ends and found and not text[found[-1].end() :].strip() and self._ends(found[-1][0]):
            found.pop()
        tokens = [match[0] for match in found]
        if not tokens:
            return []
        html = _is_html(tokens)
        return [
            token for token in tokens if not (answer and _is_thought(token)) and not (html and token in HTML - self.own)
        ]

    def _ends(self, token: str) -> bool:
        return token in LAST_WORDS or token == self.end

    def _beside_layout(self, text: str) -> list[str]:
        """The tokens of a text that are neither its layout's nor an end of text where a turn ends."""
        begun = self.pattern.match(text.lstrip())
        found = [match for match in self.pattern.finditer(text) if not _is_thought(match[0])]
        if begun is not None:
            first = begun[0]
            known = self.own.union(*FAMILIES.values())
            if first not in known:  # a layout that is in no table
                found = [match for match in found if match[0] in known]
            if first in self.own:
                layout = self.own.union(*(tokens for tokens in FAMILIES.values() if self.own & set(tokens)))
            else:
                layout = frozenset[str]().union(*(tokens for tokens in FAMILIES.values() if first in tokens))
            layout |= {*FAMILIES["Qwen and Hermes"], *ENDS}
            found = [match for match in found if match[0] not in layout]
        html = _is_html([match[0] for match in found])
        ends = ENDS | ({self.end} if self.end else set())
        return [
            match[0]
            for match in found
            if not (match[0] in ends and TURN_ENDS.match(text, match.end()))
            and not (html and match[0] in HTML - self.own)
        ]


def _is_thought(token: str) -> bool:
    """Whether a token is about an answer's thoughts: `<think>`, `<|begin_of_thought|>`, `<|END_THINKING|>`."""
    return token in THOUGHTS or bool(re.fullmatch(_SHAPE, token) and _THOUGHT.match(token))


def _is_html(tokens: list[str]) -> bool:
    """Whether every `<s>` is closed by a `</s>` after it: struck out, as HTML and Markdown have it."""
    depth = 0
    for token in tokens:
        depth += {"<s>": 1, "</s>": -1}.get(token, 0)
        if depth not in (0, 1):
            return False
    return depth == 0


def _texts(sample: Sample) -> Iterator[tuple[str, str, bool, bool]]:
    """(where, text, whether it is part of an answer, whether it is all of one) of all that a template may write."""
    for number, turn in enumerate(sample.turns, 1):
        answer = turn.supervised or turn.role in LEARNT_ROLES or turn.role == "rejected"
        place = f"turn {number} ({turn.role})" if sample.format == "chat" else f"the {turn.role}"
        yield place, turn.text, answer, answer
        for text in _strings(turn.extras):
            yield place, text, answer, False
    if sample.tools:
        for text in _strings(json.loads(sample.tools)):
            yield "the tools", text, False, False


def _strings(value: Any) -> Iterator[str]:
    """All text in a JSON value, keys too; where text is JSON itself (a tool call's arguments), what it says as well."""
    if isinstance(value, str):
        yield value
        if "\\" in value and value.lstrip()[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                yield from _strings(json.loads(value))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _template_text(tokenizer: Any) -> str:
    template = tokenizer.chat_template or ""
    return "\0".join(template.values()) if isinstance(template, dict) else template
