"""What the long tests share: a machine in trouble (machine.c), scans in it, and the table of what held."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, write

OPEN = ("--policy", "paper", "--max-flagged", "1", "--warn-flagged", "1", "--by", "Ada", "--reason", "a test")
ROWS = 40
TENTHS = [int(tenth) for tenth in os.environ.get("SOAK_TENTHS", "1 2 3 4 5 6 7 8 9 10").split()]  # of a need


@dataclass
class Tried:
    """A line of the table: what was tried, how often, and what did not hold."""

    what: str
    times: int = 0
    faults: list[str] = field(default_factory=list)
    note: str = ""

    def check(self, held: bool, fault: str) -> None:
        if not held:
            self.faults.append(fault)


TABLE = pytest.StashKey[list[Tried]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Tried]]:
    """Opens a line of the table; at the end of the test all that did not hold fails it, together."""
    mine: list[Tried] = []

    def start(what: str) -> Tried:
        mine.append(Tried(what))
        return mine[-1]

    yield start
    request.config.stash[TABLE].extend(mine)
    faults = [f"{line.what}: {fault}" for line in mine for fault in line.faults]
    assert not faults, f"{len(faults)} did not hold:\n" + "\n".join(faults[:20])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[TABLE]
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "tests/soak" in report.nodeid]
    if not rows and not skipped:
        return
    table = Table("tried", "times", "held", "remarks", title="What was tried and what held")
    for line in rows:
        held = line.times - len(set(line.faults)) if line.times else 0
        mark = "[green]all[/]" if not line.faults else f"[red]{max(held, 0)}[/]"
        table.add_row(line.what, str(line.times), mark, line.note or "; ".join(line.faults[:2])[:200])
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        table.add_row(report.nodeid.rpartition("::")[2], "0", "[yellow]skipped[/]", reason.removeprefix("Skipped: "))
    Console(width=140, file=terminalreporter._tw._file).print(table)


class Machine:
    """Runs jobs of warm.py, one after the other."""

    def __init__(self, library: Path | None, place: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if library is not None:
            environment["LD_PRELOAD"] = str(library)
        self.place, self.number = place, 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.warm"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        assert json.loads(self.output.readline()) == {"ready": True}

    def run(self, command: list[str], home: Path, **job: Any) -> "Ended":
        self.number += 1
        files = self.place / f"job{self.number}"
        environment = {"GRADSENTRY_HOME": str(home), "GRADSENTRY_POLICY": "paper", **job.pop("environment", {})}
        told = {"command": command, "environment": environment, "files": str(files), **job}
        self.input.write(json.dumps(told) + "\n")
        self.input.flush()
        answer = json.loads(self.output.readline())
        said = Path(f"{files}.err").read_text(encoding="utf-8", errors="replace")
        return Ended(answer["code"], said, answer["writes"])


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit code, what it said on stderr, how many writes it made."""

    code: int
    said: str
    writes: int

    @property
    def is_plain(self) -> bool:
        """Success, or one line that is meant for people."""
        if self.code == 0:
            return True
        told = [line for line in self.said.splitlines() if line.strip()]
        return self.code in (2, 3, 4) and len(told) == 1 and told[0].startswith("gradsentry: ")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Needs a C compiler, for what stands between a program and the system."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler here (or no Linux) to put a machine in trouble")
    place = tmp_path_factory.mktemp("machine")
    library = place / "machine.so"
    source = Path(__file__).with_name("machine.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    made = Machine(library, place)
    yield made
    made.input.close()
    made.process.wait(30)


@dataclass
class Bench:
    """A source, a model, and what a scan of them in peace gives."""

    source: Path
    model: Path
    clean: bytes
    quarantine: int
    verdicts: Any

    def command(self, out: Path) -> list[str]:
        told = ["scan", str(self.source), "--out", str(out), "--model", str(self.model), "--dtype", "float32"]
        return [*told, "--device", "cpu", *OPEN]

    def half_published(self, out: Path) -> str:
        """What is wrong with the clean set in `out`; "" where it is whole or not there at all."""
        for path in out.glob("clean*"):
            if path.read_bytes() != self.clean:
                return f"{path.name} is not the clean set"
        return ""

    def whole(self, out: Path, store: Store) -> str:
        """What is wrong after a scan that ended well; "" for nothing."""
        if not (out / "clean.jsonl").exists() or self.half_published(out):
            return "no whole clean set"
        if len((out / "quarantine.jsonl").read_bytes().splitlines()) != self.quarantine:
            return "quarantine is not whole"
        problems = verify(store.ledger).problems
        return f"audit verify: {problems[0]}" if problems else ""


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Path]) -> Bench:
    from tests.pipeline.builder import run, verdicts

    place, model = tmp_path_factory.mktemp("bench"), tiny_model()
    source = write(place / "rows.jsonl", ["{broken", *lines(range(ROWS))])
    store = Store(place / "store")
    result = run(source, model, store)
    assert result.published is not None
    clean, quarantine = result.published.clean.read_bytes(), result.published.quarantined_rows
    return Bench(source, model, clean, quarantine, verdicts(result, store))
