"""DuckDB's engine is made once a thread, and what it opened is closed again, whatever happened."""

import multiprocessing
from pathlib import Path

import duckdb
import pytest

from gradsentry_lib.errors import DamagedStore
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.engine import open_file


def ledger(folder: Path) -> Path:
    folder.mkdir()
    with open_ledger(folder / "ledger.duckdb") as made:
        made.head()
    return folder / "ledger.duckdb"


def heads(path: Path) -> str:
    with open_ledger(path, read_only=True) as opened:
        return str(opened.head())


def test_one_engine_opens_one_ledger_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [ledger(tmp_path / name) for name in ("it's one", "two")]
    made: list[object] = []
    real = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *told, **named: made.append(told) or real(*told, **named))
    for path in paths * 2:
        heads(path)
    assert made == []


def test_two_ledgers_of_one_name_are_open_at_once(tmp_path: Path) -> None:
    one, two = (ledger(tmp_path / name) for name in ("one", "two"))
    with open_ledger(one, read_only=True) as opened:
        opened.head()
        assert heads(two) == str(opened.head())
    assert not list(tmp_path.glob("*/*.wal"))


def test_what_can_not_be_opened_leaves_the_engine_usable(tmp_path: Path) -> None:
    whole, broken = ledger(tmp_path / "whole"), tmp_path / "ledger.duckdb"
    broken.write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(DamagedStore):
            heads(broken)
        assert heads(whole)


def test_a_file_is_free_once_it_is_closed(tmp_path: Path) -> None:
    path = ledger(tmp_path / "one")
    connection, close = open_file(path, read_only=True)
    assert connection.execute("SELECT current_database()").fetchone() == ("ledger",)
    close()
    with duckdb.connect(path) as other:  # for writing
        other.execute("CREATE TABLE mine (a INTEGER)")
    assert heads(path)


def test_a_forked_process_opens_it_too(tmp_path: Path) -> None:
    path = ledger(tmp_path / "one")
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    child = fork.Process(target=lambda: theirs.send(heads(path)))
    child.start()
    assert ours.poll(60) and ours.recv() == heads(path)
    child.join(60)
    assert child.exitcode == 0
