"""What starts runs of a stage: its job, the sensors, the nightly re-scan. What they do is imported when they do it."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from gradsentry_assets.stage import Stage
from gradsentry_lib import settings

RUNNING = dg.DefaultSensorStatus.RUNNING


class RescanConfig(dg.Config):
    """`force`: re-scan every batch. Scores are kept by content, so unchanged ones are not computed again."""

    force: bool = False


def build_scan_job(stage: Stage) -> Any:
    return dg.define_asset_job(
        stage.names.of("scan_batch"),
        selection=dg.AssetSelection.assets(*stage.keys),
        description="Scans batches from their source to their clean data set.",
    )


def build_landing(stage: Stage, scan_batch: Any) -> dg.SensorDefinition:
    """Of a stage whose source is a folder."""

    @dg.sensor(
        name=stage.names.of("landing"),
        job=scan_batch,
        minimum_interval_seconds=10,
        default_status=RUNNING,
        required_resource_keys=stage.needs("landing_folder", "store"),
        description=(
            "Takes in files that appear in the landing folder (GRADSENTRY_LANDING, else `landing` in the store, where "
            "none was named). A file is taken in when two looks in a row find it unchanged. Links, FIFOs, devices and "
            "files larger than GRADSENTRY_MAX_BYTES (64 GiB) are skipped; the events of raw_samples say which and why."
        ),
    )
    def landing(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from gradsentry_assets.landing import look

        folder, store = (stage.given(context.resources, name) for name in ("landing_folder", "store"))
        return look(context, folder, store, stage)

    return landing


def build_open_gates(stage: Stage) -> dg.SensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        stage.names.of("open_gates"),
        target=dg.AssetSelection.assets(*stage.keys),
        minimum_interval_seconds=30,
        default_status=RUNNING,
        use_user_code_server=True,  # the condition asks the ledger
        description="Publishes batches whose gate is open but whose clean data set was not made yet.",
    )


def build_alerts(stage: Stage) -> dg.SensorDefinition:
    @dg.sensor(
        name=stage.names.of("gate_alerts"),
        minimum_interval_seconds=30,
        default_status=RUNNING,
        required_resource_keys=stage.needs("store"),
        description="Posts to the webhook GRADSENTRY_WEBHOOK when a gate refuses a batch. Idle where none is set.",
    )
    def gate_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from gradsentry_assets.alerts import tell_refusals

        return tell_refusals(context, stage.given(context.resources, "store"))

    return gate_alerts


def build_rescan(stage: Stage, scan_batch: Any) -> dg.Definitions:
    """Of a stage whose partitions are its own: which of them are out of date, and the runs that put that right."""
    names = stage.names

    @dg.op(
        name=names.of("find_stale_batches"),
        out=dg.Out(dg.Nothing),
        required_resource_keys=stage.needs("store", "model", "judging"),
        description="Compares every batch's last verdict with the settings of today.",
    )
    def find_stale_batches(context: dg.OpExecutionContext, config: RescanConfig) -> Iterator[dg.Output]:
        from gradsentry_assets.rescan import plan

        yield from plan(context, stage, config.force)

    @dg.job(
        name=names.of("rescan"),
        description="Finds batches whose verdict is out of date and has them scanned again. `force`: all of them.",
    )
    def rescan() -> None:
        find_stale_batches()

    def start(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from gradsentry_assets.rescan import requests

        yield from requests(context, stage, stage.given(context.resources, "store").store)

    start_rescans = dg.RunStatusSensorDefinition(
        name=names.of("start_rescans"),
        run_status=dg.DagsterRunStatus.SUCCESS,
        run_status_sensor_fn=start,
        monitored_jobs=[rescan],
        request_jobs=[scan_batch],
        minimum_interval_seconds=15,
        default_status=RUNNING,
        required_resource_keys=stage.needs("store"),
        description=f"Starts the scans that a run of `{names.of('rescan')}` found necessary.",
    )
    nightly = dg.ScheduleDefinition(
        name=names.of("nightly_rescan"),
        job=rescan,
        cron_schedule=settings.value("rescan_cron"),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Re-scans what is out of date, every night at 3:00 UTC (GRADSENTRY_RESCAN_CRON).",
    )
    return dg.Definitions(jobs=[rescan], sensors=[start_rescans], schedules=[nightly])
