"""A certificate through a scan: kept with a digest, shown, in no count and no clean file; the gate may ask."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.pipeline import power
from gradsentry_lib.pipeline.run import ScanResult
from gradsentry_lib.power.certificate import Certificate
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import OPEN, decision_folder, run, write

pytestmark = pytest.mark.slow

WORDS = [a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "io") for c in ("ban", "dor", "lin", "mek", "sur")]
ASKED = replace(OPEN, policy="auto", power="on")


def batch(path: Path) -> Path:
    rng = np.random.default_rng(0)
    texts = [[" ".join(rng.choice(WORDS, count)) for count in (8, 6)] for _ in range(70)]
    return write(path, [json.dumps({"prompt": asked, "response": said}) for asked, said in texts])


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "ASKED_FOR", 2)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, ScanResult]:
    """A folder with the batch and a store that holds its scan."""
    folder = tmp_path_factory.mktemp("certified")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(power, "ASKED_FOR", 2)
        return folder, run(batch(folder / "batch.jsonl"), model, Store(folder / "store"), decision=ASKED)


@pytest.fixture
def scanned(once: tuple[Path, ScanResult]) -> ScanResult:
    return once[1]


@pytest.fixture
def source(once: tuple[Path, ScanResult]) -> Path:
    return once[0] / "batch.jsonl"


@pytest.fixture
def store(once: tuple[Path, ScanResult]) -> Store:
    return Store(once[0] / "store")


def test_it_is_kept_with_its_digest_and_shown(scanned: ScanResult, store: Store) -> None:
    certificate = power.load_certificate(store, scanned.decided)
    assert certificate is not None and certificate.rows == 70 and certificate.canaries == 60
    assert {cell.rows for cell in certificate.cells} == {3, 5, 10}
    kept = decision_folder(scanned, store) / "power.json"
    assert Certificate.from_dict(json.loads(kept.read_text())) == certificate
    assert scanned.files(store)["power.json"] == kept
    page = scanned.files(store)["report.html"].read_text()
    assert "What this scan would have found" in page and certificate.sentences()[0][:40] in page
    assert verify(store.ledger).problems == ()
    whole = kept.read_text()
    kept.write_text(whole + " ")
    assert any("power.json" in problem.subject + problem.message for problem in verify(store.ledger).problems)
    kept.write_text(whole)


def test_no_copy_is_counted_or_handed_out(scanned: ScanResult, store: Store, source: Path, model: Path) -> None:
    assert scanned.published is not None
    assert (scanned.batch.read, scanned.scored.rows, scanned.decided.clean) == (70, 70, 70)
    assert scanned.published.clean.read_bytes() == source.read_bytes()
    scan = store.scores(scanned.batch.batch_key, scanned.scored.score_key)
    caches = {path.parent.name for path in store.cached_scores()}
    assert len([name for name in caches if name.endswith("-canaries")]) == 1 and scan.exists()
    again = run(source, model, store, decision=replace(ASKED, power="off"))
    assert again.decided.clean == 70 and power.load_certificate(store, again.decided) is None


def test_the_same_again_is_found_and_scores_of_copies_are_kept(
    scanned: ScanResult, store: Store, source: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decision_folder(scanned, store) / "power.json"
    digest = first.read_bytes()
    first.unlink()
    monkeypatch.setattr("gradsentry_lib.scoring.scorer.score_samples", _none_is_scored)
    again = run(source, model, store, decision=ASKED)
    assert first.read_bytes() == digest and again.decided.decision_key == scanned.decided.decision_key


def _none_is_scored(samples, *args, **more):
    raise AssertionError("scored again")


def test_a_gate_may_ask_for_it(scanned: ScanResult, store: Store, source: Path, model: Path) -> None:
    certificate = power.load_certificate(store, scanned.decided)
    assert certificate is not None
    limits = replace(OPEN.limits, min_power=min(1.0, certificate.power + 0.01))  # type: ignore[type-var]
    refused = run(source, model, store, decision=replace(ASKED, power="auto", limits=limits))
    check = next(check for check in refused.decided.gate_checks if check.name == "power")
    assert check.passed == (certificate.power == 1.0) == (refused.published is not None)
    assert "of the planted attacks of ten rows were found" in check.message
    blind = run(source, model, store, decision=replace(ASKED, power="off", limits=replace(limits, min_power=0.1)))
    assert blind.published is None
    assert any("no attacks were planted" in check.message for check in blind.decided.gate_checks)


def test_too_few_rows_have_none_and_say_so(tmp_path: Path, source: Path, model: Path, store: Store) -> None:
    small = write(tmp_path / "small.jsonl", source.read_text().splitlines()[:40])
    result = run(small, model, store, decision=ASKED)
    assert power.TOO_FEW in result.decided.remarks and power.load_certificate(store, result.decided) is None
    with open_ledger(store.ledger) as ledger:
        assert "certificate" not in ledger.decision(result.batch.batch_key).settings
