"""Each example from beginning to end, with a tiny random model where it takes the embedded one."""

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from examples.run import EXAMPLES, main, run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADSENTRY_MODEL", str(tiny_model()))
    monkeypatch.setenv("GRADSENTRY_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "example"


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs(name: str, folder: Path) -> None:
    run(name, folder)
    if name == "dagster":
        kept = (folder / "trained_on.csv").read_text().splitlines()
        assert kept[0] == "question,answer" and len(list(folder.glob(".gradsentry/batches/collected-*/clean/*"))) == 1
    if name == "warehouse":
        with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as kept:
            ((collected, clean),) = kept.execute(
                "SELECT (SELECT count(*) FROM main.collected), (SELECT count(*) FROM main.clean_dataset)"
            ).fetchall()
        assert collected == 150 and 0 < clean < 150
    if name == "notebook":
        told = json.loads((folder / "scan.ipynb").read_text())
        shown = [out for cell in told["cells"] for out in cell.get("outputs", []) if "text/html" in out.get("data", {})]
        assert any("GradSentry" in "".join(out["data"]["text/html"]) for out in shown)
        assert (folder / "report.html").exists()
    if name == "trl":
        assert (folder / "adapter" / "adapter_model.safetensors").exists()
        assert (folder / "adapter" / "gradsentry.html").exists()
    if name == "ray":
        assert len(list(folder.glob("results/questions-*/clean.jsonl"))) == 1


def test_all_run_unless_some_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    for name in EXAMPLES:
        monkeypatch.setitem(EXAMPLES, name, lambda folder: ran.append(folder.name))
    for named in ([], ["ray"]):
        monkeypatch.setattr("sys.argv", ["run", *named, "--folder", str(tmp_path)])
        assert main() == 0
    assert ran == [*EXAMPLES, "ray"]
    monkeypatch.setattr("sys.argv", ["run", "nothing"])
    with pytest.raises(SystemExit):
        main()
