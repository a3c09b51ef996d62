"""A batch's current decision is the one asked for last, also where somebody goes back to an earlier one."""

from dataclasses import replace
from pathlib import Path

import pytest

from gradsentry_lib.audit.facts import audit_batch
from gradsentry_lib.audit.verify import verify
from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.pipeline.decide import DecisionConfig, decide
from gradsentry_lib.pipeline.decided import Decided, load_decided
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.pipeline.publish import gate_of, publish
from gradsentry_lib.pipeline.score import Scored
from gradsentry_lib.store import Decision, GateResult, Ledger, Output, open_ledger
from gradsentry_lib.store.attestation import attestations
from gradsentry_lib.store.paths import Store
from tests.store import builder

A, B = DecisionConfig("paper"), DecisionConfig("paper", ThresholdConfig(fixed=0.9))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def alpha(store: Store) -> tuple[Ingested, Scored]:
    batch = builder.read_in(store, "alpha")
    return batch, builder.score(store, batch)


@pytest.mark.slow
def test_back_to_an_earlier_decision(store: Store, alpha: tuple[Ingested, Scored]) -> None:
    batch, scored = alpha

    def ask(config: DecisionConfig) -> Decided:
        decided = decide(batch, scored, store, builder.RUN, config)
        publish(batch, decided, store, builder.RUN)
        return decided

    first, second, third = ask(A), ask(B), ask(A)
    assert first.number < second.number < third.number
    assert replace(third, number=first.number) == first != second
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert ledger.decision(batch.batch_key).seq == third.number
        assert [found.seq for found in ledger.find(Decision)] == [first.number, second.number, third.number]
        latest = ledger.connection.execute("SELECT DISTINCT decision FROM removed_rows WHERE latest").fetchall()
        assert latest == [(third.number,)]
        assert len(attestations(ledger, batch.batch_key)) == 3
    shown = audit_batch(store.ledger, batch.batch_key).decisions[-1]
    assert (shown.decision.seq, shown.threshold.method, shown.gate.status) == (third.number, "valley", "passed")
    assert {fact.output.kind for fact in shown.outputs} >= {"clean", "attestation", "threshold"}
    assert load_decided(store, batch.batch_key, first.decision_key) == third
    assert verify(store.ledger).problems == ()

    with open_ledger(store.ledger, read_only=True) as ledger:
        before = ledger.head()
    assert decide(batch, scored, store, builder.RUN, A) == third
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert ledger.head() == before  # asked for again at once: nothing is new


def test_the_gates_last_answer_comes_along(store: Store, alpha: tuple[Ingested, Scored]) -> None:
    """A second judge's no to these very verdicts is not forgotten on the way."""
    first = decide(*alpha, store, builder.RUN, A)
    with open_ledger(store.ledger) as ledger:
        (passed,) = ledger.find(GateResult)
        failing = ({**first.checks[0], "passed": False}, *first.checks[1:])
        ledger.record_gate(replace(passed, passed=False, checks=failing))
    decide(*alpha, store, builder.RUN, B)
    third = decide(*alpha, store, builder.RUN, A)
    assert third.number > first.number
    assert gate_of(third, store).status == "failed"
    assert verify(store.ledger).problems == ()


def test_a_store_of_an_earlier_version_holds(
    store: Store, monkeypatch: pytest.MonkeyPatch, alpha: tuple[Ingested, Scored]
) -> None:
    """One whose ledger has no digests of the files beside the verdicts; they come in with the next scan."""
    record = Ledger.record_output

    def as_before(ledger: Ledger, output: Output) -> int:
        kept = output.kind in ("clean", "quarantine", "report", "attestation", "signature")
        return record(ledger, output) if kept else 0

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record_output", as_before)
        batch = builder.read_in(store, "old", start=200)
        scored = builder.score(store, batch)
        old, _ = builder.decide_and_publish(store, batch, scored)
    assert verify(store.ledger).problems == ()
    assert load_decided(store, batch.batch_key, old.decision_key) == old
    again = builder.read_in(store, "old", start=200)
    assert again == batch
    new, _ = builder.decide_and_publish(store, again, scored)
    assert new.number == old.number  # nothing is judged again for it
    assert verify(store.ledger).problems == ()
    with open_ledger(store.ledger, read_only=True) as ledger:
        kinds = {output.kind for output in ledger.find(Output, batch_key=batch.batch_key)}
    assert kinds >= {"threshold", "plot", "groups"}
