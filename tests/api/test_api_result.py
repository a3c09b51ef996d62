"""The result: gate, files, notebook, store; the model that stays; the documented examples."""

import doctest
import gc
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gradsentry_lib as gs
from gradsentry_lib.api import scan as scan_function
from gradsentry_lib.pipeline import run
from gradsentry_lib.scoring import model as scoring_model
from gradsentry_lib.settings import OPTIONS
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store
from tests.api.conftest import PAPER, ROWS


def test_a_refused_batch_has_no_clean_part(model: gs.Scorer) -> None:
    result = gs.scan(ROWS, model=model, **PAPER | {"threshold": 0.0})
    assert not result.gate and result.gate.status == "failed"
    assert [check.name for check in result.gate.failed] == ["flagged_fraction"]
    with pytest.raises(gs.GateFailed, match=r"the gate refused this batch: .*flagged"):
        _ = result.clean
    assert result.quarantine == ROWS  # it is in memory anyway
    assert result.batch in result.report().read_text()
    assert not [name for name in result.files if name.startswith("clean")]


def test_without_a_store_nothing_is_left(model: gs.Scorer, tmp_path: Path) -> None:
    result = gs.scan(ROWS, model=model, **PAPER)
    home = result.store.home
    assert home.exists() and not (tmp_path / "store").exists()  # where GRADSENTRY_HOME points to
    del result
    gc.collect()
    assert not home.exists()


def test_a_failed_scan_leaves_no_store(model: gs.Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    with pytest.raises(gs.BadInput):
        gs.scan([{"a": 1}], model=model)
    assert list((tmp_path / "t").iterdir()) == []


def test_with_a_store_the_ledger_knows_and_rows_are_scored_once(model: gs.Scorer, tmp_path: Path) -> None:
    first = gs.scan(ROWS, model=model, store=tmp_path / "kept", name="march", **PAPER)
    again = gs.scan(list(ROWS), model=model, store=tmp_path / "kept", name="march", **PAPER)
    assert (first.made.scored.computed, again.made.scored.computed) == (10, 0)
    assert first.batch == again.batch and first.batch.startswith("march-")
    with open_ledger(Store(tmp_path / "kept").ledger, read_only=True) as ledger:
        assert ledger.batch(first.batch).rows_read == 10


@pytest.mark.slow
def test_the_command_comes_to_the_same_verdicts(model: gs.Scorer, tmp_path: Path) -> None:
    result = gs.scan(ROWS, model=model, store=tmp_path / "a", **PAPER)
    made = run.scan(result.made.batch.source, Store(tmp_path / "b"), model=model.choice, decision=None)
    assert made.decided.policy != result.made.decided.policy
    assert made.batch.samples_sha256 == result.made.batch.samples_sha256
    assert made.scored.scores_sha256 == result.made.scored.scores_sha256


def test_a_scorer_loads_once_and_frees(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real = scoring_model.load_model
    monkeypatch.setattr(scoring_model, "load_model", lambda *a, **k: loads.append(1) or real(*a, **k))
    with gs.scorer(str(tiny_model()), device="cpu", dtype="float32") as kept:
        assert not kept.loaded
        kept.scan(ROWS, **PAPER)
        kept.scan(ROWS[:5], **PAPER)
        assert kept.loaded and len(loads) == 1
    assert not kept.loaded
    with pytest.raises(gs.BadInput, match="no such folder"):
        gs.scorer("./nowhere").scan(ROWS)


def test_progress_is_told(model: gs.Scorer) -> None:
    told = []
    gs.scan(ROWS, model=model, **PAPER | {"progress": told.append})
    assert (told[-1].done, told[-1].total) == (10, 10)


def test_a_notebook_shows_it_and_runs_nothing_of_it(model: gs.Scorer) -> None:
    evil = {"prompt": "<script>alert(1)</script>", "response": "<img src=x onerror=alert(1)> six seven eight " * 3}
    result = gs.scan([*ROWS, evil], model=model, name="<b>x", **PAPER)
    page = result._repr_html_()
    assert "gate passed" in page and "above threshold" in page
    assert "<script" not in page and "<img" not in page and "<b>x" not in page
    assert repr(result).startswith("<Result b-x-")


def test_files_are_saved_to_a_folder_and_never_over_others(model: gs.Scorer, tmp_path: Path) -> None:
    result = gs.scan(ROWS, model=model, **PAPER)
    result.save(tmp_path / "out")
    assert {"clean.parquet", "clean.jsonl"} & {path.name for path in (tmp_path / "out").iterdir()}
    assert (tmp_path / "out" / "report.html").exists()
    result.save(tmp_path / "out")  # its own
    (tmp_path / "out" / "verdicts.parquet").write_text("mine")
    with pytest.raises(gs.BadInput, match=r"verdicts.parquet.*overwrite"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", overwrite=True)
    assert result.report(tmp_path / "page.html").read_bytes() == result.report().read_bytes()


@pytest.mark.parametrize("name", ["scan", "scorer"])
def test_the_documented_examples_are_so(name: str, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADSENTRY_MODEL", str(tiny_model()))
    module = sys.modules[f"gradsentry_lib.api.{name}"]
    assert doctest.testmod(module).failed == 0
    assert doctest.DocTestFinder().find(getattr(module, name))[0].examples
    assert scan_function is gs.scan


def test_every_option_of_a_scan_is_an_argument() -> None:
    told = {*inspect.signature(gs.scan).parameters, *inspect.signature(gs.scorer).parameters}
    missing = {
        option.name
        for option in OPTIONS.values()
        if option.group in ("model", "judging", "reading") and "command" in option.places
    } - told
    assert not missing


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, gradsentry_lib as gs; assert 'scan' in dir(gs); gs.scan; gs.BadInput;"
        "heavy = {'torch', 'transformers', 'datasets', 'dagster', 'pandas', 'polars', 'great_expectations', 'ray'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
