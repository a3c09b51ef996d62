"""Names and decisions of policies that are gone: still taken, shown and audited, and said in one line."""

from dataclasses import replace
from pathlib import Path

import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.detection import policies
from gradsentry_lib.pipeline import decide
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.settings import FORMER_POLICIES
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import OPEN, lines, run, write


@pytest.mark.parametrize("former", FORMER_POLICIES)
def test_a_former_name_means_the_policy_that_took_its_place(former: str) -> None:
    told, now = DecisionConfig(former), DecisionConfig()
    assert told.to_dict() == now.to_dict()  # the same decision, found again
    assert f"the policy {former!r} of earlier versions is gone" in told.note and now.note == ""


@pytest.mark.slow
def test_the_scan_says_so(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "batch.jsonl", lines(range(40)))
    result = run(source, model, store, decision=replace(OPEN, policy="any"))
    assert result.decided.policy == "auto"
    assert "the policy 'any' of earlier versions is gone: judged by 'auto' in its place" in result.decided.remarks


@pytest.mark.slow
def test_a_decision_of_a_policy_that_is_gone_is_noted_not_suspected(
    tmp_path: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "RULES", policies.DECLARED - 1)
    source = write(tmp_path / "batch.jsonl", lines(range(40)))
    key = run(source, model, store, decision=replace(OPEN, policy="auto")).batch.batch_key
    report = verify(store.ledger)
    assert report.problems == ()
    said = [finding.message for finding in report.findings if "a policy that is gone" in finding.message]
    assert said == ["made by a policy that is gone ('auto', rules 4): this version can't derive them again"]
    with open_ledger(store.ledger) as ledger:
        assert ledger.decision(key).settings["rules"] == 4
