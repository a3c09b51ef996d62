"""A real `dagster dev` on a free port, driven over GraphQL: shared by the tests and the screenshot script."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds: a busy machine of two cores starts four processes and imports torch
Value = TypeVar("Value")


@dataclass(frozen=True)
class DagsterDev:
    """A running deployment. `home`: the store; `landing`: where files are dropped."""

    url: str
    home: Path
    landing: Path
    process: subprocess.Popen
    log: Path

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        assert "errors" not in said, said["errors"]
        return said["data"]

    def wait(self, what: str, look: Callable[[], Value | None], patience: float = PATIENCE) -> Value:
        """What `look` gives as soon as it is not empty."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if found := look():
                    return found
            except OSError:
                pass  # the web server is not up yet
            time.sleep(0.5)
        raise AssertionError(f"{what}: not seen; the end of the log:\n{self.log.read_text()[-3000:]}")

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """Newest first."""
        text = """query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results {
            runId status jobName tags { key value } } } } }"""
        asked = [{"key": key, "value": value} for key, value in tags.items()]
        found = self.query(text, filter={"tags": asked})["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def ended(self, **tags: str) -> list[dict[str, Any]] | None:
        """The runs, once there are any and all of them have ended."""
        found = self.runs(**tags)
        return found if found and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in found) else None

    def partitions(self, asset: str) -> dict[str, list[str]]:
        text = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
            assetPartitionStatuses { ... on DefaultPartitionStatuses {
                materializedPartitions failedPartitions unmaterializedPartitions } } } } }"""
        return self.query(text, key={"path": [asset]})["assetNodeOrError"]["assetPartitionStatuses"]

    def check(self, asset: str, name: str, partition: str) -> dict[str, Any]:
        """The last evaluation of one check over one partition: batches of one run are judged in any order."""
        text = """query($key: AssetKeyInput!, $name: String!, $partition: String!) {
            assetCheckExecutions(assetKey: $key, checkName: $name, partition: $partition, limit: 1) {
                evaluation { success description } } }"""
        found = self.query(text, key={"path": [asset]}, name=name, partition=partition)["assetCheckExecutions"]
        return found[0]["evaluation"]

    def drop(self, name: str, content: bytes) -> Path:
        """Puts a file into the landing folder, all at once."""
        self.landing.mkdir(parents=True, exist_ok=True)
        hidden = self.landing / f".{name}"
        hidden.write_bytes(content)
        return hidden.rename(self.landing / name)

    def workers(self) -> list[psutil.Process]:
        """The processes in which runs are executed."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        return found


@contextmanager
def dagster_dev(
    folder: Path, settings: dict[str, str] | None = None, project: Path | None = None, **replacements: str
) -> Iterator[DagsterDev]:
    """Starts the shipped workspace, or somebody's `project` (a folder of create-dagster's that holds the package shop),
    with the shipped dagster.yaml (`replacements` in its text) below `folder`."""
    home, landing, dagster_home = folder / "store", folder / "landing", folder / "dagster_home"
    dagster_home.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "dagster.yaml").read_text()
    for old, new in replacements.items():
        key = old + ":"
        assert key in text
        start = text.index(key)
        text = text[:start] + f"{key} {new}" + text[text.index("\n", start) :]
    (dagster_home / "dagster.yaml").write_text(text)
    port, log = free_port(), folder / "dagster.log"
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home),
        "GRADSENTRY_HOME": str(home),
        "GRADSENTRY_LANDING": str(landing),
        "OMP_NUM_THREADS": "1",
        **(settings or {}),
    }
    what = ["-m", "shop.definitions"] if project else ["-w", "workspace.yaml"]
    command = [str(Path(sys.executable).parent / "dagster"), "dev", *what, "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project or ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
    server = DagsterDev(f"http://127.0.0.1:{port}", home, landing, process, log)
    children: list[psutil.Process] = []
    try:
        server.wait("the web server", lambda: server.query("{ version }"))
        children = psutil.Process(process.pid).children(recursive=True)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        _, alive = psutil.wait_procs([*children, *server_children(process.pid)], timeout=20)
        for child in alive:
            child.kill()


def server_children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
