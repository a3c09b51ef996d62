"""The gate's second judge: Great Expectations on verdicts that plain code has judged already.

Imported when the check runs, not when Dagster loads the code location.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pyarrow.parquet as pq

from gradsentry_assets.expectations import expect_gate
from gradsentry_assets.gates import CHECKS
from gradsentry_assets.partitions import Said, by_partition, partitions_in, refusal
from gradsentry_assets.presentation import review_link
from gradsentry_assets.stage import Stage
from gradsentry_lib.detection.gate import GateCheck, GateLimits, gate_passed, gate_settings
from gradsentry_lib.errors import DamagedStore, GradSentryError
from gradsentry_lib.pipeline.decided import Decided, load_decided, load_evidence
from gradsentry_lib.pipeline.ingest import Ingested, load
from gradsentry_lib.pipeline.power import load_certificate
from gradsentry_lib.pipeline.publish import gate_of, write_refusal
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.store import GateResult, GateState, Run, current_run, open_ledger
from gradsentry_lib.store.paths import Store

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


def judge_again(context: dg.AssetCheckExecutionContext, stage: Stage) -> Iterator[Said]:
    """What each check says of each batch of the run. Raises dg.Failure where one can't be judged."""
    place: Store = stage.given(context.resources, "store").store
    judged: dict[str | None, Judged] = {}
    failed: dict[str, GradSentryError] = {}
    partitions = partitions_in(context, stage)
    for partition in partitions:
        batch = partition or ""
        try:
            batch = stage.batch(context.instance, partition)
            with place.alone(batch):
                judged[partition] = _judge(context, stage, partition, batch, place)
        except GradSentryError as error:
            failed[batch] = error
    if failed:
        raise refusal(failed, of=len(partitions))
    yield from results(judged, {spec.name: spec for spec in context.check_specs})


def results(
    judged: Mapping[str | None, Judged], specs: Mapping[str, dg.AssetCheckSpec], prefix: str = ""
) -> Iterator[Said]:
    """What each check says of each partition. `prefix`: of the checks' names."""
    anything_open = any(one.state.open for one in judged.values())
    for name, (parts, _) in CHECKS.items():
        found = {at: _result(f"{prefix}{name}", name, parts, one, anything_open) for at, one in judged.items()}
        yield from by_partition(specs[f"{prefix}{name}"], found)


def _judge(
    context: dg.AssetCheckExecutionContext, stage: Stage, partition: str | None, batch: str, store: Store
) -> Judged:
    key = stage.handed_over(context.instance, "entropy_threshold", partition, "decision_key")
    decided, read = load_decided(store, batch, key), load(store, batch)
    if decided is None or read is None:
        raise DamagedStore(
            f"the verdicts of batch {batch} are gone from the store: materialize entropy_threshold again"
        )
    return judge_one(decided, read, store, current_run("dagster", context.run.run_id))


def judge_one(decided: Decided, read: Ingested, store: Store, run: Run) -> Judged:
    """Great Expectations on one decision; its no goes into the ledger."""
    batch = decided.batch_key
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


def _result(told_as: str, name: str, parts: Sequence[str], one: Judged, anything_open: bool) -> dg.AssetCheckResult:
    """One check on one batch.

    It blocks only if no batch's gate is open in this run: otherwise `clean_dataset` has work to do, and holds back, one
    by one, the batches whose gate is closed.
    """
    told = [check for check in one.checks if check.name in parts]
    missed = [check for check in told if not check.passed]
    errors = [check for check in missed if check.severity == "error"]
    lines = [f"{one.batch}: {one_line(check.message)}{_accepted(one)}" for check in errors or missed or told[:1]]
    numbers = [float(check.observed) for check in told if isinstance(check.observed, int | float)]
    limits = {check.severity: check.limit for check in told}
    return dg.AssetCheckResult(
        check_name=told_as,
        passed=not missed,
        severity=dg.AssetCheckSeverity.ERROR if errors and not anything_open else dg.AssetCheckSeverity.WARN,
        description="\n".join(lines) if told else NOT_ASKED.get(name, ""),
        metadata={
            "observed": max(numbers) if numbers else "; ".join(str(check.observed) for check in told),
            **{"limit" if severity == "error" else "warning_limit": limit for severity, limit in limits.items()},
            "batch": one.batch,
            **_loosened(one),
            **(_report(one) if errors else {}),
        },
    )


def _loosened(one: Judged) -> dict[str, str]:
    """Who judged by limits looser than the store's own."""
    loosened = one.state.result.loosened if one.state.result is not None else None
    return {"limits_loosened_by": one_line(f"{loosened['made_by']}: {loosened['reason']}")} if loosened else {}


def _report(refused: Judged) -> dict[str, dg.MetadataValue]:
    """Where to read why, and what a person can do about it."""
    if refused.report is None:
        return {}
    command = f"gradsentry gate accept {refused.batch} --by NAME --reason REASON"
    return {
        "review": review_link(refused.batch),
        "report": dg.MetadataValue.path(refused.report),
        "to_accept": dg.MetadataValue.text(command),
    }


def _accepted(one: Judged) -> str:
    acceptance = one.state.acceptance if one.state.status == "accepted" else None
    return one_line(f" (accepted by {acceptance.made_by}: {acceptance.reason})") if acceptance else ""
