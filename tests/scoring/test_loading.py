"""Models as people have them: adapters, GGUF, packed weights, parts on disk, odd vocabularies, text parts."""

import copy
import gc
import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from gradsentry_lib import settings
from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.head import find_output_projection
from gradsentry_lib.scoring.identity import identify
from gradsentry_lib.scoring.loading import load_causal_lm
from gradsentry_lib.scoring.model import ScoringModel, load_model, text_body, wrap
from gradsentry_lib.scoring.scorer import score_samples

from . import reference
from .architectures import EXPERTS, LLAMA, tiny
from .checkpoints import adapter, changed, gguf, saved
from .test_scorer import IDENTITY, samples, worst


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    return saved(tmp_path_factory.mktemp("whole") / "model", tiny("llama"), tiny_tokenizer)


def load(path: Path, device: str = "cpu", base: str | None = None) -> ScoringModel:
    return load_model(identify(str(path), device=device, dtype="float32", base=base), whole=True)


def same(found: ScoringModel, expected: ScoringModel, tolerance: float = 1e-5) -> bool:
    return worst(score_samples(samples(5), found), score_samples(samples(5), expected)) < tolerance


def test_gguf(whole: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = gguf(tmp_path / "model [1].F32.gguf", tiny("llama"), tiny_tokenizer)
    assert same(load(path), load(whole))
    first = identify(str(path), device="cpu", dtype="float32")
    assert identify(str(tmp_path), device="cpu", dtype="float32").fingerprint == first.fingerprint
    path.write_bytes(path.read_bytes() + b"\0")
    assert identify(str(path), device="cpu", dtype="float32").fingerprint != first.fingerprint


class TestAdapters:
    def merged_by_hand(self, folder: Path) -> Any:
        model, weights = tiny("llama"), load_file(folder / "adapter_model.safetensors")
        with torch.no_grad():
            for key in weights:
                if ".lora_A." in key:
                    name = key.removeprefix("base_model.model.").replace(".lora_A", "")
                    model.get_parameter(name).add_(weights[key.replace("_A.", "_B.")] @ weights[key] * 2)  # alpha / r
        return model

    def test_merged_with_its_base(self, whole: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
        folder = adapter(tmp_path / "adapter", str(whole))
        expected = wrap(self.merged_by_hand(folder), tiny_tokenizer, IDENTITY)
        assert same(load(folder), expected)
        assert not same(load(folder), load(whole), 1e-3)

    def test_both_are_in_the_fingerprint(self, whole: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
        other = saved(tmp_path / "other", tiny("llama", torch.float16), tiny_tokenizer)
        first, second = adapter(tmp_path / "a", str(whole)), adapter(tmp_path / "b", str(whole), seed=4)
        found = [
            identify(str(first), device="cpu"),
            identify(str(first), device="cpu", base=str(other)),
            identify(str(second), device="cpu"),
            identify(str(whole), device="cpu"),
        ]
        assert len({identity.weights for identity in found}) == 4
        assert len({identity.tokenizer for identity in found}) == 1

    def test_base_beside_it_and_by_option(self, whole: Path, tmp_path: Path) -> None:
        shutil.copytree(whole, tmp_path / "base")
        beside = adapter(tmp_path / "a", "../base")
        gone = adapter(tmp_path / "b", "someone/gone")
        assert same(load(beside), load(gone, base=str(whole)))

    def test_of_a_vocabulary_that_was_extended(self, tmp_path: Path, whole: Path) -> None:
        from peft import LoraConfig, get_peft_model

        model = tiny("llama")
        model.resize_token_embeddings(330)
        config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        get_peft_model(model, config).save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
        changed(tmp_path / "adapter", "adapter_config.json", base_model_name_or_path=str(whole))
        loaded = load(tmp_path / "adapter")
        assert loaded.vocab == 330
        assert torch.equal(loaded.head.weight, model.lm_head.weight)

    def test_a_tokenizer_of_its_own(self, whole: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
        folder = adapter(tmp_path / "adapter", str(whole))
        tiny_tokenizer.save_pretrained(folder)
        changed(folder, "tokenizer_config.json", chat_template="{{ messages[0]['content'] }}")
        assert load(folder).tokenizer.chat_template == "{{ messages[0]['content'] }}"


class TestSpread:
    def test_over_memory_and_disk(self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path))
        expected = load(whole)
        monkeypatch.setenv("GRADSENTRY_MAX_MEMORY", "cpu=500KiB")
        spread = load(whole, "spread")
        places = spread.model.hf_device_map
        assert (places["model.layers.0"], places["model.layers.1"], places["lm_head"]) == ("cpu", "disk", "cpu")
        assert same(spread, expected)
        config = ScoringConfig(module="model.layers.0.mlp.down_proj")
        rows = samples(5)
        assert worst(score_samples(rows, spread, config), score_samples(rows, expected, config)) < 1e-5
        del spread
        gc.collect()
        assert not list(tmp_path.glob("offload-*"))

    @pytest.mark.parametrize("architecture", ["gemma2", "gpt2", "granite", "llama-tied"])
    def test_heads_of_every_kind(
        self, architecture: str, tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where more follows the head it is run with a stub for a body: accelerate's hooks must not undo that."""
        monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path))
        folder = saved(tmp_path / "model", tiny(architecture), tiny_tokenizer)
        expected = load(folder)
        monkeypatch.setenv("GRADSENTRY_MAX_MEMORY", "cpu=260KiB")
        spread = load(folder, "spread")
        assert "disk" in spread.model.hf_device_map.values()
        assert same(spread, expected)

    def test_what_does_not_fit(self, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRADSENTRY_MAX_MEMORY", "cpu=1KiB")
        with pytest.raises(BadInput, match="do not fit on device cpu: see GRADSENTRY_MAX_MEMORY"):
            load(whole, "spread")

    @pytest.mark.parametrize("told", ["cpu", "cpu=lots", "gpu=1GiB", "0=1GiB;cpu=2GiB"])
    def test_limits_that_can_not_be_read(self, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRADSENTRY_MAX_MEMORY", told)
        with pytest.raises(BadInput, match="write 0=20GiB,cpu=40GiB"):
            settings.max_memory()


def fp8(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Layers as 8 bit floats with a scale a block of 128 x 128, and what they stand for."""
    packed, plain = dict(weights), dict(weights)
    for key, value in weights.items():
        if "_proj." in key:
            blocks = value.unflatten(0, (-1, 128)).unflatten(2, (-1, 128))  # (a, 128, b, 128)
            scale = blocks.abs().amax((1, 3)) / 448
            packed[key] = (blocks / scale[:, None, :, None]).flatten(2).flatten(0, 1).to(torch.float8_e4m3fn)
            packed[key.replace("weight", "weight_scale_inv")] = scale
            spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
            plain[key] = packed[key].float() * spread
    return packed, plain


def mxfp4(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Experts as 4 bit floats with a power of two a block of 32, and what they stand for."""
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([values, -values])
    generator = torch.Generator().manual_seed(1)
    packed, plain = {}, dict(weights)
    for key, value in weights.items():
        if not key.endswith(("experts.gate_up_proj", "experts.down_proj")):
            packed[key] = value
            continue
        experts, wide, out = value.shape
        blocks = torch.randint(0, 256, (experts, out, wide // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(122, 125, (experts, out, wide // 32), generator=generator, dtype=torch.uint8)
        packed[f"{key}_blocks"], packed[f"{key}_scales"] = blocks, scales
        numbers = torch.stack([values[(blocks & 15).long()], values[(blocks >> 4).long()]], -1).flatten(3)
        plain[key] = (numbers * torch.exp2(scales.float() - 127)[..., None]).flatten(2).mT.contiguous()
    return packed, plain


WIDE = LLAMA | {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 1, "num_key_value_heads": 1}
OSS = LLAMA | {"head_dim": 16, "intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("pack", "config", "told"),
    [
        (fp8, tf.LlamaConfig(**WIDE), {"quant_method": "fp8", "weight_block_size": [128, 128]}),
        (
            mxfp4,
            tf.GptOssConfig(**OSS, rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
            {"quant_method": "mxfp4"},
        ),
    ],
)
def test_packed_floats_are_expanded(
    pack: Any, config: Any, told: dict[str, Any], tmp_path: Path, tiny_tokenizer: Any
) -> None:
    torch.manual_seed(0)
    folder = saved(tmp_path / "plain", tf.AutoModelForCausalLM.from_config(config), tiny_tokenizer)
    shutil.copytree(folder, tmp_path / "packed")
    packed, plain = pack(load_file(folder / "model.safetensors"))
    save_file(packed, tmp_path / "packed/model.safetensors", {"format": "pt"})
    save_file(plain, folder / "model.safetensors", {"format": "pt"})
    changed(tmp_path / "packed", quantization_config=told)
    found, expected = load_causal_lm(identify(str(tmp_path / "packed"), device="cpu", dtype="float32")), load(folder)
    assert same(wrap(found, tiny_tokenizer, expected.identity), expected)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_bitsandbytes(tmp_path: Path, tiny_tokenizer: Any) -> None:
    quantised = tf.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    plain = saved(tmp_path / "plain", tf.LlamaForCausalLM(tf.LlamaConfig(**WIDE)), tiny_tokenizer)
    model = tf.AutoModelForCausalLM.from_pretrained(plain, quantization_config=quantised, dtype=torch.float32)
    folder = saved(tmp_path / "packed", model, tiny_tokenizer)
    assert same(load(folder), load(plain), 0.2) and not same(load(folder), load(plain), 1e-4)
    with pytest.raises(BadInput, match="quantised weights"):
        score_samples(samples(1), load(folder), ScoringConfig(module="model.layers.0.mlp.down_proj"))


class TestVocabularies:
    def test_head_smaller_than_the_tokenizer(self, tmp_path: Path, tiny_tokenizer: Any) -> None:
        """Rows with tokens that the model has no row for are unscored and say so, the others are scored."""
        extended = copy.deepcopy(tiny_tokenizer)
        extended.add_tokens([f"<|x{i}|>" for i in range(70)])
        model = load(saved(tmp_path / "model", tiny("llama"), extended))
        rows = [
            Sample(i, i + 1, "prompt", (Turn("prompt", prompt), Turn("response", answer)))
            for i, (prompt, answer) in enumerate([("a", "b"), ("a", "<|x69|>"), ("<|x69|> a", "b"), ("<|x1|>", "b")])
        ]
        scores = score_samples(rows, model)
        reason = "its text has token 327, which the model's vocabulary of 320 does not hold"
        assert [score.failure for score in scores] == ["", reason, reason, ""]

    def test_head_larger_than_the_tokenizer(self, tmp_path: Path, tiny_tokenizer: Any) -> None:
        original = tiny("llama")
        original.resize_token_embeddings(384)
        model, slow = load(saved(tmp_path / "model", original, tiny_tokenizer)), reference.untied(original)
        for score, sample in zip(score_samples(samples(4), model), samples(4), strict=True):
            (expected,), _ = reference.score(slow, encode(sample, tiny_tokenizer, 512))
            assert score.entropy == pytest.approx(expected, abs=1e-4)

    def test_another_models_tokenizer(self, tmp_path: Path, tiny_tokenizer: Any) -> None:
        small = tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA | {"vocab_size": 40}))
        with pytest.raises(BadInput, match="the tokenizer is not this model's"):
            load(saved(tmp_path / "model", small, tiny_tokenizer))

    def test_few_positions(self, tmp_path: Path, tiny_tokenizer: Any) -> None:
        config = tf.GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2, n_positions=48)
        model = load(saved(tmp_path / "model", tf.GPT2LMHeadModel(config), tiny_tokenizer))
        scores = score_samples(samples(9), model)
        assert [score.failure for score in scores] == [""] * 9
        assert scores[-1].truncated


TEXT = LLAMA | {"head_dim": 16}
MULTIMODAL = {
    "gemma3": lambda: tf.Gemma3ForConditionalGeneration(
        tf.Gemma3Config(
            text_config=TEXT,
            vision_config={
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            },
            image_token_index=310,
            boi_token_index=311,
            eoi_token_index=312,
        )
    ),
    "qwen2-vl": lambda: tf.Qwen2VLForConditionalGeneration(
        tf.Qwen2VLConfig(
            text_config=LLAMA | {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3], "rope_type": "default"}},
            vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
        )
    ),
    "llava": lambda: tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(
            text_config=tf.LlamaConfig(**LLAMA),
            vision_config=tf.CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=28,
                patch_size=14,
            ),
            image_token_index=310,
        )
    ),
}


@pytest.mark.parametrize("name", MULTIMODAL)
def test_text_part_of_a_multimodal_model(name: str, tmp_path: Path, tiny_tokenizer: Any) -> None:
    torch.manual_seed(0)
    original = MULTIMODAL[name]().eval()
    with torch.no_grad():
        for parameter in original.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model = load(saved(tmp_path / "model", original, tiny_tokenizer))
    assert model.body is model.model.model.language_model
    slow = reference.untied(original)
    for score, sample in zip(score_samples(samples(5), model), samples(5), strict=True):
        (expected,), loss = reference.score(slow, encode(sample, tiny_tokenizer, 512))
        assert (score.entropy, score.nll) == (pytest.approx(expected, abs=1e-4), pytest.approx(loss, abs=1e-4))


def test_a_text_part_that_gives_other_states_is_not_taken() -> None:
    model = MULTIMODAL["gemma3"]().eval()
    assert text_body(model) is model.model.language_model
    model.model.register_forward_hook(lambda _, __, out: out.__class__(last_hidden_state=out.last_hidden_state * 2))
    assert text_body(model) is model.model


def test_an_encoder_in_memory_is_not_causal() -> None:
    config = tf.BertConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    with pytest.raises(BadInput, match="is not causal"):
        find_output_projection(tf.BertLMHeadModel(config).eval())


def test_experts_in_half_precision_are_causal(tiny_tokenizer: Any) -> None:
    model = tf.Qwen3MoeForCausalLM(tf.Qwen3MoeConfig(**LLAMA, **EXPERTS)).eval().to(torch.bfloat16)
    assert wrap(model, tiny_tokenizer, replace(IDENTITY, dtype="bfloat16")).vocab == 320
