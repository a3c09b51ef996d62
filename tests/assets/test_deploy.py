"""What the deployment guide says is tried: the shipped dagster.yaml, and the commands for backup and restore."""

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.instance.config import PoolGranularity
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.test_utils import create_run_for_test, freeze_time
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._time import get_current_datetime

from gradsentry_assets.definitions import defs
from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, run, write

ROOT = Path(__file__).parents[2]
STEPS = ("raw_samples", "gradient_entropy", "entropy_threshold", "clean_dataset")


@pytest.fixture
def shipped(tmp_path: Path) -> dg.DagsterInstance:
    """An instance as the project ships it, in a folder of its own."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_dagster_reads_every_setting_as_it_is_meant(shipped: dg.DagsterInstance) -> None:
    assert (shipped.telemetry_enabled, shipped.nux_enabled) == (False, False)

    concurrency = shipped.get_concurrency_config()
    assert concurrency.run_queue_config is not None
    assert concurrency.run_queue_config.max_concurrent_runs == 4
    assert concurrency.run_queue_config.op_concurrency_slot_buffer == 1
    assert concurrency.pool_config.pool_granularity == PoolGranularity.OP
    assert concurrency.pool_config.default_pool_limit == 1
    assert isinstance(shipped.run_coordinator, QueuedRunCoordinator)
    assert shipped.run_coordinator.dequeue_interval_seconds == 2

    assert shipped.run_monitoring_enabled
    assert shipped.run_monitoring_start_timeout_seconds == 300
    assert shipped.run_monitoring_cancel_timeout_seconds == 180
    assert shipped.run_monitoring_poll_interval_seconds == 30
    assert (shipped.run_retries_enabled, shipped.run_retries_max_retries) == (True, 2)
    assert not shipped.run_retries_retry_on_asset_or_op_failure

    assert shipped.get_sensor_settings() == {"use_threads": True, "num_workers": 4, "num_submit_workers": 4}
    assert shipped.get_scheduler_settings() == {"use_threads": True, "num_workers": 2}
    assert shipped.code_server_process_startup_timeout == 60
    for kind, days in (
        (InstigatorType.SENSOR, (1, 30, 30, -1)),
        (InstigatorType.AUTO_MATERIALIZE, (1, 30, 30, -1)),
        (InstigatorType.SCHEDULE, (30, 90, 90, -1)),
    ):
        kept = shipped.get_tick_retention_settings(kind)
        states = (TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE, TickStatus.STARTED)
        assert tuple(kept[state] for state in states) == days


@pytest.mark.parametrize("pool", ["gpu", "duckdb"])
def test_a_pool_has_one_place_and_a_dead_run_gives_it_back_after_a_minute(
    shipped: dg.DagsterInstance, pool: str
) -> None:
    dead, next_one = (create_run_for_test(shipped, status=dg.DagsterRunStatus.STARTED) for _ in range(2))
    with InstanceConcurrencyContext(shipped, dead) as holding, InstanceConcurrencyContext(shipped, next_one) as waiting:
        assert holding.claim(pool, "step")
        assert not waiting.claim(pool, "step")
    shipped.report_run_failed(dead)
    ended = get_current_datetime()

    def free(after: int) -> bool:
        with freeze_time(ended + timedelta(seconds=after)):
            list(execute_concurrency_slots_iteration(SimpleNamespace(instance=shipped), logging.getLogger("free")))
        with InstanceConcurrencyContext(shipped, next_one) as waiting:
            return waiting.claim(pool, "step")

    assert not free(after=30)
    assert free(after=70)


def test_the_pools_are_those_of_the_assets() -> None:
    pools = {name: defs.get_assets_def(name).op.pool for name in STEPS}
    assert pools == {name: "gpu" if name == "gradient_entropy" else "duckdb" for name in STEPS}


def commands(heading: str) -> list[str]:
    """The blocks of commands in a section of the guide."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.replace("\n    ", "\n") for block in re.findall(r"^    (.+(?:\n    .+)*)", section, re.MULTILINE)]


def evidence(store: Store) -> dict[str, bytes]:
    """Every file in the folders of the store."""
    files = [path for path in store.home.glob("*/**/*") if path.is_file()]
    return {str(path.relative_to(store.home)): path.read_bytes() for path in files}


def test_backup_and_restore_as_the_guide_says(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    store, backup = Store.default(), tmp_path / "backup"
    backup.mkdir()
    result = run(write(tmp_path / "rows.jsonl", ["{broken", *lines(range(24))]), tiny_model(), store)
    assert result.published is not None
    save, restore = commands("Backup and restore")
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}

    def shell(block: str) -> subprocess.CompletedProcess[str]:
        for place, here in (("/var/lib/gradsentry/store", store.home), ("/backup", backup)):
            block = block.replace(place, str(here))
        return subprocess.run(["bash", "-ec", block], env=environment, capture_output=True, text=True, check=False)

    # Somebody is writing when the backup begins: it waits for them, and has what they wrote.
    begun, saved = threading.Event(), []

    def save_it() -> None:
        begun.wait()
        saved.append(shell(save))

    thread = threading.Thread(target=save_it)
    thread.start()
    with open_ledger(store.ledger) as ledger:
        word = Override(sample_id="a" * 64, action="flag", made_by="Ada", reason="seen elsewhere")
        ledger.record_overrides([word])
        begun.set()
        thread.join(1.0)
        assert saved == []
    thread.join()
    assert saved[0].returncode == 0, saved[0].stderr

    with open_ledger(store.ledger) as ledger:  # after the backup: not in it, and not missed by the check
        ledger.record_overrides([word])
    before = evidence(store)
    store.home.rename(tmp_path / "lost")
    done = shell(restore)
    assert done.returncode == 0, done.stdout + done.stderr
    assert evidence(store) == before
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert [said.made_by for said in ledger.find(Override)] == ["Ada"]
