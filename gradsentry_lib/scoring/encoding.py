"""From a sample's text to token ids with supervised spans.

The supervised span is what training would learn: the response and its end-of-sequence token. Prompt/response rows are
their two texts, one after the other; Alpaca rows go through the Alpaca template; chats through the tokenizer's own chat
template (chat_template.py), where every supervised turn is a span (chat_spans.py); a text is learnt whole, or in the
pieces that its row marks, as one tokenization of it has them. Over-long samples lose prompt from the left first, then
response from the right, and are marked truncated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.chat_spans import special_tokens, supervised_spans
from gradsentry_lib.scoring.chat_template import PLAIN_CHAT_TEMPLATE, EncodingError, read_conversation

__all__ = ["PLAIN_CHAT_TEMPLATE", "Encoded", "EncodingError", "encode"]

Span = tuple[int, int]  # half-open

ALPACA_HEAD = "Below is an instruction that describes a task"
ALPACA_WITH_INPUT = ", paired with an input that provides further context"
ALPACA_TAIL = ". Write a response that appropriately completes the request.\n\n"


@dataclass(frozen=True, slots=True)
class Encoded:
    """`ids`: (L,) int64. `spans`: half-open ranges of supervised positions, ascending, each starting at 1 or later."""

    ids: np.ndarray
    spans: tuple[tuple[int, int], ...]
    truncated: bool

    @property
    def supervised(self) -> int:
        return sum(end - start for start, end in self.spans)


def encode(sample: Sample, tokenizer: Any, max_tokens: int) -> Encoded:
    """Token ids and supervised spans of a sample, at most `max_tokens` long.

    Raises EncodingError where there is nothing to learn or it can't be found, and BadInput where the model's chat
    template can't be used for any row.
    """
    if sample.format == "chat":
        ids, spans = _chat(sample, tokenizer)
    elif sample.format == "text":
        ids, spans = _text(sample, tokenizer)
    else:
        ids, spans = _prompt_then_response(sample, tokenizer)
    if not spans or any(end <= start for start, end in spans):
        raise EncodingError("the response has no tokens")
    return _truncate(np.asarray(ids, dtype=np.int64), spans, max_tokens)


def _prompt_then_response(sample: Sample, tokenizer: Any) -> tuple[list[int], list[Span]]:
    prompt, response = _prompt_and_response(sample)
    ids = tokenizer.encode(prompt) or [_first_token(tokenizer)]
    start = len(ids)
    ids = ids + tokenizer.encode(response, add_special_tokens=False)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return ids, [(start, len(ids))]


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


def _first_token(tokenizer: Any) -> int:
    """What an empty prompt becomes: the first response token needs a hidden state before it."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    return 0


def _chat(sample: Sample, tokenizer: Any) -> tuple[list[int], list[Span]]:
    chat = read_conversation(sample, tokenizer)
    spans = supervised_spans(sample.turns, chat, special_tokens(tokenizer))
    ids, found = tokenize(chat.text, spans, tokenizer)
    if len(found) < len(spans):
        raise EncodingError("the response has no tokens")
    if found[0][0] == 0:
        ids, found = [_first_token(tokenizer), *ids], [(start + 1, end + 1) for start, end in found]
    return ids[: found[-1][1]], found


def _text(sample: Sample, tokenizer: Any) -> tuple[list[int], list[Span]]:
    """The pieces of a text joined, the supervised ones learnt; the first token is never learnt: nothing foretells it.

    A text that does not end with the end-of-sequence token gets one, as trainers do.
    """
    whole = "".join(turn.text for turn in sample.turns)
    pieces, at = [], 0
    for turn in sample.turns:
        if turn.supervised or (turn.role == "text" and turn.train is None):
            pieces.append((at, at + len(turn.text)))
        at += len(turn.text)
    ids, found = tokenize(whole, pieces, tokenizer, add_special_tokens=True)
    end = tokenizer.eos_token_id
    ends_learnt = bool(found) and pieces[-1][1] == len(whole)
    if end is not None and ids and ids[-1] != end:
        ids = [*ids, end]
    if ends_learnt and ids[-1] == end:
        found[-1] = (found[-1][0], len(ids))
    if found and found[0][0] == 0:
        found[0] = (1, found[0][1])
    return ids, found


def _truncate(ids: np.ndarray, spans: list[tuple[int, int]], limit: int) -> Encoded:
    excess = len(ids) - limit
    if excess <= 0:
        return Encoded(ids, tuple(spans), truncated=False)
    cut = min(excess, spans[0][0] - 1)  # one prompt token stays: the first response token is predicted from it
    ids = ids[cut : cut + limit]
    moved = [(start - cut, min(end - cut, len(ids))) for start, end in spans]
    return Encoded(ids, tuple((start, end) for start, end in moved if start < end), truncated=True)


def tokenize(
    text: str, spans: Sequence[Span], tokenizer: Any, add_special_tokens: bool = False
) -> tuple[list[int], list[Span]]:
    """Ids of a text, and for each of its character ranges the range of tokens that hold any of it.

    The ranges ascend and do not overlap; those that no token holds are left out. A token across a border belongs to the
    range, as in transformers' assistant mask. Tokenizers that do not know where their tokens stand (the slow ones) get
    the text in pieces, cut at the borders.
    """
    if not getattr(tokenizer, "is_fast", False):
        return _in_pieces(text, spans, tokenizer, add_special_tokens)
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    starts, ends = np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2).T
    found: list[Span] = []
    for start, end in spans:
        held = np.flatnonzero((starts < end) & (ends > start))
        first = max(int(held[0]), found[-1][1] if found else 0) if held.size else 0
        if held.size and first <= held[-1]:
            found.append((first, int(held[-1]) + 1))
    return list(encoded["input_ids"]), found


def _in_pieces(
    text: str, spans: Sequence[Span], tokenizer: Any, add_special_tokens: bool
) -> tuple[list[int], list[Span]]:
    ids: list[int] = tokenizer.build_inputs_with_special_tokens([]) if add_special_tokens else []
    found: list[Span] = []
    at = 0
    for start, end in spans:
        ids += tokenizer.encode(text[at:start], add_special_tokens=False) if start > at else []
        own = tokenizer.encode(text[start:end], add_special_tokens=False)
        if own:
            found.append((len(ids), len(ids) + len(own)))
        ids += own
        at = end
    ids += tokenizer.encode(text[at:], add_special_tokens=False) if at < len(text) else []
    return ids, found
