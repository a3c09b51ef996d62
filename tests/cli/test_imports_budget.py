"""What a scan imports, counted in modules: the larger part of what twenty rows cost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradsentry_lib.pipeline.run import ModelChoice, scan
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, write

TOLD = "import sys, json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
NEVER = {
    *("pandas", "matplotlib", "scipy.signal", "sklearn", "datasets", "ray", "dagster"),
    *("great_expectations", "sympy", "accelerate", "transformers", "torch._dynamo", "torch._inductor", "peft", "boto3"),
}
FIRST, AGAIN = 2500, 850  # modules; with scipy.stats, which the declared test asks for tails: some 500 of the first


def imported(home: Path, source: Path, model: Path) -> list[str]:
    """The modules that the command has imported when it ends."""
    program = f"import atexit; atexit.register(lambda: exec({TOLD!r})); from gradsentry_lib.cli import main; main()"
    told = {"GRADSENTRY_HOME": str(home), "OMP_NUM_THREADS": "1"}
    arguments = ["scan", str(source), "--out", str(home / "out"), "--model", str(model), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=os.environ | told, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.strip().splitlines()[-1])


@pytest.mark.slow
def test_a_scan_imports_what_it_needs(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    source, model = write(tmp_path / "rows.jsonl", lines(range(20))), tiny_model()
    choice = ModelChoice(str(model), device="cpu")
    scan(str(source), Store(tmp_path / "one"), model=choice)  # makes the self-tests, with transformers
    first = imported(tmp_path / "two", source, model)
    assert set(first) & NEVER == set()
    assert "torch" in first and len(first) <= FIRST
    again = imported(tmp_path / "two", source, model)
    assert set(again) & (NEVER | {"torch", "tokenizers", "pydantic", "jinja2"}) == set()
    assert len(again) <= AGAIN
