"""The hash chain over all records: what makes an edited, deleted, inserted or reordered record show.

Record n of the ledger (`seq` = n, counted over all tables) has a digest over its own columns, table and number. The
journal line n holds that digest, and a digest over itself and the digest of line n - 1:

    row_sha256(n) = SHA-256(JSON {table, column: value, ...})       NULL columns left out
    sha256(n)     = SHA-256(JSON [n, table, row_sha256(n), sha256(n - 1)]),   sha256(0) = 64 zeros

A change can only be hidden by rebuilding every later line. The newest line's digest ("the head") stands in every
attestation that was handed out since, and can be noted down by anybody: a rebuilt or shortened chain contradicts it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import duckdb
import pyarrow as pa

from gradsentry_lib.files import sha256_json
from gradsentry_lib.store.records import TABLES

GENESIS = "0" * 64


@dataclass(frozen=True)
class Head:
    """The newest journal line: its number and digest. Number 0 is an empty ledger."""

    seq: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.sha256}"


@dataclass(frozen=True)
class BrokenRecord:
    """One thing wrong with the chain: which record, and what happened to it."""

    table: str
    seq: int
    what: str


def head(connection: duckdb.DuckDBPyConnection) -> Head:
    found = connection.execute("SELECT seq, sha256 FROM journal ORDER BY seq DESC LIMIT 1").fetchall()
    return Head(*found[0]) if found else Head(0, GENESIS)


def append(connection: duckdb.DuckDBPyConnection, table: str, records: Sequence[Mapping[str, Any]]) -> int:
    """Writes records (columns by name) and their journal lines; gives back the number of the last one."""
    last = head(connection)
    now = datetime.now(UTC).replace(tzinfo=None)
    numbered = [{"seq": last.seq + i, "recorded_at": now, **record} for i, record in enumerate(records, start=1)]
    _insert(connection, table, numbered)
    # Digests are made of what DuckDB gives back: 1 in a DOUBLE column is 1.0 then.
    lines, previous = [], last.sha256
    for row in rows(connection, table, after=last.seq):
        digest = row_digest(table, row)
        sha256 = line_digest(row["seq"], table, digest, previous)
        lines.append(
            {"seq": row["seq"], "table_name": table, "row_sha256": digest, "previous": previous, "sha256": sha256}
        )
        previous = sha256
    _insert(connection, "journal", lines)
    return last.seq + len(records)


def _insert(connection: duckdb.DuckDBPyConnection, table: str, records: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for record in records for name in record))
    connection.register("incoming", pa.table({name: [record.get(name) for record in records] for name in names}))
    try:
        # Table and column names come from the record classes, never from data.
        connection.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM incoming")  # noqa: S608
    finally:
        with suppress(duckdb.Error):  # an aborted transaction refuses this too, and would hide why it was aborted
            connection.unregister("incoming")


def row_digest(table: str, row: Mapping[str, Any]) -> str:
    """Digest of a record's columns as DuckDB gives them back."""
    values = {name: _plain(value) for name, value in row.items() if value is not None}
    return sha256_json({"table": table, "row": values})


def line_digest(seq: int, table: str, row_sha256: str, previous: str) -> str:
    return sha256_json([seq, table, row_sha256, previous])


def _plain(value: Any) -> Any:
    """A column value as JSON that reads back the same: times as ISO 8601, non-finite numbers by name."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, float) and not isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def check_chain(connection: duckdb.DuckDBPyConnection) -> Iterator[BrokenRecord]:
    """Recomputes every digest, record by record; yields what does not fit."""
    lines = {
        seq: (table, row_sha256, previous, sha256)
        for seq, table, row_sha256, previous, sha256 in connection.execute(
            "SELECT seq, table_name, row_sha256, previous, sha256 FROM journal ORDER BY seq"
        ).fetchall()
    }
    yield from _check_lines(lines)
    found: set[tuple[str, int]] = set()
    for table in TABLES.values():
        for row in rows(connection, table):
            seq = row["seq"]
            found.add((table, seq))
            line = lines.get(seq)
            if line is None or line[0] != table:
                yield BrokenRecord(table, seq, "inserted: the journal knows no such record")
            elif line[1] != row_digest(table, row):
                yield BrokenRecord(table, seq, "altered: its content is not what was recorded")
    for seq, (table, *_) in lines.items():
        if (table, seq) not in found:
            yield BrokenRecord(table, seq, "deleted: the journal has it, the table does not")


def _check_lines(lines: Mapping[int, tuple[str, str, str, str]]) -> Iterator[BrokenRecord]:
    previous, expected = GENESIS, 1
    for seq, (table, row_sha256, recorded_previous, sha256) in lines.items():
        if seq != expected:
            yield BrokenRecord(
                "journal",
                expected,
                f"deleted: {seq - expected} line{'s' if seq - expected > 1 else ''} from here on missing",
            )
        elif recorded_previous != previous:
            yield BrokenRecord("journal", seq, "does not follow from the line before it")
        if line_digest(seq, table, row_sha256, recorded_previous) != sha256:
            yield BrokenRecord("journal", seq, "altered: its digest does not fit its content")
        previous, expected = sha256, seq + 1


def rows(connection: duckdb.DuckDBPyConnection, table: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """The records of a table with numbers above `after`, in order, a few at a time: threshold curves are large."""
    cursor = connection.execute(f"SELECT * FROM {table} WHERE seq > ? ORDER BY seq", [after])  # noqa: S608
    names = [column[0] for column in cursor.description or ()]
    while chunk := cursor.fetchmany(256):
        for values in chunk:
            yield dict(zip(names, values, strict=True))
