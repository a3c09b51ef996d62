"""Eight writers on one store, by three ways, for minutes (SOAK_MINUTES, 10): nobody fails, nothing is lost."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gradsentry_lib.store.paths import Store
from tests.assets.test_many_writers import WAYS, faults_of, settings_for
from tests.assets.writers import work
from tests.pipeline.builder import lines, write
from tests.soak.conftest import Tried

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
pytestmark = [pytest.mark.soak, pytest.mark.timeout(int(MINUTES * 60) + 1800)]
ROWS, AT_ONCE = 12, 3


def write_on(way: str, number: int, place: Path, settings: dict[str, str], until: float) -> None:
    """Scans new batches, three at a time, until the time is up; the first of them every writer takes as well."""
    turn = 0
    while not turn or time.time() < until:
        start = (turn * len(WAYS) + number) * AT_ONCE
        names = [f"turn{turn}-shared", *(f"turn{turn}-{number}-{n}" for n in range(1, AT_ONCE))]
        firsts = [turn, *range(1_000_000 + start, 1_000_000 + start + AT_ONCE - 1)]
        sources = [
            write(place / str(number) / f"{name}.jsonl", ["{broken", *lines(range(first * ROWS, first * ROWS + ROWS))])
            for name, first in zip(names, firsts, strict=True)
        ]
        work(way, sources, settings)
        turn += 1


def test_eight_writers_for_minutes(tmp_path: Path, tried: Callable[[str], Tried]) -> None:
    line = tried(f"eight writers on one store for {MINUTES:g} minutes")
    store = Store.default()
    settings = settings_for(tmp_path, store)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.assets.writers"])
    until = time.time() + MINUTES * 60
    processes = []
    for number, way in enumerate(WAYS):
        (tmp_path / str(number)).mkdir()
        processes.append(context.Process(target=write_on, args=(way, number, tmp_path, settings, until)))
    for process in processes:
        process.start()
    for number, process in enumerate(processes):
        process.join()
        line.check(process.exitcode == 0, f"writer {number} ({WAYS[number]}): exit {process.exitcode}")
    names = {path.stem for path in tmp_path.glob("[0-9]*/*.jsonl")}
    line.times = len(names)
    line.faults += faults_of(store, names, ROWS)
    line.check(len(names) > len(WAYS), "nothing was written")
    line.note = f"{len(names)} batches"
