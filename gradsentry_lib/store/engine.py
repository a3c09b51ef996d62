"""DuckDB's engine, kept for a thread: making one takes eight times as long as opening a file in it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb

_kept = threading.local()


def open_file(path: Path, read_only: bool) -> tuple[duckdb.DuckDBPyConnection, Callable[[], None]]:
    """A connection whose database is the file, and what closes both. Raises duckdb.Error."""
    if getattr(_kept, "busy", False):  # a second ledger of the same name: in an engine of its own
        connection = duckdb.connect(path, read_only=read_only)
        return connection, connection.close
    engine, name = _engine(), '"' + path.stem.replace('"', '""') + '"'  # as DuckDB itself calls it: views keep it
    place = str(path).replace("'", "''")
    engine.execute(f"ATTACH '{place}' AS {name} (TYPE duckdb{', READ_ONLY' if read_only else ''})")
    _kept.busy = True
    connection = engine.cursor()

    def close() -> None:
        _kept.busy = False
        connection.close()
        try:
            engine.execute(f"DETACH {name}")
        except duckdb.Error:  # a file that could not be read or written: nothing of it is kept
            _kept.__dict__.pop("engine", None)
            engine.close()

    try:
        connection.execute(f"USE {name}")
    except duckdb.Error:
        close()
        raise
    return connection, close


def _engine() -> duckdb.DuckDBPyConnection:
    """This thread's. It has no threads of its own, so a process may fork beside it; a forked one makes its own."""
    process, engine = getattr(_kept, "engine", (0, None))
    if engine is None or process != os.getpid():
        engine = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 0})
        _kept.engine, _kept.busy = (os.getpid(), engine), False
    return engine
