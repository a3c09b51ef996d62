"""A disk that fills up at any write: one line, nothing half published, and the same command goes on afterwards."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gradsentry_lib.store.paths import Store
from tests.pipeline.test_scan_troubles import remount, small_disk
from tests.soak.conftest import TENTHS, Bench, Machine, Tried

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
EVERY = int(os.environ.get("SOAK_EVERY", "10"))  # writes


def test_no_space_at_every_tenth_write(
    machine: Machine, bench: Bench, tmp_path: Path, tried: Callable[[str], Tried]
) -> None:
    line = tried(f"ENOSPC at every {EVERY}th write, then again with space")
    whole = machine.run(bench.command(tmp_path / "out"), tmp_path / "store", trouble={"nospace_after": -1})
    assert whole.code == 0, whole.said
    plain = 0
    for number in range(1, whole.writes + 1, EVERY):
        line.times += 1
        out, store = tmp_path / f"out{number}", Store(tmp_path / f"store{number}")
        ended = machine.run(bench.command(out), store.home, trouble={"nospace_after": number})
        plain += ended.code != 0
        line.check(ended.is_plain, f"write {number}: exit {ended.code}, {ended.said[-300:]}")
        line.check(not bench.half_published(out), f"write {number}: {bench.half_published(out)}")
        again = machine.run(bench.command(out), store.home, trouble={"nospace_after": -1})
        fault = bench.whole(out, store) if again.code == 0 else f"exit {again.code}: {again.said[-300:]}"
        line.check(not fault, f"after write {number}: {fault}")
    line.note = f"of {whole.writes} writes; {plain} ended with one line, {line.times - plain} with success"


def test_a_disk_of_every_tenth_of_the_need(
    machine: Machine, bench: Bench, tmp_path: Path, tried: Callable[[str], Tried]
) -> None:
    """A real small file system, for what a stand-in does not show: what the kernel does when it is full."""
    line = tried("a disk of every tenth of the need, then enlarged")
    assert machine.run(bench.command(tmp_path / "whole" / "out"), tmp_path / "whole" / "store").code == 0
    need = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file())
    for tenth in TENTHS:
        place = tmp_path / f"disk{tenth}"
        with small_disk(place, str(need * tenth // 10)):
            line.times += 1
            out, store = place / "out", Store(place / "store")
            ended = machine.run(bench.command(out), store.home)
            line.check(ended.is_plain, f"{tenth} tenths: exit {ended.code}, {ended.said[-300:]}")
            line.check(not bench.half_published(out), f"{tenth} tenths: {bench.half_published(out)}")
            remount(place, "size=500m")
            again = machine.run(bench.command(out), store.home)
            fault = bench.whole(out, store) if again.code == 0 else f"exit {again.code}: {again.said[-300:]}"
            line.check(not fault, f"after {tenth} tenths: {fault}")
