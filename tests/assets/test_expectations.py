"""Great Expectations finds by itself what plain code finds: a slip in ours does not open the gate."""

from dataclasses import replace

import pytest

from gradsentry_assets import expectations
from gradsentry_lib.detection.gate import GateCheck, check_gate
from tests.detection.test_filtering_gate import verdict_table

WRONG = {
    "flagged_fraction": ({"clean": 4, "flagged": 6}, 10, 0),
    "unscored_fraction": ({"clean": 94, "unscored": 6}, 100, 0),
    "rejected_fraction": ({"clean": 94}, 100, 6),
    "entropy_in_range": ({"clean": 2, "entropy": [0.5, 1.5]}, 2, 0),
    "unique_rows": ({"clean": 3, "rows": [0, 1, 1]}, 3, 0),
    "rows_conserved": ({"clean": 100}, 101, 0),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_check_that_ours_would_let_pass_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*arguments: object, **options: object) -> tuple[GateCheck, ...]:
        return tuple(replace(check, passed=True) for check in check_gate(*arguments, **options))  # type: ignore[arg-type]

    monkeypatch.setattr(expectations, "check_gate", blind)
    rows, read, rejected = WRONG[name]
    found = expectations.expect_gate(verdict_table(**rows), read=read, rejected=rejected)
    assert name in {check.name for check in found if not check.passed}


def test_a_sound_batch_passes_both() -> None:
    found = expectations.expect_gate(verdict_table(clean=95, flagged=3, unscored=2), read=105, rejected=5)
    assert all(check.passed for check in found)
