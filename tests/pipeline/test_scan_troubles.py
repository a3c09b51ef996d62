"""A store in trouble: without locks, read-only, full, half written. One line that says the way back, nothing lost."""

import errno
import logging
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gradsentry_lib import cli, settings
from gradsentry_lib.audit.verify import verify
from gradsentry_lib.errors import BusyStore
from gradsentry_lib.scoring.fingerprint import WEIGHTS, fingerprint
from gradsentry_lib.store import connection, lock, open_ledger
from gradsentry_lib.store.paths import Store
from gradsentry_lib.system_errors import explain
from tests.pipeline.builder import lines, write

pytestmark = pytest.mark.slow

OPEN = ("--policy", "paper", "--max-flagged", "1", "--warn-flagged", "1", "--by", "Ada", "--reason", "a test")


@pytest.fixture
def scan(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Runs `gradsentry scan` here; gives the exit code and what it said on stderr."""
    source = write(tmp_path / "rows.jsonl", lines(range(24)))

    def run(*more: str, command: tuple[str, ...] = ()) -> tuple[int, str]:
        told = ("scan", str(source), "--out", str(tmp_path / "out"), "--model", str(model), "--dtype", "float32", *OPEN)
        monkeypatch.setattr("sys.argv", ["gradsentry", *(command or told), *more])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, capsys.readouterr().err

    return run


def one_line(code: int, said: str) -> str:
    assert code == 2, said
    (line,) = said.strip().splitlines()
    assert line.startswith("gradsentry: ")
    return line


def test_a_store_without_locks_is_refused_and_can_still_be_read(scan: Callable, tmp_path: Path) -> None:
    store = Store.default()
    assert scan()[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        line = one_line(*scan())
        assert "no file locks" in line
        assert "local disk" in line
        assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
        code, said = scan(command=("audit", "verify"))
        assert code == 0, said
    assert scan()[0] == 0
    assert verify(store.ledger).problems == ()


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own, of limited size; skips where this user may not mount one."""
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True)
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


def test_a_full_disk(scan: Callable, tmp_path: Path) -> None:
    store = Store.default()
    with small_disk(store.home, "100k"):
        said = one_line(*scan())
        assert "the disk is full" in said
        assert "same command goes on" in said
        assert not list((tmp_path / "out").glob("clean*"))
        remount(store.home, "size=100m")
        code, said = scan()
        assert code == 0, said
        assert verify(store.ledger).problems == ()


def test_a_read_only_store(scan: Callable, tmp_path: Path) -> None:
    store = Store.default()
    with small_disk(store.home, "100m"):
        assert scan()[0] == 0
        before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        remount(store.home, "ro")
        line = one_line(*scan("--threshold", "0.9"))
        assert line.endswith(f"clean.jsonl in {tmp_path / 'out'} is older: not of this scan")
        assert "can't write to" in line
        assert "ead-only file system" in line
        assert scan(command=("audit", "verify"))[0] == 0  # reading is no writing
        assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
        remount(store.home, "rw")
        assert scan()[0] == 0


