"""The fast way against the slow one, over architectures; and nothing that should not matter matters."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring import gradient as gradient_module
from gradsentry_lib.scoring import scorer as scorer_module
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.head import find_output_projection
from gradsentry_lib.scoring.identity import ModelIdentity
from gradsentry_lib.scoring.model import wrap
from gradsentry_lib.scoring.score import Score
from gradsentry_lib.scoring.scorer import score_samples

from . import reference
from .architectures import CONFIGS, tiny

IDENTITY = ModelIdentity("tiny", Path(), "w", "t", "cpu", "float32")
TEMPLATE = "Answer the question in few words.\n"


def samples(count: int = 9) -> list[Sample]:
    """Prompts of several lengths, some under one template; responses of 1 to 40 bytes, so on both sides of D // 8."""
    letters = np.random.default_rng(3).integers(97, 123, 4000).astype(np.uint8).tobytes().decode()
    made = []
    for i in range(count):
        prompt = (TEMPLATE if i % 3 else "") + letters[7 * i : 7 * i + 5 + 3 * i]
        response = letters[100 * i : 100 * i + 1 + 5 * i]
        made.append(Sample(i, i + 1, "prompt", (Turn("prompt", prompt), Turn("response", response))))
    return made


def worst(found: list[Score], expected: list[Score]) -> float:
    return max(abs(a.entropy - b.entropy) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_fast_road_equals_autograd_and_dense_svd(name: str, tiny_tokenizer: Any) -> None:
    original = tiny(name)
    model, slow = wrap(original, tiny_tokenizer, IDENTITY), reference.untied(original)
    for score, sample in zip(score_samples(samples(), model), samples(), strict=True):
        (expected,), loss = reference.score(slow, encode(sample, tiny_tokenizer, 512))
        assert not score.failure
        assert score.entropy == pytest.approx(expected, abs=1e-4)
        assert score.nll == pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_company_size_and_order_do_not_matter(name: str, tiny_tokenizer: Any) -> None:
    model = wrap(tiny(name), tiny_tokenizer, IDENTITY)
    rows = samples()
    alone = [score_samples([row], model, effort=Effort(share_prefixes=False))[0] for row in rows]
    assert worst(score_samples(rows, model), alone) < 1e-5
    assert worst(score_samples(rows, model, effort=Effort(token_budget=64)), alone) < 1e-5
    assert worst(score_samples(rows[::-1], model)[::-1], alone) < 1e-5
    tiny_tokenizer.padding_side = "left"
    try:
        assert worst(score_samples(rows, model), alone) < 1e-5
    finally:
        tiny_tokenizer.padding_side = "right"


def test_tails_are_found_not_assumed() -> None:
    plain = {name: find_output_projection(tiny(name)).plain for name in ("llama", "gemma2", "granite", "cohere", "phi")}
    assert plain == {"llama": True, "gemma2": False, "granite": False, "cohere": False, "phi": True}


@pytest.mark.parametrize(
    ("name", "limit"), [("mamba", 0), ("mistral-sliding", 0), ("mistral-wide", 64), ("llama", 1 << 30)]
)
def test_sharing_is_refused_where_it_would_not_be_exact(name: str, limit: int, tiny_tokenizer: Any) -> None:
    """A window is exact as long as nothing slides out of it."""
    assert wrap(tiny(name), tiny_tokenizer, IDENTITY).past_limit == limit


def test_model_without_output_projection_is_refused() -> None:
    from transformers import LlamaConfig, LlamaModel

    with pytest.raises(BadInput, match="no output projection"):
        find_output_projection(LlamaModel(LlamaConfig(**CONFIGS["llama"].to_dict())))


def test_long_response_in_many_chunks(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, Gram rows and Gram columns alike, gives what one chunk gives."""
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    whole = score_samples(samples(), model)
    monkeypatch.setitem(gradient_module.LOGIT_BYTES, "cpu", 4 * 320 * 3)  # three rows of logits at a time
    assert worst(score_samples(samples(), model), whole) < 1e-6


def test_chat_turns_are_scored_one_by_one(tiny_tokenizer: Any) -> None:
    turns = [("system", "Be brief."), ("user", "one?"), ("assistant", "a"), ("user", "two?"), ("assistant", "bcdefg")]
    chat = Sample(0, 1, "chat", tuple(Turn(*turn) for turn in turns))
    original = tiny("llama")
    model, slow = wrap(original, tiny_tokenizer, IDENTITY), reference.untied(original)
    score = score_samples([chat], model)[0]
    row = encode(chat, tiny_tokenizer, 512)
    expected, loss = reference.score(slow, row)
    assert len(score.turn_entropies) == 2
    assert score.turn_entropies == pytest.approx(expected, abs=1e-4)
    assert score.entropy == max(score.turn_entropies)
    assert score.nll == pytest.approx(loss, abs=1e-4)
    assert score.supervised_tokens == 2 + 7  # each with its end-of-sequence token


class OutOfMemoryBody(torch.nn.Module):
    """A body that runs out of memory on more than so many tokens."""

    def __init__(self, body: Any, tokens: int) -> None:
        super().__init__()
        self.body, self.tokens, self.sizes = body, tokens, []

    @property
    def config(self) -> Any:
        return self.body.config

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        if input_ids.numel() > self.tokens:
            raise torch.OutOfMemoryError("out of memory")
        self.sizes.append(input_ids.numel())
        return self.body(input_ids=input_ids, **kwargs)


def test_out_of_memory_halves_the_budget_and_goes_on(tiny_tokenizer: Any) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    expected = score_samples(samples(), model)
    small = OutOfMemoryBody(model.body, 70)
    cramped = replace(model, body=small, past_limit=0)
    found = score_samples(samples(), cramped)
    lengths = [len(encode(sample, tiny_tokenizer, 512).ids) for sample in samples()]
    for score, alone, length in zip(found, expected, lengths, strict=True):
        if length > 70:
            assert score.failure == f"does not fit in memory alone ({length} tokens)"
            assert math.isnan(score.entropy)
        else:
            assert score.entropy == pytest.approx(alone.entropy, abs=1e-5)
    assert any(length > 70 for length in lengths) and min(lengths) <= 70


def test_out_of_memory_in_the_head(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose supervised tokens fit alone are scored as ever; one whose don't says so."""
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    expected = score_samples(samples(), model)
    real = scorer_module.span_signals

    def cramped(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(hidden) > 30:
            raise torch.OutOfMemoryError("out of memory")
        return real(hidden, *args, **kwargs)

    monkeypatch.setattr(scorer_module, "span_signals", cramped)
    found = score_samples(samples(), model)
    for score, alone in zip(found, expected, strict=True):
        if alone.supervised_tokens > 30:
            assert score.failure == f"does not fit in memory alone ({alone.supervised_tokens} supervised tokens)"
        else:
            assert score.entropy == pytest.approx(alone.entropy, abs=1e-6)
    assert {score.failure == "" for score in found} == {True, False}


def test_how_many_tokens_the_head_takes_at_a_time_does_not_matter(
    tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    together = score_samples(samples(), model, effort=Effort(token_budget=40))
    monkeypatch.setattr(scorer_module, "HEAD_TOKENS", 1)
    apart = score_samples(samples(), model, effort=Effort(token_budget=40))
    assert worst(together, apart) < 1e-6
    assert [score.sketch for score in together] == [score.sketch for score in apart]


def test_what_is_not_finite_is_unscored(tiny_tokenizer: Any) -> None:
    broken = tiny("llama")
    with torch.no_grad():
        broken.get_output_embeddings().weight[5] = float("nan")
    head = find_output_projection(tiny("llama"))
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    scores = score_samples(samples(), replace(model, head=replace(head, weight=broken.lm_head.weight)))
    assert {score.failure for score in scores} == {"the model's output is not finite"}


def test_progress_counts_every_row_once(tiny_tokenizer: Any) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    seen: list[int] = []
    score_samples(samples(), model, on_progress=seen.append)
    assert sum(seen) == len(samples())


@pytest.mark.parametrize(("k", "crop"), [(4, 8), (64, 8), (16, 1), (16, 4)])
def test_other_settings(k: int, crop: int, tiny_tokenizer: Any) -> None:
    original = tiny("qwen2")
    model, slow = wrap(original, tiny_tokenizer, IDENTITY), reference.untied(original)
    for score, sample in zip(score_samples(samples(), model, ScoringConfig(k, crop)), samples(), strict=True):
        (expected,), _ = reference.score(slow, encode(sample, tiny_tokenizer, 512), k, crop)
        assert score.entropy == pytest.approx(expected, abs=1e-4)
