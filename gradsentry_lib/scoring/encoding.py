"""From a sample's text to token ids with supervised spans.

The supervised span is what training would learn: the response and its end-of-sequence token. Prompt/response rows are
their two texts, one after the other; Alpaca rows go through the Alpaca template; chats through the tokenizer's own chat
template, where every assistant turn is a span. Over-long samples lose prompt from the left first, then response from
the right, and are marked truncated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsentry_lib.samples.sample import Sample, Turn

ALPACA_HEAD = "Below is an instruction that describes a task"
ALPACA_WITH_INPUT = ", paired with an input that provides further context"
ALPACA_TAIL = ". Write a response that appropriately completes the request.\n\n"

# For tokenizers that bring no chat template: plain, and the same for every model.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """`ids`: (L,) int64. `spans`: half-open ranges of supervised positions, ascending, each starting at 1 or later."""

    ids: np.ndarray
    spans: tuple[tuple[int, int], ...]
    truncated: bool

    @property
    def supervised(self) -> int:
        return sum(end - start for start, end in self.spans)


class EncodingError(ValueError):
    """The sample cannot be put into tokens; the message is the reason kept with the row."""


def encode(sample: Sample, tokenizer: Any, max_tokens: int) -> Encoded:
    """Token ids and supervised spans of a sample, at most `max_tokens` long."""
    if sample.format == "chat":
        ids, spans = _encode_chat(sample.turns, tokenizer)
    elif sample.format == "text":
        ids, spans = _encode_text(sample.turns, tokenizer)
    else:
        prompt, response = _prompt_and_response(sample)
        ids = tokenizer.encode(prompt) or [_first_token(tokenizer)]
        start = len(ids)
        ids = ids + tokenizer.encode(response, add_special_tokens=False)
        if tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        spans = [(start, len(ids))]
    if not spans or any(end <= start for start, end in spans):
        raise EncodingError("the response has no tokens")
    return _truncate(np.asarray(ids, dtype=np.int64), spans, max_tokens)


def _prompt_and_response(sample: Sample) -> tuple[str, str]:
    text = {turn.role: turn.text for turn in sample.turns}
    if sample.format == "prompt":
        return "\n\n".join(turn.text for turn in sample.turns if not turn.supervised), text["response"]
    given = text.get("input", "")
    head = (
        text["system"] + "\n\n" if "system" in text else ALPACA_HEAD + (ALPACA_WITH_INPUT * bool(given)) + ALPACA_TAIL
    )
    middle = f"### Instruction:\n{text['instruction']}\n\n" + (f"### Input:\n{given}\n\n" if given else "")
    return f"{head}{middle}### Response:\n", text["response"]


def _encode_text(turns: tuple[Turn, ...], tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]]:
    """A text as it stands, and an end of sequence: what a trainer makes of a column of texts. A token on the border of
    two turns belongs to the one that it ends in."""
    text = "".join(turn.text for turn in turns)
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, ends = list(encoded["input_ids"]), [end for _, end in encoded["offset_mapping"]]
    spans: list[tuple[int, int]] = []
    position = 0
    for turn in turns:
        first, position = position, position + len(turn.text)
        inside = [i for i, end in enumerate(ends) if first < end <= position]
        if turn.supervised and inside:
            spans.append((inside[0], inside[-1] + 1))
    if spans and turns[-1].supervised and tokenizer.eos_token_id is not None and ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
        spans[-1] = (spans[-1][0], len(ids))
    if spans and spans[0][0] == 0:  # the first token needs a hidden state before it
        if ids[0] == tokenizer.bos_token_id:
            spans[0] = (1, spans[0][1])
        else:
            ids.insert(0, _first_token(tokenizer))
            spans = [(start + 1, end + 1) for start, end in spans]
    return ids[: spans[-1][1]] if spans else ids, [(start, end) for start, end in spans if start < end]


def _first_token(tokenizer: Any) -> int:
    """What an empty prompt becomes: the first response token needs a hidden state before it."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    return 0


def _encode_chat(turns: tuple[Turn, ...], tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]]:
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    template = None if tokenizer.chat_template else PLAIN_CHAT_TEMPLATE

    def render(count: int, prompt: bool) -> str:
        try:
            return tokenizer.apply_chat_template(
                messages[:count], tokenize=False, add_generation_prompt=prompt, chat_template=template
            )
        except Exception as error:  # a template is a program of the model's author; it may raise anything
            raise EncodingError(f"the model's chat template refuses the conversation: {error}") from error

    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    done = ""  # what has been turned into ids so far
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, after = render(index, prompt=True), render(index + 1, prompt=False)
        if not (before.startswith(done) and after.startswith(before)):
            raise EncodingError("the model's chat template rewrites earlier turns, so spans cannot be told apart")
        answer, rest = _split_after_end(after[len(before) :], tokenizer.eos_token)
        ids += tokenizer.encode(before[len(done) :], add_special_tokens=False)
        if not ids:
            ids.append(_first_token(tokenizer))
        start = len(ids)
        ids += tokenizer.encode(answer, add_special_tokens=False)
        spans.append((start, len(ids)))
        ids += tokenizer.encode(rest, add_special_tokens=False) if rest else []
        done = after
    return ids[: spans[-1][1]] if spans else ids, spans


def _split_after_end(text: str, end: str | None) -> tuple[str, str]:
    """Splits a rendered answer behind its end-of-turn token: the template's white space after it is not learnt."""
    if end and end in text:
        cut = text.rindex(end) + len(end)
        return text[:cut], text[cut:]
    return text, ""


def _truncate(ids: np.ndarray, spans: list[tuple[int, int]], limit: int) -> Encoded:
    excess = len(ids) - limit
    if excess <= 0:
        return Encoded(ids, tuple(spans), truncated=False)
    cut = min(excess, spans[0][0] - 1)  # one prompt token stays: the first response token is predicted from it
    ids = ids[cut : cut + limit]
    moved = [(start - cut, min(end - cut, len(ids))) for start, end in spans]
    return Encoded(ids, tuple((start, end) for start, end in moved if start < end), truncated=True)
