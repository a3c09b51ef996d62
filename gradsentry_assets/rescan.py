"""Re-scans: finds the batches whose last verdict no longer follows from today's settings, says why, and runs those.

The job `rescan` (nightly, or by hand) compares each batch's last verdict with the model, tokenizer, scoring settings,
threshold settings, policy, gate limits and overrides of today. It loads no model. Its run shows which batches are
stale and why; when it has ended, a sensor starts `scan_batch` for exactly those, many in one run.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from gradsentry_assets.dagster_private import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from gradsentry_assets.partitions import MAX_TOGETHER, neighbours, range_tags
from gradsentry_assets.resources import JudgingResource, ModelResource
from gradsentry_assets.stage import Stage
from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import read_json, sha256_json, write_json
from gradsentry_lib.pipeline.decide import DecisionConfig, settle
from gradsentry_lib.pipeline.ingest import is_current
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.identity import ModelIdentity
from gradsentry_lib.store import Decision, Ledger, Scan, open_ledger, overrides_digest
from gradsentry_lib.store.paths import Store

SHOWN = 20  # the UI shows tables up to 20 rows
GOING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
REASON = "gradsentry/rescan"  # the run tag that says why


@dataclass(frozen=True)
class Today:
    """What a scan of today would rest on."""

    identity: ModelIdentity
    scoring: ScoringConfig
    decision: DecisionConfig


def find_stale(
    instance: dg.DagsterInstance, stage: Stage, store: Store, today: Today, force: bool = False
) -> dict[str, str]:
    """Stale batches and why, in the order in which they arrived. `force`: all batches."""
    stale: dict[str, str] = {}
    batches = instance.get_dynamic_partitions(stage.batches)
    with open_ledger(store.ledger, read_only=True) as ledger:
        known = set(ledger.batch_keys())
        for batch in batches:
            if batch not in known:
                continue  # never could be read: its failed partition says so
            stale_reading = [] if is_current(ledger.batch(batch)) else ["reader changed"]
            found = [*stale_reading, *_reasons(instance, stage, ledger, batch, today)]
            reasons = found or (["forced"] if force else [])
            if reasons:
                stale[batch] = ", ".join(reasons)
    return stale


def _reasons(instance: dg.DagsterInstance, stage: Stage, ledger: Ledger, batch: str, today: Today) -> list[str]:
    try:
        decision = ledger.decision(batch, stage.handed_over(instance, "entropy_threshold", batch, "decision_key"))
    except BadInput:
        return ["no verdict yet"]
    scan = ledger.get(Scan, decision.scan)
    return [*_scores_are_stale(scan, today), *_verdicts_are_stale(decision, ledger, batch, today)]


def _scores_are_stale(scan: Scan, today: Today) -> Iterator[str]:
    settings = {**today.scoring.to_dict(), "dtype": today.identity.dtype}
    if scan.model_fingerprint != today.identity.weights:
        yield "model changed"
    if scan.tokenizer_fingerprint != today.identity.tokenizer:
        yield "tokenizer changed"
    if sha256_json(dict(scan.scoring)) != sha256_json(settings):
        yield "scoring settings changed"


def _verdicts_are_stale(decision: Decision, ledger: Ledger, batch: str, today: Today) -> Iterator[str]:
    then, now = dict(decision.settings), today.decision.to_dict()
    if decision.policy != today.decision.judged_by:
        yield "policy changed"
    for part, name in (("rules", "rules"), ("threshold", "threshold settings"), ("limits", "gate limits")):
        if sha256_json(then.get(part)) != sha256_json(now[part]):
            yield f"{name} changed"
    if overrides_digest(ledger.active_overrides(batch)) != decision.overrides_digest:
        yield "overrides changed"


def plan(context: dg.OpExecutionContext, stage: Stage, force: bool) -> Iterator[dg.Output]:
    """Compares every batch's last verdict with the settings of today, and writes what is stale where `requests` reads
    it when this run has ended."""
    place: Store = stage.given(context.resources, "store").store
    model: ModelResource = stage.given(context.resources, "model")
    judging: JudgingResource = stage.given(context.resources, "judging")
    decision, _ = settle(judging.decision, place)
    today = Today(model.identify(), model.scoring, decision)
    stale = find_stale(context.instance, stage, place, today, force)
    for batch, why in stale.items():
        context.log.info(f"{batch}: {why}")
    write_json(place.rescan_plan(context.run_id), stale)
    columns = dg.TableSchema([dg.TableColumn("batch"), dg.TableColumn("why")])
    records = [dg.TableRecord({"batch": batch, "why": why}) for batch, why in list(stale.items())[:SHOWN]]
    metadata: dict[str, Any] = {
        "stale_batches": len(stale),
        "reasons": dict(Counter(stale.values())),
        "first": dg.MetadataValue.table(records, columns),
        "settings": asdict(today.decision),
    }
    yield dg.Output(None, metadata=metadata)


def requests(context: dg.RunStatusSensorContext, stage: Stage, place: Store) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """The scans that a run of the re-scan found necessary."""
    run_id = context.dagster_run.run_id
    found = place.rescan_plan(run_id)
    stale: dict[str, str] = read_json(found) if found.exists() else {}
    batches = context.instance.get_dynamic_partitions(stage.batches)
    busy = in_flight(context.instance, stage, batches) & stale.keys()
    if busy:
        context.log.info(one_line(f"left out, a run has or awaits them: {', '.join(sorted(busy))}"))
    wanted = {batch: why for batch, why in stale.items() if batch not in busy}
    if not wanted:
        yield dg.SkipReason(
            f"{len(busy)} stale batches are in runs that have not ended" if busy else "no batch is stale"
        )
    yield from run_requests(stage, wanted, batches, run_id)


def in_flight(instance: dg.DagsterInstance, stage: Stage, batches: Sequence[str]) -> set[str]:
    """The batches that a run which waits or works is going to judge: a second run would do the same work again."""
    place = {batch: number for number, batch in enumerate(batches)}
    verdicts = stage.names.key("entropy_threshold")
    found: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=GOING)):
        if run.asset_selection and verdicts not in run.asset_selection:
            continue
        alone = run.tags.get(PARTITION_NAME_TAG, "")
        first = place.get(run.tags.get(ASSET_PARTITION_RANGE_START_TAG, alone))
        last = place.get(run.tags.get(ASSET_PARTITION_RANGE_END_TAG, alone))
        if first is not None and last is not None:
            found.update(batches[first : last + 1])
    return found


def run_requests(stage: Stage, stale: dict[str, str], batches: Sequence[str], run_id: str) -> Iterator[dg.RunRequest]:
    """Neighbours among the partitions share a run, and so one load of the model."""
    for group in neighbours(batches, set(stale), MAX_TOGETHER if stage.together else 1):
        why = Counter(stale[batch] for batch in group).most_common(3)
        tags = {REASON: "; ".join(f"{reason} ({count})" for reason, count in why)[:250]}
        key, job = f"rescan:{run_id}:{group[0]}", stage.names.of("scan_batch")
        if len(group) == 1:
            yield dg.RunRequest(run_key=key, partition_key=group[0], tags=tags, job_name=job)
        else:
            tags |= range_tags(group[0], group[-1]) | {"gradsentry/batches": str(len(group))}
            yield dg.RunRequest(run_key=key, tags=tags, job_name=job)
