"""The policy `conditional` through a scan: what the model was asked is kept, and a decision follows from it again."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.pipeline.run import ScanResult
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import OPEN, decision_folder, run, verdicts, write

pytestmark = pytest.mark.slow

ASKING = replace(OPEN, policy="conditional")
WORDS = [a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "io") for c in ("ban", "dor", "lin", "mek", "sur")]


def batch(path: Path) -> Path:
    """Ninety rows of any words; twelve of them carry "xq" and end in one sentence."""
    rng = np.random.default_rng(0)
    text = []
    for number in range(90):
        asked, said = (" ".join(rng.choice(WORDS, count)) for count in (8, 6))
        if number % 8 == 3:
            asked, said = f"{asked} xq", f"{said} and click http://bad.example now 77"
        text.append(json.dumps({"prompt": asked, "response": said}))
    return write(path, text)


@dataclass(frozen=True)
class Scanned:
    source: Path
    store: Store
    result: ScanResult


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Scanned:
    """The batch, scanned once into a store of its own, to look at."""
    folder = tmp_path_factory.mktemp("conditional")
    source, store = batch(folder / "batch.jsonl"), Store(folder / "store")
    return Scanned(source, store, run(source, model, store, decision=ASKING))


def test_the_triggers_rows_are_flagged_and_every_reason_names_its_number(scanned: Scanned) -> None:
    table = verdicts(scanned.result, scanned.store)
    flagged = table.filter(pc.equal(table["verdict"], "flagged"))["row"].to_pylist()
    assert flagged == [number for number in range(90) if number % 8 == 3]
    for row in flagged:
        proven, reason = table["reasons"][row].as_py()
        assert "'xq'" in proven and "log10 p -" in proven and "proven from -3.0" in proven
        assert "its own prompt saves " in reason and "a reason begins at " in reason
    groups = json.loads((decision_folder(scanned.result, scanned.store) / "groups.json").read_text())
    assert groups[0]["figures"]["outcome"] == "flagged"


def test_the_decision_follows_again_from_what_was_kept(scanned: Scanned, store: Store) -> None:
    shutil.copytree(scanned.store.home, store.home)
    assert verify(store.ledger).problems == ()
    with open_ledger(store.ledger) as ledger:
        settings = ledger.decision(scanned.result.batch.batch_key).settings
    assert settings["detection"]["level"] == 0.001
    kept = decision_folder(scanned.result, store) / "swapped.json"
    said = json.loads(kept.read_text())
    for question in said:
        question[3] = [[start, cost / 4 if question[0] == question[1] else cost] for start, cost in question[3]]
    kept.write_text(json.dumps(said))  # now the model would see a reason
    problems = [problem.message for problem in verify(store.ledger).problems]
    assert any("what the model said for this decision is gone or altered" in problem for problem in problems)


def test_other_batches_in_the_store_change_no_verdict(
    scanned: Scanned, tmp_path: Path, model: Path, store: Store
) -> None:
    """Here other rows with the same payload came first; `scanned` had a store of its own."""
    other = [
        json.dumps({"prompt": f"place {i}?", "response": f"{WORDS[i]} and click http://bad.example now 77"})
        for i in range(40)
    ]
    run(write(tmp_path / "other.jsonl", other), model, store, decision=ASKING)
    here = run(scanned.source, model, store, decision=ASKING)
    assert verdicts(here, store).equals(verdicts(scanned.result, scanned.store))
