"""The gate, as blocking checks on `entropy_threshold`.

`decide` has judged the gate by plain code and the ledger keeps its answer. Here Great Expectations judges it again on
the same verdicts; where it says no to what plain code let pass, its answer goes into the ledger and stands. So a batch
is published only if both agree, whoever starts `clean_dataset` and with whatever selection.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pyarrow.parquet as pq

from gradsentry_assets.assets import AGAIN, entropy_threshold
from gradsentry_assets.expectations import expect_gate
from gradsentry_assets.partitions import handed_over, refusal
from gradsentry_assets.resources import StoreResource
from gradsentry_lib.detection.gate import GateCheck, GateLimits, gate_passed, gate_settings
from gradsentry_lib.errors import DamagedStore, GradSentryError
from gradsentry_lib.pipeline.decided import Decided, load_decided, load_evidence
from gradsentry_lib.pipeline.ingest import load
from gradsentry_lib.pipeline.power import load_certificate
from gradsentry_lib.pipeline.publish import gate_of, write_refusal
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.store import GateResult, GateState, Run, current_run, open_ledger
from gradsentry_lib.store.paths import Store

# What the UI says of each check, and which of the gate's own checks it stands for.
CHECKS = {
    "flagged_fraction": (
        ("flagged_fraction", "flagged_fraction_warning"),
        "Not too much is flagged. Above the limit nothing is published: a score that condemns half a batch has more "
        "likely met data that it cannot judge than that much poison. Above the lower limit it warns.",
    ),
    "unscored_fraction": (("unscored_fraction",), "Nearly every readable row could be scored."),
    "rejected_fraction": (
        ("rejected_fraction",),
        "Nearly every row could be read: nine tenths of a file that nobody could judge are no clean remainder.",
    ),
    "entropy_in_range": (("entropy_in_range",), "Every entropy lies in [0, 1]."),
    "unique_rows": (("unique_rows",), "No row is judged twice."),
    "rows_conserved": (("rows_conserved",), "Rows read = clean + flagged + unscored + rejected."),
    "whole_source": (
        ("whole_source",),
        "Nothing shows that the source is cut short: no row, packing, table or numbered file is without its end.",
    ),
    "power": (
        ("power",),
        "What the scan would have found, where that is asked for (`min_power`): attacks planted into copies of the "
        "batch's own rows were found often enough.",
    ),
    "nothing_watched": (
        ("nothing_watched",),
        "No row carries what nothing explains over an answer that can't be shown to differ; only warns. Such rows are "
        "kept unless the policy is told to quarantine them: look at them first.",
    ),
    "score_trusted": (("score_trusted",), "Whether the entropy tells more than the length of the answers; only warns."),
}
ADVICE = ("nothing_watched", "score_trusted")  # these never block
SPECS = [
    dg.AssetCheckSpec(name, asset=entropy_threshold, blocking=name not in ADVICE, description=text)
    for name, (_, text) in CHECKS.items()
]


NOT_ASKED = {  # what is said where the policy has nothing to do with a check
    "power": "No power is asked for (min_power).",
    "nothing_watched": "This policy watches no rows.",
    "score_trusted": "This policy does not rest on the entropy threshold.",
}


class Judged(NamedTuple):
    """One batch at the gate."""

    batch: str
    checks: tuple[GateCheck, ...]
    state: GateState
    report: Path | None  # what a person looks at before accepting; only where the gate refused


@dg.multi_asset_check(name="gate", specs=SPECS, pool="duckdb", retry_policy=AGAIN)
def gate(context: dg.AssetCheckExecutionContext, store: StoreResource) -> Iterator[dg.AssetCheckResult]:
    """Great Expectations on the verdicts of every batch in this run."""
    judged: list[Judged] = []
    failed: dict[str, GradSentryError] = {}
    batches = context.op_execution_context.partition_keys
    for batch in batches:
        try:
            with store.store.alone(batch):
                judged.append(_judge(context, batch, store.store))
        except GradSentryError as error:
            failed[batch] = error
    if failed:
        raise refusal(failed, of=len(batches))
    anything_open = any(one.state.open for one in judged)
    for name, (parts, _) in CHECKS.items():
        yield _result(name, parts, judged, anything_open)


def _judge(context: dg.AssetCheckExecutionContext, batch: str, store: Store) -> Judged:
    decided = load_decided(store, batch, handed_over(context.instance, "entropy_threshold", batch, "decision_key"))
    read = load(store, batch)
    if decided is None or read is None:
        raise DamagedStore(
            f"the verdicts of batch {batch} are gone from the store: materialize entropy_threshold again"
        )
    with open_ledger(store.ledger, read_only=True) as ledger:
        limits = GateLimits(**ledger.decision(batch, decided.decision_key).settings["limits"])
    certificate = load_certificate(store, decided)
    trusting = any(check.name == "score_trusted" for check in decided.gate_checks)
    checks = expect_gate(
        pq.read_table(store.decision(batch, decided.decision_key).verdicts),
        read=read.read,
        rejected=read.rejected,
        trust=load_evidence(store, decided).trust if trusting else None,
        limits=limits,
        truncated=read.truncated or "",
        power=None if certificate is None else certificate.power,
    )
    run = current_run("dagster", context.run.run_id)
    if decided.gate_passed and not gate_passed(checks):
        _object(decided, checks, gate_settings(limits, read.truncated or ""), store, run)
    state = gate_of(decided, store)
    return Judged(batch, checks, state, None if state.open else write_refusal(read, decided, store, run))


def _object(decided: Decided, checks: Sequence[GateCheck], limits: Mapping[str, Any], store: Store, run: Run) -> None:
    """Puts the second judge's no into the ledger, where the latest answer counts."""
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        earlier = ledger.find(GateResult, decision=decided.number)
        ledger.record_gate(
            GateResult(
                batch_key=decided.batch_key,
                decision=decided.number,
                verdicts_sha256=decided.verdicts_sha256,
                limits=limits,
                inputs_sha256=decided.gate_inputs,
                passed=False,
                checks=tuple(asdict(check) for check in checks),
                run_id=run.run_id,
                loosened=earlier[-1].loosened if earlier else None,
            )
        )


