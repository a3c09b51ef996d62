"""Limits: the store's own, stricter ones for the asking, looser ones by name. Acceptances: of just what was there."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.errors import BadInput, GateFailed
from gradsentry_lib.pipeline.decide import DecisionConfig, decide
from gradsentry_lib.pipeline.decided import Decided
from gradsentry_lib.pipeline.ingest import ingest
from gradsentry_lib.pipeline.publish import gate_of
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.store import GateResult, LimitPolicy, Override, open_ledger
from gradsentry_lib.store.paths import Store
from tests.audit.test_audit_command import typed  # noqa: F401
from tests.store import builder
from tests.store.made import Made
from tests.typed import Done, gradsentry

LOOSE = DecisionConfig("paper", limits={"max_flagged": 0.9})
SIGNED = replace(LOOSE, limits_by="Ada", limits_reason="a set made for this")


def last_gate(store: Store, batch_key: str) -> GateResult:
    with open_ledger(store.ledger, read_only=True) as ledger:
        return ledger.find(GateResult, batch_key=batch_key)[-1]


@pytest.fixture
def judged(copied: Path, made: Made) -> Callable[[DecisionConfig], Decided]:
    """Judges batch alpha once more, in a copy of the store."""
    return lambda config: decide(made.alpha, made.scored, Store(copied), builder.RUN, config)


def test_looser_limits_need_a_name_and_a_reason(copied: Path, made: Made, judged: Callable[..., Decided]) -> None:
    for unsigned in (LOOSE, replace(LOOSE, limits_by="Ada"), replace(LOOSE, limits_by=" ", limits_reason=" ")):
        with pytest.raises(BadInput, match=r"max_flagged 0.9 \(the store's own: 0.5\).*--by NAME --reason TEXT"):
            judged(unsigned)
    decided = judged(SIGNED)
    found = last_gate(Store(copied), made.alpha.batch_key)
    assert found.loosened is not None and found.loosened["made_by"] == "Ada"
    assert found.loosened["own"]["max_flagged"] == 0.5 and found.limits["max_flagged"] == 0.9
    assert any("loosened by Ada (a set made for this): max_flagged 0.9" in told for told in decided.remarks)
    assert verify(copied / "ledger.duckdb").problems == ()


def test_stricter_limits_and_the_stores_own_need_nobody(copied: Path, made: Made, judged: Callable) -> None:
    judged(DecisionConfig("paper", limits={"max_flagged": 0.4, "max_rejected": None}))
    found = last_gate(Store(copied), made.alpha.batch_key)
    assert found.loosened is None and found.limits["max_flagged"] == 0.4 and found.limits["max_rejected"] == 0.05
    judged(replace(SIGNED, limits={"max_flagged": 0.3}))
    assert last_gate(Store(copied), made.alpha.batch_key).loosened is None  # a name that nothing needs is not kept


def test_a_store_has_limits_of_its_own(copied: Path, made: Made, judged: Callable, typed: Callable[..., Done]) -> None:  # noqa: F811
    for unsigned in (("--set", "max_flagged=0.1"), ("--set", "max_flagged=0.1", "--by", "Bo")):
        refused = typed(copied, "gate", "limits", *unsigned)
        assert refused.code == 2 and "a name and a reason" in refused.err
    signed = ("--by", "Bo", "--reason", "our sets are clean")
    assert typed(copied, "gate", "limits", "--set", "max-flagged=0.1", *signed).code == 0
    shown = typed(copied, "gate", "limits")
    assert "max_flagged 0.1" in shown.out and "Bo: our sets are clean" in shown.out
    assert typed(copied, "gate", "limits", "--json").json["limits"]["max_flagged"] == 0.1

    assert not judged(DecisionConfig("paper")).gate_passed  # a fifth of the rows is flagged
    with pytest.raises(BadInput, match=r"max_flagged 0.5 \(the store's own: 0.1\)"):
        judged(DecisionConfig("paper", limits=GateLimits()))
    for wrong in ("max_flagged=2", "max_flagged=x", "max_flagged", "flagged=0.1", "max_flagged=nan"):
        assert typed(copied, "gate", "limits", "--set", wrong, *signed).code == 2
    assert typed(copied, "gate", "limits", "--by", "Bo").code == 2
    assert verify(copied / "ledger.duckdb").problems == ()


def test_a_verification_misses_the_name(copied: Path, made: Made, judged: Callable) -> None:
    judged(SIGNED)
    result = last_gate(Store(copied), made.alpha.batch_key)
    with open_ledger(copied / "ledger.duckdb") as ledger:
        ledger.record_gate(replace(result, loosened=None))
    assert any(
        "looser than the store's own (max_flagged)" in p.message for p in verify(copied / "ledger.duckdb").problems
    )


def test_the_command_refuses_before_it_reads_the_model(tmp_path: Path) -> None:
    source = builder.make_source(tmp_path / "rows.jsonl")
    told = ("--out", tmp_path / "out", "--model", tmp_path / "no model", "--max-unscored", "0.5")
    done = gradsentry("scan", source, *told)
    assert done.code == 2 and "max_unscored 0.5 (the store's own: 0.05)" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_what_one_batch_may_does_not_open_another_with_the_same_verdicts(tmp_path: Path) -> None:
    """The same readable rows, the same scores, limits and verdicts; only the second has lost nine rows of ten."""
    store = Store(tmp_path / "store")
    whole = builder.read_in(store, "whole")
    path = store.home / "landing" / "torn.jsonl"
    builder.make_source(path)
    path.write_text(path.read_text() + "{torn\n" * 540)
    torn = ingest(open_source(str(path)), store, builder.RUN)
    config = DecisionConfig("paper")
    refused = decide(torn, builder.score(store, torn), store, builder.RUN, config)
    passed = decide(whole, builder.score(store, whole), store, builder.RUN, config)
    assert refused.verdicts_sha256 == passed.verdicts_sha256 and refused.gate_inputs == passed.gate_inputs
    assert gate_of(passed, store).status == "passed"
    assert gate_of(refused, store).status == "failed"
    with pytest.raises(GateFailed, match="no readable samples"):
        builder.publish(torn, refused, store, builder.RUN)


def test_an_acceptance_says_exactly_what_it_was_for(made: Made, typed: Callable[..., Done]) -> None:  # noqa: F811
    told = made.acceptance.accepted
    assert told is not None
    assert told["verdicts_sha256"] == made.strict.verdicts_sha256 and told["decision"] == made.strict.number
    assert (told["read"], told["rejected"], told["unscored"]) == (61, 1, 1)
    assert told["flagged"] == made.strict.flagged and told["limits"]["max_flagged"] == 0.01
    assert [check["name"] for check in told["failed"]] == ["flagged_fraction"]
    shown = typed(made.store.home, "audit", "beta")
    assert f"decision {told['decision']}, {told['flagged']} flagged, 1 unscored, 1 rejected of 61 rows" in shown.out


def test_a_check_that_was_not_accepted_is_not_covered(copied: Path, made: Made) -> None:
    """The same verdicts under the same limits, and the gate now finds something else wrong with the batch."""
    with open_ledger(copied / "ledger.duckdb") as ledger:
        result = ledger.find(GateResult, batch_key=made.beta.batch_key)[-1]
        assert ledger.gate_state(result.inputs_sha256, made.beta.batch_key).status == "accepted"
        more = {"name": "whole_source", "passed": False, "severity": "error", "observed": "cut", "limit": "whole"}
        later = replace(result, checks=(*result.checks, {**more, "message": "the file ends inside its last row"}))
        ledger.record_gate(later)
        assert ledger.gate_state(result.inputs_sha256, made.beta.batch_key).status == "failed"
        assert "by ben (decision" in ledger.not_covered(later)
        assert "whole_source did not fail then" in ledger.not_covered(later)


def test_what_voids_an_acceptance_says_so(copied: Path, made: Made, typed: Callable[..., Done]) -> None:  # noqa: F811
    """A release does, on the spot; the next decision, `gate show` and the audit say it again, with the reason."""
    store = Store(copied)
    scored = replace(made.scored, batch_key=made.beta.batch_key)
    ids = builder.sample_ids(store, made.beta, "flagged", made.strict)
    said = ("--by", "ana", "--reason", "a false alarm")
    other = typed(copied, "release", builder.sample_ids(store, made.alpha, "flagged", made.second)[0], *said)
    assert other.code == 0
    released = typed(copied, "release", ids[-1], "--batch", made.beta.batch_key, *said)
    assert "this voids the acceptance of" in released.out and "by ben (decision" in released.out

    score = next(store.batch(made.beta.batch_key).glob("scores/*"))
    with open_ledger(store.ledger, read_only=True) as ledger:
        scan = ledger.scan(made.beta.batch_key)
    scored = replace(scored, score_key=score.name, scan=scan.seq, scores_sha256=scan.scores.sha256)
    decided = decide(made.beta, scored, store, builder.RUN, builder.STRICT)
    assert not decided.gate_passed and gate_of(decided, store).status == "failed"
    words = f"by ben (decision {made.strict.number}"
    why = f"{decided.flagged} rows are flagged, then {made.strict.flagged}"
    for told in (
        " ".join(decided.remarks),
        typed(copied, "gate", "show", "beta").out,
        typed(copied, "audit", "beta").out,
        typed(copied, "gate", "show", "beta", "--json").json["not_covered"],
    ):
        told = " ".join(told.split())  # tables wrap
        assert words in told and "does not cover this" in told and why in told
    again = typed(copied, "release", ids[-2], "--batch", made.beta.batch_key, *said)
    assert "voids" not in again.out  # there is none any more


def test_the_names_of_limits_are_shown_by_the_gate(copied: Path, judged: Callable, typed: Callable[..., Done]) -> None:  # noqa: F811
    judged(SIGNED)
    for shown in (typed(copied, "gate", "show", "alpha"), typed(copied, "audit", "alpha")):
        assert "Ada: a set made for this" in shown.out
    assert json.loads(typed(copied, "gate", "show", "alpha", "--json").out)["gate"]["result"]["loosened"]


def test_words_of_people_are_no_markup(copied: Path, typed: Callable[..., Done]) -> None:  # noqa: F811
    with open_ledger(copied / "ledger.duckdb") as ledger:
        ledger.record_limits(LimitPolicy(limits=vars(GateLimits()), made_by="[red]Eve[/]", reason="\x1b[2J[/nothing]"))
    shown = typed(copied, "gate", "limits")
    assert "[red]Eve[/]" in shown.out and "\x1b[2J" not in shown.out


def test_an_override_that_changes_nothing_voids_nothing(copied: Path, typed: Callable[..., Done]) -> None:  # noqa: F811
    with open_ledger(copied / "ledger.duckdb") as ledger:
        ledger.record_overrides([Override(sample_id="0" * 64, action="flag", made_by="a", reason="b")])
    assert "voids" not in typed(copied, "flag", "1" * 64, "--by", "a", "--reason", "b").out
