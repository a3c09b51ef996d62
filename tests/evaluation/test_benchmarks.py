"""The whole benchmark at its smallest, from command to report."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_quick_benchmark_writes_results_and_a_report(small_model, tmp_path):
    model = tmp_path / "model"
    small_model.model.save_pretrained(model)
    small_model.tokenizer.save_pretrained(model)
    studies = ["table2", "released", "table8", "figure4", "figure5", "table9", "figure6", "sweeps", "table7", "table1"]
    studies.append("attacker")
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.evaluation", "--quick", "--rows", "40"]
    options = ["--data", "none", "--out", str(tmp_path), "--model", str(model), "--only", ",".join(studies)]
    environment = {"GRADSENTRY_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = {name: json.loads((tmp_path / "evaluation" / f"{name}.json").read_text()) for name in studies}
    assert "is not there" in results["released"]["skipped"]
    assert all(result["lines"] for name, result in results.items() if name != "released")
    assert [line["attack"] for line in results["table2"]["lines"]] == ["badnets", "addsent", "cba", "style"]
    assert all(line["recall"] is not None for line in results["figure4"]["lines"])
    assert {"undefended", "clean rows only", "CleanGen"} <= {line["defence"] for line in results["table1"]["lines"]}
    assert any(line["module"].endswith("LoRA adapter") for line in results["table7"]["lines"])
    assert [line["axis"] for line in results["attacker"]["lines"]] == ["none", "wording"]
    page = (tmp_path / "evaluation.md").read_text()
    assert "Skipped" in page and "confounded" in page and page.count("*Why ours differ:*") == len(studies) - 1
    for picture in ("figure4", "figure6", "table1"):
        assert (tmp_path / "evaluation" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(evaluation/{picture}.png)" in page
