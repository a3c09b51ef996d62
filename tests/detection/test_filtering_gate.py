"""The gate: each check passes and fails where it should, and says what it saw."""

import numpy as np
import pyarrow as pa
import pytest

from gradsentry_lib.detection.gate import GateCheck, GateLimits, check_gate, gate_passed, gate_settings
from gradsentry_lib.detection.length_confounding import Trust
from gradsentry_lib.errors import BadInput


def verdict_table(clean=0, flagged=0, unscored=0, entropy=None, rows=None) -> pa.Table:
    n = clean + flagged + unscored
    verdict = ["clean"] * clean + ["flagged"] * flagged + ["unscored"] * unscored
    entropy = [0.4] * clean + [0.9] * flagged + [np.nan] * unscored if entropy is None else entropy
    rows = list(range(n)) if rows is None else rows
    schema = pa.schema([("row", pa.int64()), ("entropy", pa.float64()), ("verdict", pa.string())])
    return pa.table({"row": rows, "entropy": entropy, "verdict": verdict}, schema)


def named(checks: tuple[GateCheck, ...]) -> dict[str, GateCheck]:
    return {check.name: check for check in checks}


def failed(table: pa.Table, **kwargs) -> set[str]:
    checks = check_gate(table, **{"read": table.num_rows, "rejected": 0} | kwargs)
    return {check.name for check in checks if not check.passed}


def test_a_sound_batch_passes():
    checks = check_gate(verdict_table(clean=88, flagged=10, unscored=2), read=105, rejected=5)
    assert all(check.passed for check in checks) and gate_passed(checks)
    assert named(checks)["rows_conserved"].message == (
        "105 rows read = 88 clean + 10 flagged + 2 unscored + 5 rejected"
    )


@pytest.mark.parametrize(
    ("flagged", "names"),
    [(20, set()), (21, {"flagged_fraction_warning"}), (50, {"flagged_fraction_warning"}),
     (51, {"flagged_fraction_warning", "flagged_fraction"})],
)  # fmt: skip
def test_flagged_fraction_warns_then_blocks(flagged, names):
    table = verdict_table(clean=100 - flagged, flagged=flagged)
    assert failed(table) == names
    assert gate_passed(check_gate(table, read=100, rejected=0)) == ("flagged_fraction" not in names)


def test_a_source_that_is_cut_short_blocks():
    assert failed(verdict_table(clean=9), truncated="a.jsonl ends inside its last row (line 10)") == {"whole_source"}
    check = named(check_gate(verdict_table(clean=9), read=9, rejected=0, truncated="why"))["whole_source"]
    assert (check.severity, check.observed, check.limit) == ("error", "truncated", "whole")
    assert check.message == "the source is cut short: why"
    assert gate_settings(GateLimits(), "why") == gate_settings(GateLimits()) | {"truncated": "why"}


def test_limits_are_the_users():
    table = verdict_table(clean=40, flagged=60)
    assert failed(table, limits=GateLimits(max_flagged=0.6, warn_flagged=0.6)) == set()
    assert failed(table, limits=GateLimits(max_flagged=0.0, warn_flagged=1.0)) == {"flagged_fraction"}


def test_unscored_fraction_blocks():
    assert failed(verdict_table(clean=95, unscored=5)) == set()
    assert failed(verdict_table(clean=94, unscored=6)) == {"unscored_fraction"}


def test_a_file_of_which_much_cannot_be_read_is_blocked():
    """Nine rows of ten unreadable: the tenth is no clean set. The limit counts all rows read, and is the user's."""
    table = verdict_table(clean=95)
    assert failed(table, read=100, rejected=5) == set()
    assert failed(table, read=101, rejected=6) == {"rejected_fraction"}
    checks = check_gate(verdict_table(clean=1), read=10, rejected=9)
    assert not gate_passed(checks)
    assert named(checks)["rejected_fraction"].message == "90.0% of the rows read are no readable samples, limit 5.0%"
    assert failed(verdict_table(clean=1), read=10, rejected=9, limits=GateLimits(max_rejected=0.9)) == set()


def test_entropies_outside_the_scale_block():
    assert failed(verdict_table(clean=3, unscored=0, entropy=[0.0, 1.0, 1.0000001])) == {"entropy_in_range"}
    assert failed(verdict_table(clean=3, entropy=[-1e-9, 0.5, 0.5])) == {"entropy_in_range"}


def test_a_row_twice_blocks():
    assert failed(verdict_table(clean=3, rows=[0, 1, 1])) == {"unique_rows"}


@pytest.mark.parametrize(("read", "rejected"), [(101, 0), (99, 0), (100, 1)])
def test_a_lost_or_invented_row_blocks(read, rejected):
    assert failed(verdict_table(clean=100), read=read, rejected=rejected) == {"rows_conserved"}


def test_a_verdict_that_is_none_blocks():
    table = verdict_table(clean=100)
    odd = table.set_column(2, "verdict", pa.array(["clean"] * 99 + ["Clean"]))
    assert failed(odd) == {"rows_conserved"}


def test_a_score_that_cannot_be_trusted_warns_and_does_not_block():
    trust = Trust("saturated", "nine rows in ten are above 0.7", n=100)
    checks = check_gate(verdict_table(clean=100), read=100, rejected=0, trust=trust)
    check = named(checks)["score_trusted"]
    assert (check.passed, check.severity, check.observed) == (False, "warn", "saturated")
    assert check.message == "nine rows in ten are above 0.7"
    assert gate_passed(checks)


def test_no_rows_at_all_pass_without_dividing_by_zero():
    assert failed(verdict_table()) == set()


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan")])
def test_limits_outside_0_and_1_are_refused(limit):
    with pytest.raises(BadInput, match="max_flagged must lie between 0 and 1"):
        GateLimits(max_flagged=limit)
