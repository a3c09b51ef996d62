"""A batch of samples in a file, a folder or on the hub: what it is, and its rows one by one."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import sha256_file, sha256_json
from gradsentry_lib.samples import arrow
from gradsentry_lib.samples.json_array import cut_array, find_array
from gradsentry_lib.samples.json_columns import column_rows, load_columns
from gradsentry_lib.samples.observed import Observed, holds_text
from gradsentry_lib.samples.parse import csv_cells, parse_csv, parse_json
from gradsentry_lib.samples.pieces import BOM, Piece, cut_csv, cut_lines, open_text
from gradsentry_lib.samples.row_format import DEFAULT, BadRow, Layout, RowReader, Schema
from gradsentry_lib.samples.sample import Reject, Sample

if TYPE_CHECKING:
    from datasets import Dataset

Kind = Literal["jsonl", "json", "csv", "parquet", "dataset", "hub"]
EXCERPT = 200  # characters


class Record(NamedTuple):
    """A row before it is looked at: its columns, or why there are none. `raw` is what an excerpt is taken from."""

    row: int
    line: int | None
    value: Mapping[str, Any] | BadRow
    raw: object


@dataclass(frozen=True)
class Source:
    """What `open_source` found. `kind` says how the rows lie, `suffix` how a file like it is named ("" for a folder).

    `name` is safe in file names and keys. `sha256` is that of the file's bytes, of a folder's sorted file hashes, or
    of a hub data set's name and commit. `path` is None for the hub, which `hub` then names: (name, config, commit).
    """

    kind: Kind
    name: str
    path: Path | None
    suffix: str
    sha256: str
    schema: Schema = DEFAULT
    split: str | None = None
    hub: tuple[str, str | None, str] | None = None

    def rows(self, observed: Observed | None = None) -> Iterator[Sample | Reject]:
        """Every row in order, a sample or the reason why not. The first readable row sets the layout of the batch.

        A row that is laid out differently is rejected: its trainer would not read it as it was scored. `observed` takes
        up how rows were read and what was not. Raises `BadInput` only where the source as a whole cannot be read on.
        """
        batch: Layout | None = None
        reader = RowReader(self.schema)
        if observed is not None:
            observed.turn_keys = observed.turn_keys | self.schema.turn_keys
        for row, line, value, raw in self.records(observed=observed):
            try:
                if isinstance(value, BadRow):
                    raise value
                read = reader.read(value, row, line)
                batch = batch or read.layout
                if read.layout != batch:
                    raise BadRow(f"mixed format: {read.layout} in a batch of {batch}")
                if observed is not None:
                    observed.row(value, read)
                yield read.sample
            except BadRow as reason:
                yield Reject(row, line, str(reason), _excerpt(raw))

    def records(self, wanted: np.ndarray | None = None, observed: Observed | None = None) -> Iterator[Record]:
        """The rows with the columns that are scored; or the `wanted` rows (sorted row numbers) with all columns."""
        if self.kind in ("parquet", "dataset", "hub"):
            return self._table_records(wanted, observed)
        if self.is_columns:
            return self._column_records(wanted)
        return self._text_records(wanted)

    def _text_records(self, wanted: np.ndarray | None) -> Iterator[Record]:
        parse = self._parser()
        is_wanted = contains(wanted)
        for row, piece in enumerate(piece for piece in self.pieces() if piece.is_row):
            if not is_wanted(row):
                continue
            try:
                value = BadRow(piece.fault) if piece.fault else parse(piece.data)
            except BadRow as reason:
                value = reason
            yield Record(row, piece.line, value, piece.data)

    def _column_records(self, wanted: np.ndarray | None) -> Iterator[Record]:
        is_wanted = contains(wanted)
        for row, value in enumerate(column_rows(self.json_columns())):
            if is_wanted(row):
                yield Record(row, None, value, value)

    def _table_records(self, wanted: np.ndarray | None, observed: Observed | None = None) -> Iterator[Record]:
        known = None if wanted is not None else self.schema.names
        others = self._text_columns() - set(known) if known and observed is not None else set()
        start = 0
        for batch in self.batches([*known, *others] if known else None):
            if others and observed is not None:
                names = batch.schema.names
                observed.batch(batch.select([name for name in names if name in others]))
                batch = batch.select([name for name in names if name not in others] or names)
            stop = start + batch.num_rows
            rows = np.arange(start, stop)
            if wanted is not None:
                rows = rows[among(wanted, start, stop)]
                batch = batch.take(pa.array(rows - start))
            start = stop
            for row, value in zip(rows.tolist(), arrow.objects(batch), strict=True):
                yield Record(row, None, value, "" if isinstance(value, BadRow) else value)

    def json_columns(self) -> dict[str, list[Any]]:
        """The columns of a JSON object of columns."""
        assert self.path
        with reading(self.path):
            return load_columns(self.path)

    @property
    def is_columns(self) -> bool:
        """Whether this is a JSON object of columns."""
        if self.kind != "json" or self.path is None:
            return False
        with reading(self.path), open_text(self.path) as file:
            return find_array(file) is None

    def pieces(self) -> Iterator[Piece]:
        """The bytes of a text source, row by row with the frame around them."""
        assert self.path
        cut = {"jsonl": cut_lines, "csv": cut_csv, "json": cut_array}[self.kind]
        with reading(self.path), open_text(self.path) as file:
            yield from cut(file)

    def _parser(self) -> Callable[[bytes], Mapping[str, Any]]:
        if self.kind != "csv":
            return parse_json
        header = self.header()
        return lambda data: parse_csv(data, header)

    def header(self) -> list[str]:
        """The column names of a CSV source. Raises `BadInput` where they are unusable."""
        header = next((piece for piece in self.pieces() if piece.data.strip(BOM + b" \t\r\n")), None)
        if header is None:
            return []
        try:
            if header.fault:
                raise BadRow(header.fault)
            names = csv_cells(header.data)
        except BadRow as reason:
            raise BadInput(f"the header of {self.path} cannot be read: {reason}") from None
        if len(set(names)) < len(names):
            raise BadInput(f"{self.path} names a column twice; give its columns different names")
        return names

    def column_names(self) -> list[str]:
        """The column names of a source of tables."""
        if self.kind == "parquet":
            assert self.path
            with reading(self.path):
                return [name for file in arrow.parquet_files(self.path) for name in arrow.parquet_schema(file).names]
        return [name for dataset in self.splits().values() for name in dataset.column_names]

    def _text_columns(self) -> set[str]:
        """The columns of a source of tables that can hold text."""
        if self.kind == "parquet":
            assert self.path
            schemas = [arrow.parquet_schema(file) for file in arrow.parquet_files(self.path)]
        else:
            schemas = [dataset.features.arrow_schema for dataset in self.splits().values()]
        return {field.name for schema in schemas for field in schema if holds_text(field.type)}

    def splits(self) -> "dict[str, Dataset]":
        """The splits of a saved data set or of the hub's, those of `split` alone if one was asked for."""
        if self.hub:
            name, config, commit = self.hub
            return arrow.load_hub(name, config, self.split, commit)
        assert self.path
        splits = arrow.load_saved(self.path)
        if self.split is None:
            return splits
        if self.split not in splits:
            raise BadInput(f"{self.path} has no split {self.split!r}; it has: {', '.join(splits) or 'none'}")
        return {self.split: splits[self.split]}

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a source of tables, in order; of all columns or of those named."""
        if self.kind == "parquet":
            assert self.path
            for file in arrow.parquet_files(self.path):
                with reading(file):
                    yield from arrow.parquet_batches(file, columns)
        else:
            for dataset in self.splits().values():
                with reading(self.path or self.name):
                    yield from arrow.dataset_batches(dataset, columns)

    def verify(self) -> None:
        """Raises `BadInput` if the source is not the one that was opened. A hub data set is pinned to its commit."""
        if self.path and digest(self.path, self.kind) != self.sha256:
            raise BadInput(f"{self.path} has changed since it was read; scan it again")


def digest(path: Path, kind: Kind) -> str:
    """SHA-256 (hex) of a file's bytes, or of the sorted names and hashes of a folder's files."""
    with reading(path):
        if path.is_file():
            return sha256_file(path)
        files = arrow.parquet_files(path) if kind == "parquet" else sorted(f for f in path.rglob("*") if f.is_file())
        return sha256_json([[file.relative_to(path).as_posix(), sha256_file(file)] for file in files])


def contains(rows: np.ndarray | None) -> Callable[[int], bool]:
    """Whether a row is among `rows` (sorted; None: all), for questions in ascending order: one step each, no set."""
    if rows is None:
        return lambda row: True
    remaining = map(int, rows)
    current = next(remaining, None)

    def ask(row: int) -> bool:
        nonlocal current
        while current is not None and current < row:
            current = next(remaining, None)
        return current == row

    return ask


def among(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Of the rows start..stop which are among `rows` (sorted): bool, one a row."""
    mask = np.zeros(stop - start, dtype=bool)
    first, last = np.searchsorted(rows, [start, stop])
    mask[rows[first:last] - start] = True
    return mask


@contextmanager
def reading(place: Path | str) -> Iterator[None]:
    """Turns what a broken or forbidden file raises into `BadInput`."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadInput(f"cannot read {place}: {' '.join(reason.split())[:500]}") from None


def _excerpt(raw: object) -> str:
    text = raw[: 4 * EXCERPT].decode(errors="replace") if isinstance(raw, bytes) else str(raw)
    return text.strip()[:EXCERPT]
