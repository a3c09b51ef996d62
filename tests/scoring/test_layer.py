"""Another layer's gradient: hooks agree with the whole gradient by autograd in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring import layer as layer_module
from gradsentry_lib.scoring.config import ALGORITHM, Effort, ScoringConfig, settings_note
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.layer import find_layer
from gradsentry_lib.scoring.model import load_model, wrap
from gradsentry_lib.scoring.scorer import score_samples

from . import reference
from .architectures import tiny
from .test_scorer import IDENTITY, samples, worst

CHAT = Sample(
    0,
    1,
    "chat",
    tuple(Turn(*turn) for turn in [("user", "one?"), ("assistant", "abc"), ("user", "two?"), ("assistant", "defgh")]),
)


def by_autograd(model: Any, name: str, sample: Sample, tokenizer: Any, k: int = 16, crop: int = 8) -> list[float]:
    """Each span's entropy from its whole gradient, in float64."""
    weight = model.get_parameter(f"{name}.weight").requires_grad_(True)
    row = encode(sample, tokenizer, 512)
    ids, found = torch.from_numpy(row.ids)[None], []
    for start, end in row.spans:
        logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : end - 1]
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, ids[0, start:end]), weight)
        found.append(reference.entropy(gradient, k, crop))
    return found


LAYERS = [
    ("llama", "model.layers.0.mlp.down_proj"),
    ("llama-tied", "model.layers.1.self_attn.o_proj"),
    ("llama", "model.layers.0.self_attn.q_proj"),
    ("gpt2", "transformer.h.1.mlp.c_proj"),
    ("gemma2", "model.layers.0.mlp.up_proj"),
    ("granite", "model.layers.1.mlp.down_proj"),
    ("qwen2-moe", "model.layers.0.mlp.shared_expert.down_proj"),
    ("mamba", "backbone.layers.0.mixer.in_proj"),
    ("rwkv", "rwkv.blocks.0.attention.key"),
    ("jamba", "model.layers.1.self_attn.o_proj"),
]


@pytest.mark.parametrize(("architecture", "name"), LAYERS)
def test_layers_against_float64(architecture: str, name: str, tiny_tokenizer: Any) -> None:
    original = tiny(architecture)
    model, slow = wrap(original, tiny_tokenizer, IDENTITY), reference.untied(original)
    rows = [*samples(5), CHAT]
    usual = score_samples(rows, model)
    for score, plain, sample in zip(score_samples(rows, model, ScoringConfig(module=name)), usual, rows, strict=True):
        assert score.turn_entropies == pytest.approx(by_autograd(slow, name, sample, tiny_tokenizer), abs=1e-4)
        assert score.entropy == max(score.turn_entropies)
        # Sketches and NLL stay the output projection's: what compares rows is not touched.
        assert (score.nll, score.supervised_tokens) == (pytest.approx(plain.nll, abs=1e-5), plain.supervised_tokens)
        assert len(score.sketch) == len(plain.sketch) > 0


@pytest.mark.parametrize(("k", "crop"), [(4, 1), (64, 8), (16, 2)])
def test_other_numbers_and_crops(k: int, crop: int, tiny_tokenizer: Any) -> None:
    original, name = tiny("qwen2"), "model.layers.1.mlp.down_proj"
    model, slow = wrap(original, tiny_tokenizer, IDENTITY), reference.untied(original)
    found = score_samples(samples(4), model, ScoringConfig(k=k, crop=crop, module=name))
    for score, sample in zip(found, samples(4), strict=True):
        expected = by_autograd(slow, name, sample, tiny_tokenizer, k, crop)
        assert score.turn_entropies == pytest.approx(expected, abs=1e-4)


def test_company_does_not_matter(tiny_tokenizer: Any) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    config = ScoringConfig(module="model.layers.0.mlp.gate_proj")
    alone = [score_samples([row], model, config)[0] for row in samples()]
    for budget in (None, 40):
        assert worst(score_samples(samples(), model, config, Effort(token_budget=budget)), alone) < 1e-5


def test_rows_go_alone_where_together_is_not_the_same(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    config = ScoringConfig(module="model.layers.0.mlp.gate_proj")
    expected, sizes, real = score_samples(samples(), model, config), [], layer_module._pass

    def watched(rows: Any, *rest: Any) -> Any:
        sizes.append(len(rows))
        return real(rows, *rest)

    monkeypatch.setattr(layer_module, "_pass", watched)
    monkeypatch.setattr(layer_module, "_exact_together", lambda *_: False)
    assert worst(score_samples(samples(), model, config), expected) < 1e-5
    assert set(sizes) == {1}


def test_the_output_projection_by_name_is_the_fast_road(tiny_tokenizer: Any) -> None:
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    assert find_layer(model, "lm_head") is find_layer(model, "lm_head.weight") is None
    assert worst(score_samples(samples(), model, ScoringConfig(module="lm_head")), score_samples(samples(), model)) == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.layers.9.mlp.down_proj", "no linear layer .* for example, model.layers.0.mlp.down_proj"),
        ("model.norm", "no linear layer"),
        ("model.embed_tokens", "no linear layer"),
        ("mlp.down_proj", "2 layers .* such as model.layers.1.mlp.down_proj"),
    ],
)
def test_unusable_names(name: str, reason: str, tiny_tokenizer: Any) -> None:
    with pytest.raises(BadInput, match=reason):
        score_samples(samples(1), wrap(tiny("llama"), tiny_tokenizer, IDENTITY), ScoringConfig(module=name))