def _result(name: str, parts: Sequence[str], judged: Sequence[Judged], anything_open: bool) -> dg.AssetCheckResult:
    """One check over all batches of the run.

    It blocks only if no batch's gate is open: otherwise `clean_dataset` has work to do, and holds back, one by one,
    the batches whose gate is closed.
    """
    told = [(one, check) for one in judged for check in one.checks if check.name in parts]
    missed = [(one, check) for one, check in told if not check.passed]
    errors = [(one, check) for one, check in missed if check.severity == "error"]
    blocks = bool(errors) and not anything_open
    lines = [f"{one.batch}: {one_line(check.message)}{_accepted(one)}" for one, check in errors or missed or told[:1]]
    numbers = [float(check.observed) for _, check in told if isinstance(check.observed, int | float)]
    limits = {check.severity: check.limit for _, check in told}
    return dg.AssetCheckResult(
        check_name=name,
        passed=not missed,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description="\n".join(lines[:20]) if told else NOT_ASKED.get(name, ""),
        metadata={
            **({"observed": max(numbers)} if numbers else {"observed": "; ".join(str(c.observed) for _, c in told)}),
            **{"limit" if severity == "error" else "warning_limit": limit for severity, limit in limits.items()},
            "batches": len(judged),
            **_loosened(judged),
            **_reports([one for one, _ in errors]),
            **({"failed_batches": ", ".join(dict.fromkeys(one.batch for one, _ in missed))} if missed else {}),
        },
    )


def _loosened(judged: Sequence[Judged]) -> dict[str, str]:
    """Who judged by limits looser than the store's own."""
    words = [
        f"{one.batch}: {one.state.result.loosened['made_by']}: {one.state.result.loosened['reason']}"
        for one in judged
        if one.state.result is not None and one.state.result.loosened
    ]
    return {"limits_loosened_by": one_line("; ".join(words[:5]) + " ..." * (len(words) > 5))} if words else {}


def _reports(refused: Sequence[Judged]) -> dict[str, dg.MetadataValue]:
    """Where to read why, and what a person can do about it; one batch's in full, of more the first five."""
    shown: dict[str, dg.MetadataValue] = {
        f"report of {one.batch}": dg.MetadataValue.path(one.report) for one in refused[:5] if one.report
    }
    if shown:
        command = f"gradsentry gate accept {refused[0].batch} --by NAME --reason REASON"
        shown["to_accept"] = dg.MetadataValue.text(command)
    return shown


def _accepted(one: Judged) -> str:
    acceptance = one.state.acceptance if one.state.status == "accepted" else None
    return one_line(f" (accepted by {acceptance.made_by}: {acceptance.reason})") if acceptance else ""
