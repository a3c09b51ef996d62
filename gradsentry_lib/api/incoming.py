"""What a caller hands over, as a file that the steps can read; and rows of it back, in the kind that came in.

A frame, a table or a data set is written as Parquet, rows of a list as lines of JSON, a URL is fetched: into the store,
under its digest, so that the ledger can name the bytes that were judged. Rows are handed back by their number from the
very object that came in, so types, index and columns are the caller's own. No library of frames is imported here: who
hands over a frame has it loaded.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableInput
from gradsentry_lib.files import workshop
from gradsentry_lib.pipeline.fetch import fetch, is_url, keep, located
from gradsentry_lib.samples.source import Source
from gradsentry_lib.store.paths import Store

ACCEPTED = (
    "a path, a URL, a list of dicts, a pandas or polars DataFrame, a pyarrow Table, or a Dataset or DatasetDict of "
    "`datasets`"
)


@dataclass(frozen=True)
class Incoming:
    """`source`: what `open_source` takes, or gave; `take`: rows by number, in the kind that came in; None of a file.
    `origin`: where it lies (see `located`), None for what lies in memory."""

    source: str | Source
    take: Callable[[Sequence[int]], Any] | None = None
    origin: str | Path | None = None


def bring_in(data: Any, store: Store, name: str = "data") -> Incoming:
    """Makes data readable for the steps. `name`: what a batch without a file name is called.

    Raises UnusableInput for what is none of the accepted kinds.
    """
    if isinstance(data, Source):
        return Incoming(data, origin=data.path)
    if isinstance(data, str | Path):
        origin = located(str(data))
        return Incoming(str(fetch(str(data), store)) if is_url(str(data)) else str(data), origin=origin)
    library, kind = type(data).__module__.partition(".")[0], type(data).__name__
    if (library, kind) == ("pandas", "DataFrame"):
        _check_columns(list(data.columns))
        rows = _keep(_write(lambda: [_pandas(data)], lambda: data.to_dict("records")), store, name)
        return Incoming(rows, lambda wanted: data.iloc[list(wanted)])
    if (library, kind) == ("polars", "DataFrame"):
        rows = _keep(_write(lambda: [data.to_arrow()], data.to_dicts), store, name)
        return Incoming(rows, lambda wanted: data[list(wanted)])
    if isinstance(data, pa.Table | pa.RecordBatch):
        table = data if isinstance(data, pa.Table) else pa.Table.from_batches([data])
        _check_columns(table.column_names)
        rows = _keep(_write(lambda: [table], table.to_pylist), store, name)
        return Incoming(rows, lambda wanted: data.take(pa.array(wanted, pa.int64())))
    if (library, kind) == ("datasets", "Dataset"):
        return Incoming(_keep(_write(lambda: _tables(data), lambda: data), store, name), data.select)
    if (library, kind) == ("datasets", "DatasetDict"):
        splits = lambda: (table for split in data.values() for table in _tables(split))  # noqa: E731
        whole = lambda: [row for split in data.values() for row in split]  # noqa: E731
        return Incoming(_keep(_write(splits, whole), store, name), lambda wanted: _of_splits(data, wanted))
    if isinstance(data, list | tuple):
        rows = _keep(lambda folder: _write_lines(data, folder), store, name)
        return Incoming(rows, lambda wanted: type(data)([data[row] for row in wanted]))
    hint = {"LazyFrame": ": collect() it first", "IterableDataset": ": it has no rows to come back to; take a Dataset"}
    raise UnusableInput(f"can't scan a {library}.{kind}{hint.get(kind, '')}; give {ACCEPTED}")


def _check_columns(names: Sequence[Any]) -> None:
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        raise UnusableInput(f"the column {odd!r} is not named by text: rename the columns (frame.columns = [...])")
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise UnusableInput(f"two columns are called {twice!r}: rename one of them")


def _pandas(frame: Any) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def _tables(dataset: Any) -> Iterator[pa.Table]:
    plain = dataset.with_format("arrow")
    yield from plain.iter(1024) if len(dataset) else [plain[:]]


def _of_splits(splits: Any, wanted: Sequence[int]) -> Any:
    """The wanted rows of a DatasetDict, whose splits were written one after the other."""
    found, start = {}, 0
    for name, split in splits.items():
        stop = start + len(split)
        found[name] = split.select([row - start for row in wanted if start <= row < stop])
        start = stop
    return type(splits)(found)


Writer = Callable[[Path], Path]


def _write(tables: Callable[[], Any], rows: Callable[[], Any]) -> Writer:
    """Parquet, where Arrow can hold the columns; else lines of JSON, so that a column of mixed types costs no more than
    the rows that are wrong."""

    def write(folder: Path) -> Path:
        path = folder / "data.parquet"
        try:
            parts = iter(tables())
            first = next(parts, pa.table({}))
            with pq.ParquetWriter(path, first.schema, compression="zstd") as file:
                file.write_table(first)
                for part in parts:
                    file.write_table(part.cast(first.schema))
            return path
        except (pa.ArrowException, TypeError, ValueError):
            path.unlink(missing_ok=True)
            return _write_lines(rows(), folder)

    return write


def _write_lines(rows: Any, folder: Path) -> Path:
    path = folder / "data.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{_line(row)}\n" for row in rows)
    return path


def _line(row: Any) -> str:
    """A row as JSON. One that can't be written so is a line that the reader rejects, with the reason in its excerpt."""
    try:
        return json.dumps(row if not isinstance(row, Mapping) else dict(row), default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        return json.dumps(f"a row that JSON can't hold: {str(error)[:200]}")


def _plain(value: Any) -> Any:
    """What JSON has no type for, as text or numbers. Raises TypeError for the rest."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    with suppress(AttributeError):
        return value.tolist()  # numpy's numbers and arrays
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _keep(write: Writer, store: Store, name: str) -> str:
    """Writes into the store, under the digest of what was written; the same rows are the same file again."""
    with workshop(store.given) as folder:
        made = write(folder)
        if made.stat().st_size > settings.max_bytes():
            raise UnusableInput(
                f"the data are larger than GRADSENTRY_MAX_BYTES allows ({settings.max_bytes():,} bytes)"
            )
        return str(keep(made, store, f"{_stem(name)}{made.suffix}"))


def _stem(name: str) -> str:
    """A name as part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in name)[:80] or "data"
