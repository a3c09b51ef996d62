"""Keeps Dagster's history from growing for ever: old runs go, unless the UI still needs what they materialized.

Of the whole instance, so this is for one that is the stage's alone: no stage in somebody's project brings it along.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from gradsentry_lib.settings import value

DAYS: int = value("keep_runs_days")
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
AT_ONCE = 500  # runs deleted in one run of the job


def prune(instance: dg.DagsterInstance, before: datetime, most: int = AT_ONCE) -> tuple[int, int]:
    """Deletes ended runs created before that time, with their event logs. Returns how many went and how many stay.

    A run stays while it is the latest to materialize some batch of some asset: without its events the UI would call
    that batch missing. The ledger keeps its own record of every scan, whatever happens here.
    """
    asked = dg.RunsFilter(statuses=ENDED, created_before=before)
    deleted = kept = 0
    for record in instance.get_run_records(asked, ascending=True):
        if deleted == most:
            break
        run_id = record.dagster_run.run_id
        if _is_needed(instance, run_id):
            kept += 1
        else:
            instance.delete_run(run_id)
            deleted += 1
    return deleted, kept


def _is_needed(instance: dg.DagsterInstance, run_id: str) -> bool:
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    for entry in events:
        event = entry.dagster_event
        if event is None or event.asset_key is None:
            continue
        partitions = [event.partition] if event.partition else None
        asked = dg.AssetRecordsFilter(asset_key=event.asset_key, asset_partitions=partitions)
        latest = instance.fetch_materializations(asked, limit=1).records
        if latest and latest[0].run_id == run_id:
            return True
    return False


@dg.op(
    description=f"Deletes runs older than {DAYS} days whose results were replaced since (GRADSENTRY_KEEP_RUNS_DAYS)."
)
def delete_old_runs(context: dg.OpExecutionContext) -> None:
    deleted, kept = prune(context.instance, datetime.now(UTC) - timedelta(days=DAYS))
    context.log.info(f"{deleted} runs deleted, {kept} kept because a batch's latest result is theirs")
    context.add_output_metadata({"deleted": deleted, "kept": kept})


@dg.job(description="Deletes old runs and their event logs.")
def prune_runs() -> None:
    delete_old_runs()


weekly_pruning = dg.ScheduleDefinition(
    name="weekly_pruning",
    job=prune_runs,
    cron_schedule="0 4 * * 0",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes old runs every Sunday at 4:00 UTC.",
)

pruning = dg.Definitions(jobs=[prune_runs], schedules=[weekly_pruning])
