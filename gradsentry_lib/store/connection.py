"""Opening the ledger: late, for a short time, and closed whatever happens."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path

import duckdb

from gradsentry_lib import __version__
from gradsentry_lib.errors import BusyStore, DamagedStore, GradSentryError, UnusableStore
from gradsentry_lib.files import workshop
from gradsentry_lib.store import journal, views
from gradsentry_lib.store.engine import open_file
from gradsentry_lib.store.lock import PATIENCE, Waiting, hold, pauses
from gradsentry_lib.store.paths import LAYOUT, Store
from gradsentry_lib.system_errors import explain

_open_here = threading.local()  # the ledgers that this thread has open: opening one twice would wait for itself


_OF_THE_FILE = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)


def damaged(path: Path, message: str) -> DamagedStore:
    return DamagedStore(
        f"the ledger {path} can't be opened: {message[:300]}; put back a copy of it, or move it (and {path.name}.wal) "
        "elsewhere and scan again: scores and published files are kept, releases and acceptances are only in the ledger"
    )


@contextmanager
def connect(path: Path, *, read_only: bool, patience: float = PATIENCE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection under the ledger's lock. Writing is one transaction: committed at the end, rolled back on error.

    Makes and migrates the ledger where need be, also before reading. Who reads while the same thread reads shares its
    connection. Raises BusyStore, DamagedStore, BadInput.
    """
    path = path.absolute()
    readers: dict[Path, duckdb.DuckDBPyConnection | None] = _open_here.__dict__.setdefault("readers", {})
    if read_only and (reader := readers.get(path)) is not None:
        yield reader
        return
    if path in readers:
        raise RuntimeError(f"{path} is already open in this thread: close it before opening it again")
    _check_place(path.parent)
    readers[path] = None
    try:
        with (_reading if read_only else _writing)(path, patience) as connection:
            readers[path] = connection if read_only else None
            yield connection
    finally:
        del readers[path]


def _check_place(store: Path) -> None:
    """Raises BadInput where no store can be: DuckDB and the file system say less."""
    try:
        str(store).encode("utf-8")
        usable = store.is_dir() or not store.exists()
    except UnicodeEncodeError as error:
        raise UnusableStore(
            f"the store's path {str(store)!r} is no UTF-8, which DuckDB needs: give it another name"
        ) from error
    except OSError as error:
        raise UnusableStore(f"the store {str(store)[:200]} can't be used: {error.strerror or error}") from error
    if not usable:
        raise UnusableStore(f"the store {store} is no folder: set GRADSENTRY_HOME to one")


def make_store(store: Path) -> None:
    """Raises BadInput where no folder can be made: under a file, in /proc, without permission."""
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableStore(
            f"the store {store} can't be made ({error.strerror}): set GRADSENTRY_HOME to a folder that can be written"
        ) from error


