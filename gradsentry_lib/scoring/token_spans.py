"""From ranges of characters to ranges of tokens, in one tokenization of the whole text, as a trainer makes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Span = tuple[int, int]


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
