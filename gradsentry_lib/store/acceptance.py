"""What a person accepted when letting a failed gate pass, and why that does not cover what came later.

An acceptance stands for the verdicts and limits that were there, and for the checks that had failed: exactly those.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gradsentry_lib.store.records import Batch, Decision, GateAcceptance, GateResult

COUNTS = ("read", "clean", "flagged", "unscored", "rejected")


def seen(batch: Batch, decision: Decision, result: GateResult) -> dict[str, Any]:
    """What there is to accept, as `GateAcceptance.accepted` keeps it."""
    return {
        "decision": result.decision,
        "verdicts_sha256": result.verdicts_sha256,
        "limits": dict(result.limits),
        "read": batch.rows_read,
        "clean": decision.clean,
        "flagged": decision.flagged,
        "unscored": decision.unscored,
        "rejected": batch.rejected_rows,
        "failed": [dict(check) for check in _failed(result)],
    }


def covers(acceptance: GateAcceptance, result: GateResult) -> bool:
    """Whether a person accepted just this: verdicts, limits, and every check that fails."""
    if (acceptance.batch_key, acceptance.inputs_sha256) != (result.batch_key, result.inputs_sha256):
        return False
    if acceptance.accepted is None:  # a record of version 0.3, which kept no more
        return True
    known = {_failure(check) for check in acceptance.accepted["failed"]}
    return all(_failure(check) in known for check in _failed(result))


def not_covered(acceptance: GateAcceptance, now: Mapping[str, Any]) -> str:
    """In a sentence, why an earlier acceptance does not count for what is there `now` (see `seen`)."""
    when = f"{acceptance.recorded_at:%Y-%m-%d}" if acceptance.recorded_at else "earlier"
    reasons = "; ".join(_differences(acceptance.accepted, now))
    return f"the acceptance of {when} by {acceptance.made_by} ({what(acceptance)}) does not cover this: {reasons}"


def what(acceptance: GateAcceptance) -> str:
    """In words, what was accepted."""
    told = acceptance.accepted
    if told is None:
        return f"for the gate inputs {acceptance.inputs_sha256[:12]}"
    counts = f"{told['flagged']} flagged, {told['unscored']} unscored, {told['rejected']} rejected of {told['read']}"
    failed = ", ".join(check["name"] for check in told["failed"])
    return f"decision {told['decision']}, {counts} rows, against {failed}"


def _differences(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterator[str]:
    if then is None:
        yield "it was for other verdicts or limits"
        return
    counts = [name for name in COUNTS if then[name] != now[name]]
    for name in counts:
        yield f"{now[name]} rows are {name}, then {then[name]}"
    for name in sorted({*then["limits"], *now["limits"]}):
        old, new = then["limits"].get(name), now["limits"].get(name)
        if old != new:
            yield f"{name} is {new}, then {'not there' if old is None else old}"
    known = {check["name"] for check in then["failed"]}
    for check in now["failed"]:
        if check["name"] not in known:
            yield f"{check['name']} did not fail then"
    if then["verdicts_sha256"] != now["verdicts_sha256"] and not counts:
        yield "the verdicts or their reasons are others, in the same numbers"


def _failed(result: GateResult) -> list[Mapping[str, Any]]:
    return [check for check in result.checks if not check["passed"] and check["severity"] == "error"]


def _failure(check: Mapping[str, Any]) -> tuple[Any, ...]:
    return check["name"], check["observed"], check["limit"]