@contextmanager
def _reading(path: Path, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
    with ExitStack() as stack:
        if not path.exists():
            _make(path, patience)
        connection = stack.enter_context(_locked(path, read_only=True, patience=patience))
        version = _version(connection)
        if version < len(_versions()):
            stack.close()
            try:
                _make(path, patience)
            except BusyStore:
                raise
            except (OSError, GradSentryError) as error:
                raise UnusableStore(
                    f"the ledger {path} has schema version {version} and can't be brought to {len(_versions())} here "
                    f"({error}): run `gradsentry store upgrade` where the store can be written to"
                ) from error
            connection = stack.enter_context(_locked(path, read_only=True, patience=patience))
        yield connection


@contextmanager
def _writing(path: Path, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
    with _locked(path, read_only=False, patience=patience) as connection:
        heads = _check_heads(Store(path.parent).heads)
        before = journal.head(connection)
        connection.begin()
        try:
            yield connection
        except BaseException:  # also Ctrl-C: half a transaction is none; raised again
            with suppress(duckdb.Error):  # what went wrong first is what is told
                connection.rollback()
            raise
        after = journal.head(connection)
        connection.commit()
        views.refresh(connection, path.parent, temporary=False)
        if after != before:
            _note(heads, after)


def _make(path: Path, patience: float) -> None:
    """Opening a ledger for writing is enough to make or migrate it."""
    with _locked(path, read_only=False, patience=patience):
        pass


def _check_heads(path: Path) -> Path:
    """The file of heads. Raises UnusableStore, before anything is recorded, where no line can be added to it."""
    try:
        with path.open("a", encoding="utf-8"):
            return path
    except OSError as error:
        raise UnusableStore(
            f"can't write to {path}: {error.strerror}; it gets a line whenever the ledger grows, so nothing was "
            "recorded: move what lies there away"
        ) from error


def _note(path: Path, head: journal.Head) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{head} {datetime.now(UTC).isoformat(timespec='seconds')}\n")


@contextmanager
def _locked(path: Path, *, read_only: bool, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """Lock, connect, migrate (when writing); disconnect, unlock."""
    if not read_only:
        make_store(path.parent)
    with ExitStack() as stack:
        stack.enter_context(hold(path, shared=read_only, patience=patience))
        if not (read_only or path.exists()):
            _create(path)
        connection, close = _connect_patiently(path, read_only, patience)
        stack.callback(close)
        try:
            if not read_only:
                migrate(connection)
            yield connection
        except _OF_THE_FILE as e:
            if explain(e):  # a full disk or too little memory: the file is whole
                raise
            raise damaged(path, str(e).splitlines()[0]) from e


def _create(path: Path) -> None:
    """A new ledger, made beside its place and renamed: a disk that is full by then leaves no half of one."""
    with workshop(path.parent, path.name) as shop:
        made = shop / path.name
        with duckdb.connect(made) as connection:
            migrate(connection)
            connection.execute("CHECKPOINT")  # raises what closing would keep to itself
        made.rename(path)


def _connect_patiently(
    path: Path, read_only: bool, patience: float
) -> tuple[duckdb.DuckDBPyConnection, Callable[[], None]]:
    """DuckDB's own lock may be held by a process that knows nothing of ours, a SQL shell for one: wait for that too."""
    waiting = Waiting(path, patience)
    for pause in pauses():
        try:
            return open_file(path, read_only)
        except duckdb.Error as error:
            message = str(error).splitlines()[0]
            if "lock" not in message.lower() or "corrupt" in message.lower():
                raise damaged(path, message) from error
            held = re.sub(r"^.*?: (Conflicting lock is held in )?", "it is held by ", message).split(". See")[0]
            waiting.check(lambda held=held: held)  # type: ignore[misc]
        time.sleep(pause)
    raise AssertionError  # pauses() never ends


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Applies the versions of schema.sql that the ledger lacks, each in its own transaction. Raises BadInput for a
    database of something else: nothing is written into that."""
    scripts = _versions()
    if _version(connection) == 0 and (tables := connection.execute("SHOW TABLES").fetchall()):
        raise UnusableStore(
            f"{_place(connection)} is no ledger: a DuckDB file of something else, with a table {tables[0][0]!r}"
        )
    for number, script in enumerate(scripts[_version(connection) :], start=_version(connection) + 1):
        connection.begin()
        connection.execute("CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER, code_version VARCHAR)")
        connection.execute(script)
        connection.execute("INSERT INTO schema_versions VALUES (?, ?)", [number, __version__])
        connection.commit()


def _version(connection: duckdb.DuckDBPyConnection) -> int:
    """The schema version of an open ledger; 0 where it has none yet. Raises BadInput for one from the future."""
    try:
        ((version,),) = connection.execute("SELECT max(version) FROM schema_versions").fetchall()
    except duckdb.CatalogException:
        return 0
    except duckdb.BinderException:  # a table of that name with other columns
        version = None
    if not isinstance(version, int):
        raise UnusableStore(f"{_place(connection)} is no ledger: a DuckDB file of something else")
    if version > len(_versions()):
        raise UnusableStore(
            f"the ledger has schema version {version}, written by a newer GradSentry; "
            f"this one ({__version__}) knows up to {len(_versions())}: upgrade it"
        )
    _check_layout(connection)
    return version


def _check_layout(connection: duckdb.DuckDBPyConnection) -> None:
    """Raises BadInput where a newer version moved the store's files. A schema that knows of no layout may pass."""
    try:
        ((layout,),) = connection.execute("SELECT max(version) FROM store_layout").fetchall()
    except duckdb.CatalogException:
        return
    if not isinstance(layout, int) or layout > LAYOUT:
        raise UnusableStore(
            f"the store {Path(_place(connection)).parent} has layout {layout}, made by a newer GradSentry; this one "
            f"({__version__}) knows up to {LAYOUT}: upgrade it"
        )


def _place(connection: duckdb.DuckDBPyConnection) -> str:
    found = connection.execute("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL").fetchall()
    return str(found[0][0]) if found else "this file"


@cache
def _versions() -> list[str]:
    """The sections of schema.sql, version 1 first."""
    text = (resources.files(__package__) / "schema.sql").read_text(encoding="utf-8")
    return re.split(r"^-- version \d+$", text, flags=re.MULTILINE)[1:]
