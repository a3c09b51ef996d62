"""Verdicts against their scores, threshold and policy; gates against their verdicts."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib import __version__
from gradsentry_lib.audit.evidence import Finding, Records
from gradsentry_lib.audit.recompute import judge_again
from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.detection.policies import can_judge_again
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.store import acceptance as acceptances
from gradsentry_lib.store.ledger import gate_inputs_sha256
from gradsentry_lib.store.records import Batch, Decision, GateResult, Scan, ThresholdRecord

SHOWN = 5  # rows that a finding names


def check_decision(records: Records, decision: Decision, sound: set[Path]) -> Iterator[Finding]:
    """Verdicts against their counts, their scores, and what follows from threshold and policy. `sound`: files that are
    as they were recorded."""
    subject = f"verdicts of decision {decision.seq} (batch {decision.batch_key})"
    scan = records.scans.get(decision.scan)
    threshold = records.thresholds.get(decision.threshold)
    batch = records.latest_batches.get(decision.batch_key)
    if scan is None or threshold is None or batch is None:
        yield Finding(subject, "the ledger no longer has the scan, threshold or batch that they rest on")
        return
    if any(records.latest_digests[ref.path] != ref.sha256 for ref in (scan.scores, decision.verdicts)):
        yield Finding(subject, "its files were made again since: only the later ones can be checked", "note")
        return
    try:
        scores = pq.read_table(scan.scores.file)
        verdicts = pq.read_table(decision.verdicts.file)
    except (OSError, pa.ArrowException):
        return  # the file itself is a finding already
    yield from _check_counts(subject, batch, decision, verdicts)
    if not verdicts["row"].equals(scores["row"]) or not verdicts["sample_id"].equals(scores["sample_id"]):
        yield Finding(subject, "its rows are not the rows of the scores")
        return
    moved = _different(_plain_floats(scores["entropy"]), _plain_floats(verdicts["entropy"]))
    if moved.size:
        yield Finding(subject, f"holds entropies that differ from the scores: {_rows(verdicts, moved)}")
    is_sound = decision.verdicts.file in sound
    yield from _check_judgement(records, subject, (batch, scan, threshold, decision), verdicts, is_sound)


def _check_counts(subject: str, batch: Batch, decision: Decision, verdicts: pa.Table) -> Iterator[Finding]:
    counted = {item["values"]: item["counts"] for item in pc.value_counts(verdicts["verdict"]).to_pylist()}
    said = {"clean": decision.clean, "flagged": decision.flagged, "unscored": decision.unscored}
    if {name: count for name, count in said.items() if count} != counted:
        yield Finding(subject, f"holds {counted}, recorded were {said}")
    if verdicts.num_rows != batch.readable:
        yield Finding(subject, f"holds {verdicts.num_rows} rows of {batch.readable} readable ones")


def _check_judgement(
    records: Records,
    subject: str,
    facts: tuple[Batch, Scan, ThresholdRecord, Decision],
    verdicts: pa.Table,
    is_sound: bool,
) -> Iterator[Finding]:
    _, _, threshold, decision = facts
    if not can_judge_again(decision.policy, decision.settings.get("rules", 0)):
        made = f"{decision.policy!r}, rules {decision.settings.get('rules', 'unnumbered')}"
        yield Finding(subject, f"made by a policy that is gone ({made}): this version can't derive them again", "note")
        return
    try:
        tau, expected = judge_again(*facts)
    except (GradSentryError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        yield Finding(subject, f"can't be derived again: {error}")
        return
    severity, hint = _same_code(records, decision)
    if tau != threshold.tau:
        message = f"tau {threshold.tau!r} was recorded, {tau!r} follows from the scores{hint}"
        yield Finding(f"threshold {threshold.seq} (batch {threshold.batch_key})", message, severity)
    for column, what in (("verdict", "verdicts"), ("reasons", "reasons")):
        wrong = _different(expected[column].to_pylist(), verdicts[column].to_pylist())
        if wrong.size:
            if what == "reasons" and is_sound and decision.policy != "paper":
                # They quote figures of neighbours and groups, whose last digits another processor may give otherwise.
                severity = "note"
            yield Finding(
                subject, f"holds {what} that do not follow from the scores: {_rows(verdicts, wrong)}{hint}", severity
            )
            return


def _same_code(records: Records, decision: Decision) -> tuple[Literal["problem", "note"], str]:
    """A verdict that another version of the code gave may follow from its rules and not from ours."""
    versions = {run.code_version for run in records.runs.values() if run.run_id == decision.run_id}
    if versions and __version__ not in versions:
        return "note", f"; judged by version {versions.pop()}, checked by {__version__}"
    return "problem", ""


def check_gates(records: Records) -> Iterator[Finding]:
    """Results against their inputs and checks; acceptances against a result that was there to accept."""
    failed: set[tuple[str, str]] = set()
    verdicts = {decision.seq: decision.verdicts.sha256 for decision in records.decisions.values()}
    for result in records.gate_results.values():
        subject = f"gate result {result.seq} (batch {result.batch_key})"
        if result.inputs_sha256 != gate_inputs_sha256(result.verdicts_sha256, result.limits):
            yield Finding(subject, "its key is not the digest of its verdicts and limits")
        if result.verdicts_sha256 != verdicts.get(result.decision):
            yield Finding(subject, f"is not about the verdicts of decision {result.decision}")
        passed = all(check.get("passed") or check.get("severity") == "warn" for check in result.checks)
        if passed != result.passed:
            yield Finding(subject, f"says {'passed' if result.passed else 'failed'}, its checks say otherwise")
        if not result.passed:
            failed.add((result.batch_key, result.inputs_sha256))
        yield from _check_limits(records, result, subject)
    for acceptance in records.gate_acceptances.values():
        if (acceptance.batch_key, acceptance.inputs_sha256) not in failed:
            yield Finding(
                f"gate acceptance {acceptance.seq} (batch {acceptance.batch_key})",
                f"by {acceptance.made_by!r}: no gate of this batch failed on these inputs",
            )
    yield from _check_published(records)


def _check_limits(records: Records, result: GateResult, subject: str) -> Iterator[Finding]:
    """Limits looser than the store's own have a name beside them. A result of version 0.3 knows neither."""
    policies = [policy.limits for policy in records.limit_policies.values() if policy.seq < result.seq]
    try:
        own = GateLimits(**policies[-1]) if policies else GateLimits()
        if "max_rejected" not in result.limits:
            return
        known = {field.name for field in fields(GateLimits)}  # beside them may stand what else the gate was told
        looser = GateLimits(**{name: limit for name, limit in result.limits.items() if name in known}).looser_than(own)
    except (TypeError, GradSentryError) as error:
        yield Finding(subject, f"its limits are none: {error}")
        return
    if looser and not result.loosened:
        yield Finding(subject, f"its limits are looser than the store's own ({', '.join(looser)}), and nobody is named")


