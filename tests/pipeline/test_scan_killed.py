"""A scan that is killed goes on where it stopped, and comes to the same verdicts."""

import multiprocessing
import os
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, run, same, verdicts, write
from tests.pipeline.killed import scan_once

KILLS = 20


@pytest.fixture(scope="module")
def warm() -> ForkServerContext:
    """Starts processes that have imported everything but done nothing yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipeline.killed"])
    return context


def timed(process: Any) -> float:
    """Seconds that a process takes that is left alone."""
    started = time.perf_counter()
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - started


def scored(home: Path) -> list[str]:
    """The samples in the score cache, each as often as it is there."""
    shards = (home / "scores").rglob("*.parquet")
    return [sample_id for path in shards for sample_id in pq.read_table(path)["sample_id"].to_pylist()]


@pytest.mark.slow
def test_killed_twenty_times(warm: ForkServerContext, tmp_path: Path, model: Path) -> None:
    """By turns after a random time and at a random touch of a file. No kept score is lost, none is made twice."""
    source = write(tmp_path / "rows.jsonl", ["{broken", *lines([*range(120), *range(30)])])
    plain = Store(tmp_path / "plain")
    table = verdicts(run(source, model, plain), plain)
    lasted = timed(warm.Process(target=scan_once, args=(source, model, tmp_path / "whole")))

    random = np.random.default_rng(5)
    kills = finished = 0
    home = tmp_path / "store-0"
    kept: set[str] = set()
    while kills < KILLS:
        by_time = kills % 2 == 0
        last_event = None if by_time else int(random.integers(1, 150))
        process = warm.Process(target=scan_once, args=(source, model, home, last_event))
        process.start()
        process.join(random.uniform(0, lasted) if by_time else None)
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            now = scored(home)
            assert len(now) == len(set(now)) and kept <= set(now)
            kept = set(now)
            continue
        assert process.exitcode == 0
        finished += 1
        check(source, model, Store(home), table)
        home, kept = tmp_path / f"store-{finished}", set()
    check(source, model, Store(home), table)


def check(source: Path, model: Path, store: Store, expected: object) -> None:
    """One more scan, not killed: the verdicts of a scan that never was, every row once, the records in order."""
    result = run(source, model, store)
    same(verdicts(result, store), expected)
    assert result.published is not None
    assert result.published.clean_rows == result.decided.clean
    assert result.published.quarantined_rows == result.decided.flagged
    assert (result.batch.read, result.batch.rejected, result.decided.unscored) == (151, 1, 0)
    assert len(set(scored(store.home))) == 120
    assert verify(store.ledger).problems == ()