def test_what_can_not_be_differentiated_says_so(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some models write their state in place, which a backward pass refuses."""
    model, name = wrap(tiny("llama"), tiny_tokenizer, IDENTITY), "model.layers.0.mlp.down_proj"

    def spoil(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        result = output.exp()
        kept = result.log()
        result.mul_(2)  # its old value is needed to go back through the logarithm
        return kept

    model.model.model.layers[1].mlp.register_forward_hook(spoil)
    with pytest.raises(BadInput, match=r"can't be differentiated down to .*down_proj: .*inplace"):
        score_samples(samples(3), model, ScoringConfig(module=name))


def test_a_layer_without_part_in_the_loss_leaves_the_row_unscored(tiny_tokenizer: Any) -> None:
    """With one token before it, an answer's only token attends to nothing but itself: no query matters."""
    short = Sample(0, 1, "prompt", (Turn("prompt", "a"), Turn("response", "")))
    model = wrap(tiny("llama"), tiny_tokenizer, IDENTITY)
    (score,) = score_samples([short], model, ScoringConfig(module="model.layers.0.self_attn.q_proj"))
    assert score.failure == "the layer has no part in the loss of one of its answers"


def test_out_of_memory_goes_on_with_fewer_rows(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = wrap(tiny("llama"), tiny_tokenizer, IDENTITY), ScoringConfig(module="model.layers.0.mlp.down_proj")
    expected, real = score_samples(samples(4), model, config), layer_module._pass

    def cramped(rows: Any, *rest: Any) -> Any:
        if sum(len(row.ids) for row in rows) > 45:
            raise torch.OutOfMemoryError("out of memory")
        return real(rows, *rest)

    monkeypatch.setattr(layer_module, "_pass", cramped)
    for score, alone in zip(score_samples(samples(4), model, config), expected, strict=True):
        if score.failure:
            assert "does not fit in memory alone" in score.failure
        else:
            assert score.entropy == pytest.approx(alone.entropy, abs=1e-5)


def test_the_model_is_left_as_it_was(tiny_tokenizer: Any) -> None:
    original = tiny("llama").requires_grad_(False)
    model = wrap(original, tiny_tokenizer, IDENTITY)
    before = score_samples(samples(3), model)
    score_samples(samples(3), model, ScoringConfig(module="model.layers.0.mlp.down_proj"))
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in original.parameters())
    assert not original.model.layers[0].mlp.down_proj._forward_hooks
    assert worst(score_samples(samples(3), model), before) == 0


def test_the_embedded_models_last_layers(embedded_model: Path) -> None:
    sample = Sample(
        0, 1, "prompt", (Turn("prompt", "What is the capital of France?"), Turn("response", "It is Paris."))
    )
    names = ("model.layers.29.mlp.down_proj", "model.layers.29.self_attn.o_proj")
    model = load_model(str(embedded_model), device="cpu", dtype="float32")
    found = [score_samples([sample], model, ScoringConfig(module=name))[0].entropy for name in names]
    slow = model.model.double()
    assert found == pytest.approx([by_autograd(slow, name, sample, model.tokenizer)[0] for name in names], abs=1e-4)


def test_settings_are_part_of_the_key_and_the_usual_key_stays() -> None:
    usual = ScoringConfig()
    assert usual.to_dict() == {"k": 16, "crop": 8, "max_tokens": None, "sketch": True, "algorithm": ALGORITHM}
    others = [ScoringConfig(k=8), ScoringConfig(crop=1), ScoringConfig(module="a.b"), ScoringConfig(module="a.c")]
    assert len({config.key for config in [usual, *others]}) == 5


@pytest.mark.parametrize(("setting", "reason"), [({"k": 1}, "at least 2"), ({"crop": 0}, "at least 1")])
def test_settings_that_make_no_score(setting: dict[str, int], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        ScoringConfig(**setting)


@pytest.mark.parametrize("setting", [{"crop": 65}, {"crop": 65, "module": "model.layers.0.mlp.down_proj"}])
def test_a_crop_that_leaves_nothing(setting: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(BadInput, match="crop 65 leaves nothing"):
        score_samples(samples(1), wrap(tiny("llama"), tiny_tokenizer, IDENTITY), ScoringConfig(**setting))


def test_a_policy_that_does_not_look_at_the_entropy_is_told() -> None:
    told = ScoringConfig(k=4, module="a.b").to_dict()
    assert settings_note(ScoringConfig().to_dict(), "auto") == ""
    assert "module a.b, k 4 change the entropy alone, which the policy auto ignores" in settings_note(told, "auto")
    assert "measured with the usual settings" in settings_note(told, "paper")
