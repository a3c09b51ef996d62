"""The method's knobs and the ways to name a model, through a whole scan: recorded, shown, and never silent."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradsentry_assets.resources import ModelResource
from gradsentry_lib import cli
from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.errors import BadInput
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.pipeline.run import ModelChoice, ScanResult, scan
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.store import Scan, open_ledger
from gradsentry_lib.store.paths import Store
from tests.scoring.architectures import tiny
from tests.scoring.checkpoints import adapter, saved

pytestmark = pytest.mark.slow

LAYER = "model.layers.1.mlp.down_proj"
PAPER = DecisionConfig(
    "paper", limits=GateLimits(max_flagged=1, warn_flagged=1), limits_by="Ada", limits_reason="a test"
)
KNOBS = ScoringConfig(k=8, crop=2, module=LAYER)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"What is {i}?", "response": f"It is {i} and {'more ' * (i % 4)}."} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scanned(source: Path, model: Path, store: Store, **told: object) -> ScanResult:
    return scan(str(source), store, model=ModelChoice(str(model), device="cpu", dtype="float32"), **told)


def settings_of(store: Store, result: ScanResult) -> dict[str, object]:
    with open_ledger(store.ledger) as ledger:
        return dict(ledger.get(Scan, result.scored.scan).scoring)


def test_knobs_are_recorded_and_shown(source: Path, model: Path, store: Store) -> None:
    usual = scanned(source, model, store, decision=PAPER)
    other = scanned(source, model, store, decision=PAPER, scoring=KNOBS)
    assert "module" not in settings_of(store, usual)
    told = settings_of(store, other)
    assert (told["module"], told["k"], told["crop"]) == (LAYER, 8, 2)
    assert usual.scored.score_key != other.scored.score_key
    assert other.scored.computed == 12 and other.scored.unscored == 0
    assert not any("entropy with" in remark for remark in usual.decided.remarks)
    assert f"entropy with module {LAYER}, k 8, crop 2: " in " ".join(other.decided.remarks)
    assert other.published is not None
    page = (other.published.folder / "report.html").read_text()
    assert LAYER in page and "entropy with module" in page


def test_a_policy_that_does_not_look_at_the_entropy_says_so(source: Path, model: Path, store: Store) -> None:
    """It judges all the same: sketches and NLL are the output projection's, whatever the module."""
    result = scanned(source, model, store, decision=DecisionConfig("auto"), scoring=KNOBS)
    assert "which the policy auto ignores" in " ".join(result.decided.remarks)
    assert result.decided.clean + result.decided.flagged == 12


def test_a_layer_that_is_not_there(source: Path, model: Path, store: Store) -> None:
    with pytest.raises(BadInput, match="no linear layer 'mlp'"):
        scanned(source, model, store, scoring=ScoringConfig(module="mlp"))


def test_on_the_command_line_and_in_dagster(source: Path, model: Path, tmp_path: Path) -> None:
    options = "--module", LAYER, "--k", "8", "--crop", "2", "--policy", "paper", "--threshold", "0.99"
    machine = "--model", str(model), "--dtype", "float32", "--device", "cpu"
    done = CliRunner().invoke(cli.app, ["scan", str(source), "--out", str(tmp_path / "out"), *machine, *options])
    assert done.exit_code == 0, done.output
    assert "entropy with module" in " ".join(done.output.split())
    resource = ModelResource(model=str(model), dtype="float32", module=LAYER, k=8, crop=2)
    assert resource.scoring == KNOBS
    assert ModelResource().scoring == ScoringConfig()


def test_an_adapter_with_its_base_elsewhere(source: Path, store: Store, tmp_path: Path, tiny_tokenizer: object) -> None:
    base = saved(tmp_path / "base", tiny("llama"), tiny_tokenizer)
    lost = adapter(tmp_path / "adapter", "someone/gone")
    with pytest.raises(BadInput, match="is an adapter of someone/gone"):
        scanned(source, lost, store)
    choice = ModelChoice(str(lost), device="cpu", dtype="float32", base=str(base))
    result = scan(str(source), store, model=choice, decision=PAPER)
    assert (result.scored.computed, result.scored.unscored) == (12, 0)
    resource = ModelResource(model=str(lost), base_model=str(base), device="cpu", dtype="float32")
    assert resource.identify().fingerprint == result.scored.fingerprint
