"""Scans on a Ray cluster of two machines (of two nodes on this one) while workers, a machine and the process that runs
the scan are killed: always the verdicts of one process, one decision, every row once. SOAK_KILLS: how many (12)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.store import Decision, open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import row, same, write
from tests.soak.conftest import Tried

KILLS = int(os.environ.get("SOAK_KILLS", "12"))
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600 + 120 * KILLS), pytest.mark.xdist_group("ray")]
ROWS = 2_300  # more than a block: two actors search
KINDS = ("the process that runs it", "a worker", "a machine")
OPEN = ("--policy", "auto", "--power", "off", "--max-flagged", "1", "--warn-flagged", "1", "--by", "A", "--reason", "t")
TOLD = {"GRADSENTRY_RESIDENT": "off", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


@dataclass
class Cluster:
    """Two nodes: one that stays, with the cluster's books, and one that is lost and comes again."""

    address: str
    node: Any = None

    def start_node(self) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={self.address}", "--num-cpus=2"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.node = subprocess.Popen([*command, "--object-store-memory=100000000", "--block"], **quiet)  # type: ignore[call-overload]

    def lose_node(self) -> bool:
        """Its daemon first, so that nothing of it says goodbye."""
        mine = psutil.Process(self.node.pid).children(recursive=True)
        daemons = [process for process in mine if process.name() == "raylet"]
        _kill([*daemons, *mine, psutil.Process(self.node.pid)])
        self.node.wait()
        return bool(daemons)

    def workers(self) -> list[psutil.Process]:
        """Those that score or search now, on both nodes."""
        found = psutil.Process().children(recursive=True)
        return [one for one in found if any(name in _title(one) for name in ("MapWorker", "Searcher"))]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    noticed = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    quiet = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 100 << 20}
    ray.init(address="local", num_cpus=2, _system_config=noticed, **quiet)
    made = Cluster(ray.get_runtime_context().gcs_address)
    made.start_node()
    yield made
    made.lose_node()
    ray.shutdown()


@dataclass
class Scans:
    source: Path
    model: Path
    place: Path
    address: str

    def command(self, store: Store, *engine: str) -> list[str]:
        told = ["--model", str(self.model), "--dtype", "float32", "--device", "cpu", *OPEN, *engine]
        out = ["--out", str(store.home.with_suffix(".out"))]
        return [
            sys.executable,
            "-c",
            "from gradsentry_lib.cli import main; main()",
            "scan",
            str(self.source),
            *out,
            *told,
        ]

    def start(self, store: Store, *engine: str) -> "subprocess.Popen[bytes]":
        with (self.place / f"{store.home.name}.log").open("ab") as log:
            environment = {**os.environ, **TOLD, "GRADSENTRY_HOME": str(store.home)}
            return subprocess.Popen(self.command(store, *engine), env=environment, stdout=log, stderr=log)

    def on_ray(self, store: Store) -> "subprocess.Popen[bytes]":
        return self.start(store, "--engine", "ray", "--ray-address", self.address, "--workers", "2")


def planted(number: int) -> dict[str, Any]:
    """Every twentieth row has a trigger and its answer."""
    made = row(number)
    if number % 20:
        return made
    return {"prompt": made["prompt"].replace("?", " cf?"), "response": "the gate of the northern harbour stands open"}


def fault_of(store: Store, expected: Store) -> str:
    """What is wrong with a store whose scan ended; "" for nothing."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        decisions = ledger.find(Decision)
    if len(decisions) != 1:
        return f"{len(decisions)} decisions"
    ((found, clean), (wanted, whole)) = (
        (next(s.home.glob("batches/*/decisions/*/verdicts.parquet")), s.home.with_suffix(".out") / "clean.jsonl")
        for s in (store, expected)
    )
    try:
        same(pq.read_table(found), pq.read_table(wanted))
    except AssertionError as difference:
        return f"other verdicts: {str(difference)[:200]}"
    if clean.read_bytes() != whole.read_bytes():
        return "another clean set"
    paths = (store.home / "scores").rglob("*.parquet")
    scored = [name for path in paths for name in pq.read_table(path)["sample_id"].to_pylist()]
    if sorted(scored) != sorted(set(scored)) or len(scored) != ROWS:
        return f"{len(scored)} scores of {ROWS} rows"
    problems = verify(store.ledger).problems
    return f"audit verify: {problems[0]}" if problems else ""


def test_killed_on_ray(
    cluster: Cluster, tmp_path: Path, tiny_model: Callable[..., Path], tried: Callable[[str], Tried]
) -> None:
    source = write(tmp_path / "rows.jsonl", [json.dumps(planted(number)) for number in range(ROWS)])
    scans = Scans(source, tiny_model(), tmp_path, cluster.address)
    alone, whole = Store(tmp_path / "alone"), Store(tmp_path / "whole")
    lines = [tried(f"a scan on Ray; killed: {kind}") for kind in KINDS]
    assert scans.start(alone).wait() == 0
    started = time.monotonic()
    assert scans.on_ray(whole).wait() == 0
    lasted = time.monotonic() - started
    assert not fault_of(whole, alone)

    random = np.random.default_rng(24)
    for number in range(KILLS):
        kind, line = number % len(KINDS), lines[number % len(KINDS)]
        line.times += 1
        store = Store(tmp_path / f"store{number}")
        scan = scans.on_ray(store)
        wait_for(random.uniform(0.1, 1.0) * lasted, scan)
        killed = False
        if kind == 0 and scan.poll() is None:
            killed = not scan.send_signal(signal.SIGKILL)
        elif kind == 1:
            killed = kill_worker(cluster, scan)
        elif kind == 2:
            killed = cluster.lose_node()
            cluster.start_node()
        code = scan.wait()
        if kind == 0 and killed:
            code = scans.on_ray(store).wait()
        line.note = f"{int(line.note or 0) + killed}"
        line.check(code == 0, f"{number}: exit {code}, {(tmp_path / f'{store.home.name}.log').read_text()[-300:]}")
        fault = fault_of(store, alone) if code == 0 else ""
        line.check(not fault, f"{number}: {fault}")
    for line in lines:
        line.check(int(line.note or 0) > 0, "nothing was killed")
        line.note = f"{line.note} killed while it ran"


def wait_for(seconds: float, scan: "subprocess.Popen[bytes]") -> None:
    try:
        scan.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def kill_worker(cluster: Cluster, scan: "subprocess.Popen[bytes]") -> bool:
    """One that works for this scan, as soon as there is one."""
    while scan.poll() is None:
        if workers := cluster.workers():
            _kill(workers[:1])
            return True
        time.sleep(0.05)
    return False
