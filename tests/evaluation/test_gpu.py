"""The benchmark for graphics cards, on a CPU: that it runs, and that its rows are what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from gradsentry_lib.scoring.encoding import encode

TINY = {
    "model_type": "llama", "vocab_size": 4000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.mark.slow
def test_every_figure_is_made_without_a_card(tmp_path: Path, embedded_model: Path) -> None:
    shape = tmp_path / "tiny.json"
    shape.write_text(json.dumps(TINY))
    told = gpu.arguments(["--shapes", str(shape), "--device", "cpu", "--dtype", "float32", "--rows", "12", "--quick"])
    line = gpu.measure(shape, told)
    assert line["shape"] == "tiny" and line["tokens a pass"] > 0
    assert all(line[name] > 0 for name in ("floor ms", "entropy ms", "all ms", "entropy/floor", "all/floor"))
    model = gpu.random_model(shape, "cpu", "float32")
    samples = gpu.rows(12, model)
    assert {len(encode(sample, model.tokenizer, model.context).ids) for sample in samples} == {gpu.TOKENS}
    assert len({sample.sample_id for sample in samples}) == 12


def test_without_a_card_the_results_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr(gpu, "section", lambda *told: written.append(told))
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu", "--write"])
    gpu.main()
    assert written == [("gpu", "GPU, by the command", [gpu.NONE], False)]
