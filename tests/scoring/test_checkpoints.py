"""What can't be scored is refused in one line; nothing is ever filled in with random weights."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import save_file

from gradsentry_lib.errors import BadInput
from gradsentry_lib.scoring import checkpoint as checkpoint_module
from gradsentry_lib.scoring.identity import identify
from gradsentry_lib.scoring.model import load_model

from .architectures import CONFIGS, tiny
from .checkpoints import adapter, changed, reward, saved, without

Make = Callable[[Path, Any], Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    return saved(tmp_path_factory.mktemp("whole") / "model", tiny("llama"), tiny_tokenizer)


def refusal(path: Path) -> str:
    """The one line that a model is refused with, when it is named or when it is loaded."""
    with pytest.raises(BadInput) as caught:
        load_model(identify(str(path), device="cpu", dtype="float32"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small(kind: type, config: type, **settings: Any) -> Any:
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return kind(config(**sizes, intermediate_size=48, **settings))


OTHERS: dict[str, tuple[Make, str]] = {
    "reward": (reward, "is a classifier or reward model .*causal language model"),
    "body": (
        lambda folder, tokenizer: saved(folder, tf.LlamaModel(CONFIGS["llama"]), tokenizer),
        "a body without an output projection",
    ),
    "encoder": (
        lambda folder, tokenizer: saved(folder, small(tf.BertForMaskedLM, tf.BertConfig), tokenizer),
        "is an encoder",
    ),
    "encoder, named as if it were causal": (
        lambda folder, tokenizer: changed(
            saved(folder, small(tf.BertLMHeadModel, tf.BertConfig), tokenizer), is_decoder=False
        ),
        "is not causal",
    ),
    "encoder and decoder": (
        lambda folder, tokenizer: saved(
            folder,
            tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=48, num_layers=1)),
            tokenizer,
        ),
        "an encoder and a decoder",
    ),
    "token classifier": (
        lambda folder, tokenizer: saved(folder, small(tf.BertForTokenClassification, tf.BertConfig), tokenizer),
        "a classifier of tokens",
    ),
    "unknown kind": (
        lambda folder, tokenizer: changed(saved(folder, tiny("llama"), tokenizer), model_type="unheard_of"),
        "can't be loaded: .*unheard_of",
    ),
    "no tokenizer": (lambda folder, _: saved(folder, tiny("llama")), "no tokenizer"),
    "no weights": (
        lambda folder, tokenizer: (saved(folder, tiny("llama"), tokenizer) / "model.safetensors").unlink() or folder,
        r"no weights \(\*.safetensors\)",
    ),
    "empty": (lambda folder, _: folder.mkdir() or folder, "no config.json"),
    "config is no object": (
        lambda folder, tokenizer: (saved(folder, tiny("llama"), tokenizer) / "config.json").write_text("[]") and folder,
        "config.json can't be read as a JSON object",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_model(kind: str, tmp_path: Path, tiny_tokenizer: Any) -> None:
    make, reason = OTHERS[kind]
    assert re.search(reason, refusal(make(tmp_path / "model", tiny_tokenizer)))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("lm_head.weight", "no output projection in its files"),
        ("model.embed_tokens.weight", "not whole: model.embed_tokens.weight missing"),
        ("model.layers.1.mlp.up_proj.weight", "not whole: model.layers.1.mlp.up_proj.weight missing"),
    ],
)
def test_weights_that_are_missing(key: str, reason: str, whole: Path, tmp_path: Path) -> None:
    """A reward model that calls itself causal, a half-written folder: both would get random numbers."""
    assert reason in refusal(without(Path(shutil.copytree(whole, tmp_path / "model")), key))


def test_a_tied_head_is_not_missing(tmp_path: Path, tiny_tokenizer: Any) -> None:
    folder = saved(tmp_path / "model", tiny("llama-tied"), tiny_tokenizer)
    assert load_model(str(folder), device="cpu", dtype="float32").head.vocab == 320


def test_a_reward_model_that_hides_behind_a_tied_head(tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = tf.LlamaForSequenceClassification(tf.LlamaConfig(**CONFIGS["llama-tied"].to_dict() | {"num_labels": 1}))
    folder = changed(saved(tmp_path / "model", model, tiny_tokenizer), architectures=None)
    assert "is a classifier or reward model (score.weight)" in refusal(folder)


def test_weights_of_another_shape(whole: Path, tmp_path: Path) -> None:
    folder = changed(Path(shutil.copytree(whole, tmp_path / "model")), vocab_size=400)
    assert re.search(
        r"(lm_head|embed_tokens).weight is 320 x 64 in its files and 400 x 64 by its config", refusal(folder)
    )


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickled_weights(file: str, whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    (folder / file).write_bytes(PICKLE)
    assert "only safetensors are read" in refusal(folder)
    assert "only safetensors are read" in refusal(folder / file)


PICKLE = b"\x80\x04cbuiltins\nexec\n(\x8c\x21raise SystemExit('it was unpickled')tR."


def test_pickled_files_beside_safetensors_are_left_alone(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin"):
        (folder / name).write_bytes(PICKLE)
    assert load_model(str(folder), device="cpu", dtype="float32").vocab == 320


@pytest.mark.parametrize(
    ("method", "packages"),
    [
        ("gptq", "gptqmodel optimum"),
        ("awq", "gptqmodel"),
        ("bitsandbytes", "bitsandbytes"),
        ("compressed-tensors", "compressed-tensors"),
        ("hqq", "hqq"),
    ],
)
def test_quantised_without_its_library(
    method: str, packages: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "_installed", lambda _: False)
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    assert f"pip install {packages}" in refusal(changed(folder, quantization_config={"quant_method": method}))


def test_quantised_in_ways_nobody_knows(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    assert "can't be read (magic)" in refusal(changed(folder, quantization_config={"quant_method": "magic"}))
    assert "is no object" in refusal(changed(folder, quantization_config=["x"]))


def test_shards(tmp_path: Path, tiny_tokenizer: Any, whole: Path) -> None:
    folder = saved(tmp_path / "model", tiny("llama"), tiny_tokenizer, max_shard_size="60KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert torch.equal(
        load_model(str(folder), device="cpu", dtype="float32").head.weight,
        load_model(str(whole), device="cpu", dtype="float32").head.weight,
    )
    index = folder / "model.safetensors.index.json"
    kept = index.read_text()
    index.write_text(kept.replace(shards[0].name, "../" + shards[0].name))
    assert "names a file that is not in the folder" in refusal(folder)
    index.write_text(kept)
    shards[0].unlink()
    assert f"the shard {shards[0].name} is missing" in refusal(folder)


def test_weights_that_the_config_names_elsewhere(whole: Path, tmp_path: Path) -> None:
    folder = changed(Path(shutil.copytree(whole, tmp_path / "model")), transformers_weights="sub/x.safetensors")
    assert "names its weights itself" in refusal(folder)


class TestAdapters:
    def test_without_its_base(self, tmp_path: Path) -> None:
        told = refusal(adapter(tmp_path / "adapter", "/no/such/base"))
        assert "is an adapter of /no/such/base" in told and "--base-model" in told

    def test_of_another_base(self, tmp_path: Path, tiny_tokenizer: Any) -> None:
        other = saved(tmp_path / "other", tiny("gpt2"), tiny_tokenizer)
        assert "can't be loaded" in refusal(adapter(tmp_path / "adapter", str(other)))

    def test_with_weights_missing(self, tmp_path: Path, whole: Path) -> None:
        from safetensors.torch import load_file

        folder = adapter(tmp_path / "adapter", str(whole))
        weights = load_file(folder / "adapter_model.safetensors")
        weights.pop(next(iter(weights)))
        save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
        assert "does not fit its base (1 of its weights" in refusal(folder)

    def test_pickled(self, tmp_path: Path, whole: Path) -> None:
        folder = adapter(tmp_path / "adapter", str(whole))
        (folder / "adapter_model.safetensors").unlink()
        (folder / "adapter_model.bin").write_bytes(PICKLE)
        assert "only safetensors are read" in refusal(folder)

    def test_of_prompts(self, tmp_path: Path, whole: Path) -> None:
        from peft import PromptTuningConfig, get_peft_model

        config = PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
        get_peft_model(tiny("llama"), config).save_pretrained(tmp_path / "adapter")
        folder = changed(tmp_path / "adapter", "adapter_config.json", base_model_name_or_path=str(whole))
        assert "has no weights to merge" in refusal(folder)

    def test_beside_a_whole_model(self, tmp_path: Path, whole: Path) -> None:
        folder = adapter(tmp_path / "adapter", str(whole))
        shutil.copy(whole / "model.safetensors", folder)
        assert "a whole model and an adapter" in refusal(folder)

    def test_on_an_adapter(self, tmp_path: Path, whole: Path) -> None:
        first = adapter(tmp_path / "first", str(whole))
        assert "no plain model" in refusal(adapter(tmp_path / "second", str(first)))

    def test_a_base_for_what_is_no_adapter(self, whole: Path) -> None:
        with pytest.raises(BadInput, match="is no adapter"):
            identify(str(whole), device="cpu", base=str(whole))


class TestGguf:
    def test_torn(self, tmp_path: Path) -> None:
        path = tmp_path / "model.Q4_K_M.gguf"
        path.write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 64)
        assert "can't be loaded" in refusal(path)
        assert "can't be loaded" in refusal(tmp_path)

    def test_several(self, tmp_path: Path) -> None:
        for name in ("a.gguf", "b.gguf"):
            (tmp_path / name).write_bytes(b"GGUF")
        assert "holds 2 GGUF files: name one, such as a.gguf" in refusal(tmp_path)

    def test_in_parts(self, tmp_path: Path) -> None:
        for i in (1, 2):
            (tmp_path / f"m-0000{i}-of-00002.gguf").write_bytes(b"GGUF")
        assert "merge them first" in refusal(tmp_path)
        assert "merge them first" in refusal(tmp_path / "m-00001-of-00002.gguf")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_the_folder(name: str, whole: Path) -> None:
    assert "give the folder" in refusal(whole / name)
