"""A Dagster worker that is killed inside each of the four steps: the next run comes to the same verdicts."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import same
from tests.soak.conftest import Bench, Machine, Tried
from tests.soak.warm import STEPS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
EVENTS = tuple(map(int, os.environ.get("SOAK_EVENTS", "1 4 12 0").split()))
# At which touch of a file; 0: when the step is through, before Dagster has heard of it


def test_a_worker_killed_in_each_step(
    machine: Machine, bench: Bench, tmp_path: Path, tried: Callable[[str], Tried]
) -> None:
    for step in STEPS:
        line = tried(f"a Dagster worker killed in {step}, then run again")
        for event in EVENTS:
            line.times += 1
            place = tmp_path / f"{step}{event}"
            (place / "dagster").mkdir(parents=True)
            store = Store(place / "store")
            settings = {
                "DAGSTER_HOME": str(place / "dagster"),
                "GRADSENTRY_MODEL": str(bench.model),
                "GRADSENTRY_DEVICE": "cpu",
                "GRADSENTRY_MAX_FLAGGED": "1",
                "GRADSENTRY_LIMITS_BY": "Ada",
                "GRADSENTRY_LIMITS_REASON": "a test",
                "GRADSENTRY_WARN_FLAGGED": "1",
            }
            command = ["dagster", str(bench.source)]
            killed = machine.run(command, store.home, environment=settings, kill=[step, event])
            line.check(killed.code == -9, f"event {event}: exit {killed.code} instead of a kill, {killed.said[-300:]}")
            again = machine.run(command, store.home, environment=settings)
            line.check(again.code == 0, f"event {event}: exit {again.code}, {again.said[-300:]}")
            fault = _fault(store, bench)
            line.check(not fault, f"event {event}: {fault}")


def _fault(store: Store, bench: Bench) -> str:
    """What is wrong with a store whose one batch was scanned; "" for nothing."""
    cleans = list(store.home.glob("batches/*/clean/*/clean.jsonl"))
    if [path.read_bytes() for path in cleans] != [bench.clean]:
        return f"{len(cleans)} clean sets, or another one"
    (found,) = store.home.glob("batches/*/decisions/*/verdicts.parquet")
    try:
        same(pq.read_table(found), bench.verdicts)
    except AssertionError as difference:
        return f"other verdicts: {str(difference)[:200]}"
    problems = verify(store.ledger).problems
    return f"audit verify: {problems[0]}" if problems else ""