def test_a_half_written_ledger(scan: Callable) -> None:
    """Cut off anywhere: nothing is written over it, and the line says what to do."""
    store = Store.default()
    assert scan()[0] == 0
    whole = store.ledger.read_bytes()
    for left in (0, 100, 5000, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        store.ledger.write_bytes(whole[:left])
        line = one_line(*scan("--threshold", "0.9"))
        assert "put back a copy" in line, left
        assert scan(command=("audit", "verify"))[0] == 4
        assert store.ledger.read_bytes() == whole[:left]
    store.ledger.write_bytes(whole)
    assert verify(store.ledger).problems == ()


def test_a_ledger_that_cannot_be_begun_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one is whole when it appears: half of one would be in the way of every later scan."""
    store = Store.default()

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "migrate", full)
        with pytest.raises(OSError, match="No space left"), open_ledger(store.ledger) as ledger:
            ledger.head()
    assert {path.name for path in store.home.iterdir()} <= {"ledger.duckdb.lock", "ledger.duckdb.queue"}
    with open_ledger(store.ledger) as ledger:
        assert ledger.head().seq == 0


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/store", "a folder of heads"])
def test_a_store_where_none_can_be(place: str, scan: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    homes = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "store",
        "/proc/store": Path("/proc/store"),
    }
    if place in homes:
        monkeypatch.setenv("GRADSENTRY_HOME", str(homes[place]))
    else:
        (Store.default().home / "ledger.heads").mkdir(parents=True)
    line = one_line(*scan())
    assert "ledger.heads" in line or str(homes[place]) in line
    for command in (("release", "0" * 64, "--by", "Ada", "--reason", "r"), ("gate", "show", "x"), ("store", "upgrade")):
        code, said = scan(command=command)
        assert code in (0, 2) and len(said.strip().splitlines()) <= 1, said


def test_whoever_waits_for_the_ledger_says_so_once(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    store = Store.default()
    monkeypatch.setattr(lock, "QUIET", 0.05)
    with open_ledger(store.ledger) as ledger, ThreadPoolExecutor() as pool:
        ledger.head()
        waiting = pool.submit(_look, store, 0.4)
        with caplog.at_level(logging.WARNING), pytest.raises(BusyStore):
            waiting.result()
    (said,) = [record.getMessage() for record in caplog.records if "Waiting for the ledger" in record.getMessage()]
    assert f"{os.getpid()}" in said and "0.4 s at most" in said


def _look(store: Store, patience: float) -> None:
    with open_ledger(store.ledger, patience=patience) as ledger:
        ledger.head()


def test_half_written_side_files(scan: Callable, model: Path, tmp_path: Path) -> None:
    """They only save time, or tell who waits: a scan does without."""
    store, memo = Store.default(), tmp_path / "model_digests.json"
    assert scan()[0] == 0
    kept = fingerprint(model, WEIGHTS, memo)
    for content in (b"", b'{"/x": [1, ', b"\x00\xff\xfe" * 40, b"[" * 100_000, b"[]", b'{"/x": 3}'):
        memo.write_bytes(content)
        assert fingerprint(model, WEIGHTS, memo) == kept
    for name in ("ledger.duckdb.lock", "ledger.duckdb.queue", "ledger.heads"):
        (store.home / name).write_bytes(b'{"pid": [1, \xff')
    code, said = scan()
    assert code == 0, said


def test_a_memo_of_digests_that_others_may_write_is_not_believed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one model could pass for another, and be spared the scoring by the other's scores."""
    memo = tmp_path / "model_digests.json"
    kept = fingerprint(model, WEIGHTS, memo)
    memo.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, memo.read_text()))
    assert fingerprint(model, WEIGHTS, memo) != kept  # this user's own word is taken
    memo.chmod(0o666)
    assert fingerprint(model, WEIGHTS, memo) == kept
    memo.write_text(re.sub(r"[0-9a-f]{64}", "0" * 64, memo.read_text()))
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert fingerprint(model, WEIGHTS, memo) == kept
    assert not settings.model_digests().is_relative_to(settings.home())


def test_too_few_addresses_are_said_before_a_library_is_loaded(scan: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that can't be mapped end the process by a signal, without a word."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (500 << 20, 500 << 20))
    assert "500 MiB of addresses" in one_line(*scan())


def test_words_for_what_the_machine_refuses() -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    assert full is not None and "the disk is full (No space left on device: /x/y)" in full
    assert "not enough memory" in str(explain(MemoryError()))
    assert "not enough memory" in str(explain(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")))
    assert "Permission denied: /x" in str(explain(PermissionError(errno.EACCES, "Permission denied", "/x")))
    assert explain(ValueError("a fault of ours")) is None
    assert explain(FileNotFoundError(errno.ENOENT, "No such file or directory")) is None
