"""Self-tests are made once for a model, versions and processor, and nothing is taken that was not tried."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from gradsentry_lib import cli, settings
from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring import forward, model, tested
from gradsentry_lib.scoring.identity import ModelIdentity, identify
from gradsentry_lib.scoring.model import load_model
from gradsentry_lib.scoring.plain_model import PlainModel, plain_config, plain_model
from gradsentry_lib.scoring.scorer import score_samples

from .architectures import CONFIGS, tiny
from .checkpoints import changed, saved

SAMPLES = [
    Sample(i, i + 1, "prompt", (Turn("prompt", f"A question, number {i}?\n"), Turn("response", "word " * (1 + i % 7))))
    for i in range(12)
]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADSENTRY_TESTED", str(tmp_path / "tested"))


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is tested: a line for every comparison with the reference."""
    found: list[str] = []
    exact, project = forward.is_exact, model.make_projection
    monkeypatch.setattr(forward, "is_exact", lambda *given: (found.append("exact"), exact(*given))[1])
    monkeypatch.setattr(model, "make_projection", lambda *given: (found.append("projection"), project(*given))[1])
    return found


def of(folder: Path, dtype: str = "float32") -> ModelIdentity:
    return identify(str(folder), device="cpu", dtype=dtype)


def result_file() -> Path:
    (path,) = settings.tested().glob("*.json")
    return path


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_combination_is_tested_once(tiny_model: Callable[..., Path], tries: list[str]) -> None:
    folder = tiny_model()
    load_model(of(folder))
    assert tries[:3] == ["exact", "projection", "exact"]
    tries.clear()
    assert isinstance(load_model(of(folder)).model, PlainModel)
    assert not isinstance(load_model(of(folder), whole=True).model, PlainModel)
    assert tries == []


