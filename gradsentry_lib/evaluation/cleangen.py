"""CleanGen (arXiv 2406.12257): a defence at decoding time, for comparison with filtering before training.

The tuned model drafts k tokens; a reference model that the attacker did not touch reads them. The first token that the
tuned model finds alpha times as likely as the reference does is suspect: it is replaced by the reference's own choice,
and what was drafted after it is thrown away. Here the reference is the model before tuning.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.evaluation.tuning import prompt_ids

ALPHA, K = 20.0, 4  # the paper's


class _Reader:
    """A model and the cache of what it has read, which can be shortened again."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache = DynamicCache()

    def next_probabilities(self, ids: Sequence[int], last: int) -> torch.Tensor:
        """(last, V) float32 probabilities of what follows each of the last `last` positions of `ids`. Reads only what
        it has not read; the part of `ids` read before must not have changed."""
        self.forget_beyond(len(ids) - last)
        known = self.cache.get_seq_length()
        fresh = torch.tensor([list(ids[known:])], device=self.model.device)
        logits = self.model(input_ids=fresh, past_key_values=self.cache, use_cache=True).logits[0, -last:]
        return logits.float().softmax(-1)

    def forget_beyond(self, length: int) -> None:
        """What was read after position `length` is no longer so."""
        surplus = self.cache.get_seq_length() - length
        if surplus > 0:
            self.cache.crop(-surplus)


@torch.no_grad()
def decode(
    target: Any, reference: Any, prompt: Sequence[int], end: int, max_new: int, alpha: float = ALPHA, k: int = K
) -> list[int]:
    """Greedy tokens after `prompt`, `end` left out."""
    ids = [int(token) for token in prompt]
    start, limit = len(ids), len(ids) + max_new
    drafter, judge = _Reader(target), _Reader(reference)
    while len(ids) < limit:
        draft: list[int] = []
        likely: list[float] = []
        while len(draft) < k and len(ids) + len(draft) < limit and end not in draft:
            probabilities = drafter.next_probabilities([*ids, *draft], 1)[0]
            token = int(probabilities.argmax())
            draft.append(token)
            likely.append(float(probabilities[token]))
        expected = judge.next_probabilities([*ids, *draft], len(draft) + 1)[:-1]  # (drafted, V)
        suspect = [
            p / max(float(e[token]), 1e-30) >= alpha for p, e, token in zip(likely, expected, draft, strict=True)
        ]
        if any(suspect):
            first = suspect.index(True)
            draft = [*draft[:first], int(expected[first].argmax())]
        ids += draft
        for reader in (drafter, judge):
            reader.forget_beyond(len(ids) - 1)
        if end in draft:
            break
    return [token for token in ids[start:] if token != end]


def cleangen_answers(
    target: Any,
    reference: Any,
    tokenizer: Any,
    asked: Sequence[Row],
    max_new: int = 40,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Answers to the rows' questions under CleanGen, as `tuning.answers` gives them without."""
    said = []
    for sample in to_samples(asked):
        tokens = decode(target, reference, prompt_ids(sample, tokenizer).tolist(), tokenizer.eos_token_id, max_new)
        said.append(tokenizer.decode(tokens, skip_special_tokens=True))
        if on_progress is not None:
            on_progress(1)
    return said
