"""A store in trouble: without locks, read-only, full, half written. One line that says the way back, nothing lost."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradsentry_lib import cli
from gradsentry_lib.audit.verify import verify
from gradsentry_lib.scoring.fingerprint import WEIGHTS, fingerprint
from gradsentry_lib.store.paths import Store
from gradsentry_lib.system_errors import explain
from tests.pipeline.builder import lines, write

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
        if left < len(whole) // 2:  # later on it may be free blocks that are missing
            assert scan(command=("audit", "verify"))[0] == 4
        assert store.ledger.read_bytes() == whole[:left]
    store.ledger.write_bytes(whole)
    assert verify(store.ledger).problems == ()


def test_half_written_side_files(scan: Callable, model: Path) -> None:
    """They only save time, or tell who waits: a scan does without."""
    store = Store.default()
    assert scan()[0] == 0
    kept = fingerprint(model, WEIGHTS, store.digests)
    for content in (b"", b'{"/x": [1, ', b"\x00\xff\xfe" * 40, b"[" * 100_000, b"[]", b'{"/x": 3}'):
        store.digests.write_bytes(content)
        assert fingerprint(model, WEIGHTS, store.digests) == kept
    for name in ("model_digests.json", "ledger.duckdb.lock", "ledger.duckdb.queue", "ledger.heads"):
        (store.home / name).write_bytes(b'{"pid": [1, \xff')
    code, said = scan()
    assert code == 0, said


def test_words_for_what_the_machine_refuses() -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    assert full is not None and "the disk is full (No space left on device: /x/y)" in full
    assert "not enough memory" in str(explain(MemoryError()))
    assert "not enough memory" in str(explain(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")))
    assert "Permission denied: /x" in str(explain(PermissionError(errno.EACCES, "Permission denied", "/x")))
    assert explain(ValueError("a fault of ours")) is None
    assert explain(FileNotFoundError(errno.ENOENT, "No such file or directory")) is None
