"""A file system without locks, a clock that goes back, too little memory."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gradsentry_lib.store.paths import Store
from gradsentry_lib.system_errors import ADDRESSES
from tests.soak.conftest import TENTHS, Bench, Machine, Tried

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
DAY = 86_400


def test_a_file_system_without_locks(
    machine: Machine, bench: Bench, tmp_path: Path, tried: Callable[[str], Tried]
) -> None:
    line = tried("a file system without flock: writing is refused, reading works, with locks it goes on")
    out, store = tmp_path / "out", Store(tmp_path / "store")
    without = {"no_locks": 1}
    commands = (
        bench.command(out),
        ["release", "0" * 64, "--by", "Ada", "--reason", "known"],
        ["gate", "accept", "rows", "--by", "Ada", "--reason", "known"],
        ["audit", "verify"],
    )
    for known in (False, True):  # on an empty store, then on one with a batch
        for command in commands:
            line.times += 1
            ended = machine.run(command, store.home, trouble=without)
            line.check(ended.is_plain, f"{command[:2]}: exit {ended.code}, {ended.said[-300:]}")
            if command[0] == "scan":
                line.check("no file locks" in ended.said, f"scan: {ended.said[-300:]}")
        line.check(known or not list(out.glob("clean*")), "published without locks")
        assert machine.run(bench.command(out), store.home).code == 0
        line.check(not bench.whole(out, store), bench.whole(out, store))


def test_a_clock_set_back_a_day(machine: Machine, bench: Bench, tmp_path: Path, tried: Callable[[str], Tried]) -> None:
    line = tried("the clock set back a day between two runs, then a day ahead")
    out, store = tmp_path / "out", Store(tmp_path / "store")
    for shift in (0, -DAY, DAY, -400 * DAY):
        for more in ([], ["--threshold", "0.5"], []):
            line.times += 1
            ended = machine.run([*bench.command(out), *more], store.home, trouble={"clock_shift": shift})
            line.check(ended.code == 0, f"{shift} s: exit {ended.code}, {ended.said[-300:]}")
            if not more:
                line.check(not bench.whole(out, store), f"{shift} s: {bench.whole(out, store)}")
        for command in (["audit", "verify"], ["gate", "show", "rows"]):
            ended = machine.run(command, store.home, trouble={"clock_shift": shift})
            line.check("Traceback" not in ended.said, f"{command}: {ended.said[-300:]}")


PEAK = "import resource, sys; from gradsentry_lib.cli import main\ntry:\n main()\nfinally:\n" + (
    " said = open('/proc/self/status').read(); print(said.partition('VmPeak:')[2].split()[0], file=sys.stderr)"
)


def test_memory_of_every_tenth_of_the_need(bench: Bench, tmp_path: Path, tried: Callable[[str], Tried]) -> None:
    line = tried("RLIMIT_AS at every tenth of the need, then without")

    def scan(name: str, limit: int | None, program: str) -> tuple[int, str, Path]:
        out = tmp_path / f"out{name}"
        environment = {**os.environ, "GRADSENTRY_HOME": str(tmp_path / f"store{name}"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program, *bench.command(out)],
            env=environment,
            capture_output=True,
            text=True,
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))),
        )
        return done.returncode, done.stderr, out

    code, said, _ = scan("peak", None, PEAK)
    assert code == 0, said
    need = int(said.split()[-1]) << 10
    ended: list[str] = []  # tenths at which a native library ended the process, which nothing in Python can help
    program = "from gradsentry_lib.cli import main; main()"
    for tenth in TENTHS:
        line.times += 1
        code, said, out = scan(str(tenth), need * tenth // 10, program)
        told = [text for text in said.splitlines() if text.strip()]
        plain = code == 0 or (code == 2 and len(told) == 1 and told[0].startswith("gradsentry: "))
        if code < 0 or code == 127:  # by a signal, or the dynamic loader gave up: not in this program's hand
            ended.append(str(tenth))
            plain = tenth * need // 10 >= ADDRESSES
        line.check(plain, f"{tenth} tenths: exit {code}, {said[-300:]}")
        line.check(not bench.half_published(out), f"{tenth} tenths: {bench.half_published(out)}")
        code, said, out = scan(str(tenth), None, program)
        fault = bench.whole(out, Store(tmp_path / f"store{tenth}")) if code == 0 else f"exit {code}: {said[-300:]}"
        line.check(not fault, f"after {tenth} tenths: {fault}")
    signals = f"; at {', '.join(ended)} tenths a native library ended the process" if ended else ""
    line.note = f"need: {need >> 20} MiB of addresses{signals}"