def _check_published(records: Records) -> Iterator[Finding]:
    """No clean file without a gate that was open for it."""
    opened = {
        result.decision
        for result in records.gate_results.values()
        if result.passed or any(acceptances.covers(item, result) for item in records.gate_acceptances.values())
    }
    for output in records.outputs.values():
        if output.kind == "clean" and output.decision not in opened:
            subject = f"clean file of decision {output.decision} (batch {output.batch_key})"
            yield Finding(subject, "was published though its gate neither passed nor was accepted")


def _plain_floats(column: pa.ChunkedArray) -> list[str]:
    """By their digits, so that NaN equals NaN; infinite means unscored, as NaN does."""
    values = column.to_numpy()
    return np.where(np.isfinite(values), values, np.nan).astype(str).tolist()


def _different(left: Sequence[Any], right: Sequence[Any]) -> np.ndarray:
    """Positions where two lists of equal length differ."""
    return np.array([i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b], dtype=np.int64)


def _rows(table: pa.Table, positions: np.ndarray) -> str:
    some = table["row"].take(pa.array(positions[:SHOWN])).to_pylist()
    more = f" and {positions.size - SHOWN} more" if positions.size > SHOWN else ""
    return f"row{'s' if positions.size > 1 else ''} {', '.join(map(str, some))}{more}"