@pytest.mark.parametrize("what", ["dtype", "weights", "versions", "processor", "variables"])
def test_another_combination_is_tested_before_its_first_short_cut(
    tiny_model: Callable[..., Path], tries: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    folder = copy_of(tiny_model(), tmp_path / "copy")
    load_model(of(folder))
    tries.clear()
    dtype = "bfloat16" if what == "dtype" else "float32"
    if what == "weights":
        weights = load_file(folder / "model.safetensors")
        save_file({name: part + 0.01 for name, part in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    if what == "versions":
        monkeypatch.setattr(tested, "software", lambda: {"torch": "99"})
    if what == "processor":
        monkeypatch.setattr(tested, "processor", lambda device: {"kind": device, "name": "another"})
    if what == "variables":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not isinstance(load_model(of(folder, dtype)).model, PlainModel)
    assert "exact" in tries


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def edited(path: Path) -> None:
    told = json.loads(path.read_text())
    told["found"]["price"] *= 2
    path.write_text(json.dumps(told))


def of_another(path: Path) -> None:
    """Whole and with the digest of its content, but of another model than its name says."""
    told = json.loads(path.read_text())
    told["combination"]["model"] = "0" * 64
    del told["sha256"]
    path.write_text(json.dumps(told | {"sha256": sha256_json(told)}))


def no_result(path: Path) -> None:
    """The written-out model where rows can't even be laid: nothing that a test could have found."""
    told = json.loads(path.read_text())
    told["found"]["packed"] = False
    del told["sha256"]
    path.write_text(json.dumps(told | {"sha256": sha256_json(told)}))


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


def in_an_open_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def a_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


FORGERIES = (torn, edited, of_another, no_result, open_to_others, in_an_open_folder, a_link)


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_result_that_is_not_to_be_believed_is_made_again(
    tiny_model: Callable[..., Path], tries: list[str], forge: Callable[[Path], None]
) -> None:
    folder = tiny_model()
    load_model(of(folder))
    tries.clear()
    forge(result_file())
    load_model(of(folder))
    assert "exact" in tries


def test_where_nothing_can_be_kept_it_is_tested_every_time(
    tiny_model: Callable[..., Path], tries: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRADSENTRY_TESTED", str(tmp_path / "file" / "below"))
    for _ in range(2):
        tries.clear()
        load_model(of(tiny_model()))
        assert "exact" in tries


@pytest.mark.parametrize("name", ["llama", "llama-tied", "mistral", "qwen3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_written_out_model_gives_the_same_scores_to_the_bit(
    name: str, dtype: str, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    identity = of(saved(tmp_path / "model", tiny(name), tiny_tokenizer), dtype)
    full, plain = load_model(identity), load_model(identity)
    assert isinstance(plain.model, PlainModel) and not isinstance(full.model, PlainModel)
    assert (plain.context, plain.vocab, plain.past_limit) == (full.context, full.vocab, full.past_limit)
    for given in (SAMPLES, SAMPLES[:1]):  # with prefixes shared, and alone
        assert score_samples(given, plain) == score_samples(given, full)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_biases_are_written_out(dtype: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Qwen 2; transformers puts a tokenizer of another kind beside this one, so that it is never scored this way."""
    model_of_them = tiny("qwen2")
    with torch.no_grad():
        for name, part in model_of_them.named_parameters():
            if name.endswith("bias"):
                part.normal_()
    identity = of(saved(tmp_path / "model", model_of_them, tiny_tokenizer), dtype)
    made = load_model(identity)
    assert forward.same_states(plain_model(identity).body, made.body, made.vocab)
    assert not isinstance(load_model(identity).model, PlainModel)


@pytest.mark.parametrize("name", ["mistral-sliding", "gemma2", "gpt2", "mixtral", "gpt-neox"])
def test_other_architectures_keep_their_own(name: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    identity = of(saved(tmp_path / "model", tiny(name), tiny_tokenizer))
    assert name in CONFIGS and plain_config(identity) is None
    first, second = load_model(identity), load_model(identity)
    assert not isinstance(second.model, PlainModel)
    assert second.past_limit == first.past_limit
    assert forward.is_packed(second.body) == forward.is_packed(first.body)
    assert torch.equal(second.projection.usual, first.projection.usual)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {"hidden_act": "gelu"},
        {"attention_bias": True},  # its biases are not in the files: transformers refuses it, and so does this
        {"rms_norm_eps": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_not_written_out_is_not_taken_for_it(
    change: dict[str, Any], tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = changed(copy_of(tiny_model(), tmp_path / "copy"), **change)
    if plain_config(of(folder)) is not None:
        with pytest.raises(Exception, match="missing"):
            load_model(of(folder))


def test_another_tokenizer_keeps_its_own(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    """A special token that only transformers adds to what tokenizer.json holds."""
    folder = changed(copy_of(tiny_model(), tmp_path / "copy"), "tokenizer_config.json", pad_token="<pad>")
    for _ in range(2):
        assert not isinstance(load_model(of(folder)).model, PlainModel)


def test_a_layer_needs_the_model_as_a_whole(tiny_model: Callable[..., Path]) -> None:
    from gradsentry_lib.errors import BadInput
    from gradsentry_lib.scoring.config import ScoringConfig

    identity = of(tiny_model())
    load_model(identity)
    with pytest.raises(BadInput, match="whole=True"):
        score_samples(SAMPLES, load_model(identity), ScoringConfig(module="down_proj"))


def test_doctor_shows_what_was_tested_and_what_was_refused(
    tiny_model: Callable[..., Path], tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    ask = lambda *given: CliRunner().invoke(cli.app, ["doctor", *given]).output  # noqa: E731
    assert "no self-test was kept yet" in ask()
    load_model(of(tiny_model()))
    mamba = replace(of(saved(tmp_path / "mamba", tiny("mamba"), tiny_tokenizer)), name="[bold]mamba")
    load_model(mamba)
    told = ask()
    assert f"torch         {torch.__version__}" in told
    for said in ("same to the bit", "refused: padded", "refused: transformers' own", "[bold]mamba"):
        assert said in told
    monkeypatch.setenv("TORCH_OTHER", "1")
    assert "no: other variables" in ask()
    next(settings.tested().glob("*.json")).chmod(0o666)
    assert "is not believed" in ask()


def test_doctor_tests_on_demand(tiny_model: Callable[..., Path], tries: list[str]) -> None:
    for _ in range(2):
        tries.clear()
        command = ["--test", "--model", str(tiny_model()), "--device", "cpu", "--dtype", "float32"]
        assert CliRunner().invoke(cli.app, ["doctor", *command]).exit_code == 0
        assert "exact" in tries
