"""Between a record and its columns."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from gradsentry_lib.store.records import TABLES, FileRef, Record

AnyRecord = TypeVar("AnyRecord", bound=Record)


def to_columns(record: Record, store: Path) -> dict[str, Any]:
    """Column name to value, without what the ledger itself gives (`seq`, `recorded_at`)."""
    columns: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name in Record.__dataclass_fields__:
            continue
        if isinstance(value, FileRef):
            columns[f"{field.name}_path"] = _text(store_path(value.path, store))
            columns[f"{field.name}_sha256"] = value.sha256
        elif field.metadata.get("json") and value is not None:
            columns[field.name] = _text(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False))
        elif value is not None:
            columns[field.name] = _simple(value)
    return columns


def from_row(kind: type[AnyRecord], row: Mapping[str, Any], store: Path) -> AnyRecord:
    """The record that a row holds; a path inside the store comes back absolute."""
    values: dict[str, Any] = {}
    for field in fields(kind):
        name = field.name
        if f"{name}_path" in row:
            path, digest = row[f"{name}_path"], row[f"{name}_sha256"]
            values[name] = None if path is None else FileRef(resolve(path, store), digest)
        elif field.metadata.get("json"):
            value = None if row[name] is None else json.loads(row[name])
            values[name] = tuple(value) if isinstance(value, list) else value
        elif isinstance(row[name], datetime):
            values[name] = row[name].replace(tzinfo=UTC)
        elif isinstance(row[name], list):
            values[name] = tuple(row[name])
        else:
            values[name] = row[name]
    return kind(**values)


def table_of(kind: type[Record]) -> str:
    return TABLES[kind]


def store_path(path: Path | str, store: Path) -> str:
    """How a path is written into the ledger: relative to the store if inside, else absolute; a URL as it is."""
    if "://" in str(path):
        return str(path)
    absolute = Path(path).absolute()
    return absolute.relative_to(store).as_posix() if absolute.is_relative_to(store) else absolute.as_posix()


def resolve(path: str, store: Path) -> Path | str:
    """Where a recorded path is now."""
    return path if "://" in path else store / path


def _simple(value: Any) -> Any:
    """A value as DuckDB takes it: times as UTC without a zone."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return list(value) if isinstance(value, tuple) else value


def _text(value: str) -> str:
    """Half a surrogate pair (a file name's stray byte, JSON's \\ud800) is no UTF-8: written as its escape."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
