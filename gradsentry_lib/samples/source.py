"""A batch of samples in a file, a folder or on the hub: what it is, and its rows one by one."""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from gradsentry_lib import settings
from gradsentry_lib.errors import SourceChanged, UnusableInput
from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples import arrow
from gradsentry_lib.samples.container import Meter, open_regular
from gradsentry_lib.samples.json_columns import column_rows, load_columns
from gradsentry_lib.samples.observed import Observed, holds_text
from gradsentry_lib.samples.part import Kind, Part
from gradsentry_lib.samples.pieces import Piece
from gradsentry_lib.samples.row_format import DEFAULT, BadRow, Layout, RowReader, Schema, quote
from gradsentry_lib.samples.sample import Reject, Sample
from gradsentry_lib.samples.shards import shard_files

if TYPE_CHECKING:
    from datasets import Dataset

TABLES = ("parquet", "arrow", "dataset", "hub")  # the kinds that are no text
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
    parts: tuple[Part, ...] = ()
    lacks: tuple[str, ...] = ()
    max_bytes: int = settings.MAX_BYTES
    cuts: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def truncated(self) -> str:
        """Why this is not the whole of what it was, "" as far as is known: all of it once every row was read."""
        return "; ".join([*self.lacks, *(f"{name} {how}" for name, cuts in self.cuts.items() for how in cuts)])

    @property
    def is_folder(self) -> bool:
        """Whether a clean copy of it is a folder."""
        return self.path is None or self.path.is_dir()

    @property
    def encoding(self) -> str:
        """How its text is written ("utf-8", "cp1252", ...), "" where it is none; of many files that of the first."""
        return "" if self.kind in TABLES else self.parts[0].encoding

    @property
    def separator(self) -> str | None:
        """What stands between the cells of CSV; None where there is no CSV."""
        return self.parts[0].separator if self.kind == "csv" else None

    @property
    def compression(self) -> str | None:
        """What its files are packed with: gzip, bzip2, xz, zstd, zip."""
        return self.parts[0].compression if self.parts else None

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
                yield Reject(row, line, f"{reason}{self._where()}", _excerpt(raw))

    def _where(self) -> str:
        """The file of many that is being read."""
        return f" (in {quote(next(reversed(self.cuts)), 120)})" if self.cuts and len(self.parts) > 1 else ""

    def records(self, wanted: np.ndarray | None = None, observed: Observed | None = None) -> Iterator[Record]:
        """The rows with the columns that are scored; or the `wanted` rows (sorted row numbers) with all columns."""
        return self._table_records(wanted, observed) if self.kind in TABLES else self._text_records(wanted)

    def _text_records(self, wanted: np.ndarray | None) -> Iterator[Record]:
        is_wanted = contains(wanted)
        meter = Meter(self.max_bytes)
        row = -1
        for part in self.parts:
            if part.shape == "columns":
                for value in column_rows(self.json_columns(part, meter)):
                    row += 1
                    if is_wanted(row):
                        yield Record(row, None, value, value)
                continue
            with reading(part.path):
                parse = part.parser(self.max_bytes)
            for piece in self.pieces(part, meter):
                if not piece.is_row:
                    continue
                row += 1
                if not is_wanted(row):
                    continue
                found: Mapping[str, Any] | BadRow
                try:
                    found = BadRow(piece.fault) if piece.fault else parse(piece.data)
                except BadRow as reason:
                    found = reason
                yield Record(row, piece.line, found, piece.data)

    def _table_records(self, wanted: np.ndarray | None, observed: Observed | None = None) -> Iterator[Record]:
        known = None if wanted is not None else self._names_read()
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
                batch = arrow.take(batch, rows - start)
            start = stop
            if wanted is None:
                batch = arrow.as_text(batch)
            for row, value in zip(rows.tolist(), arrow.objects(batch), strict=True):
                yield Record(row, None, value, "" if isinstance(value, BadRow) else value)

    def _names_read(self) -> list[str]:
        """The columns of a table that may be read, as it writes them."""
        names = self.schema.fitted(dict.fromkeys(self.column_names())).names
        return [*names, *(path.partition(".")[0] for path in self.schema.paths)]

    def json_columns(self, part: Part, meter: Meter) -> dict[str, Any]:
        """The columns of a JSON object of columns."""
        with reading(part.path), part.open(meter, []) as file:
            return load_columns(file)

    def pieces(self, part: Part, meter: Meter) -> Iterator[Piece]:
        """The bytes of a text, as UTF-8, row by row with the frame around them."""
        with reading(part.path):
            yield from part.pieces(meter, self._cuts_of(part))

    def _cuts_of(self, part: Part) -> list[str]:
        self.cuts.pop(part.name, None)
        return self.cuts.setdefault(part.name, [])

    def column_names(self) -> list[str]:
        """The column names of a source of tables or of CSV."""
        found: list[str] = []
        for part in self.parts:
            with reading(part.path):
                found += part.header(self.max_bytes) if part.kind == "csv" else arrow.schema_of(part).names
        if self.parts:
            return found
        return [name for dataset in self.splits().values() for name in dataset.column_names]

    def _text_columns(self) -> set[str]:
        """The columns of a source of tables that can hold text."""
        schemas = [arrow.schema_of(part) for part in self.parts]
        if not self.parts:
            schemas = [dataset.features.arrow_schema for dataset in self.splits().values()]
        return {field.name for schema in schemas for field in schema if holds_text(field.type)}

    def splits(self) -> "dict[str, Dataset]":
        """The splits of a saved data set or of the hub's, those of `split` alone if one was asked for."""
        if self.hub:
            return self._of_hub
        assert self.path
        splits = arrow.load_saved(self.path)
        if self.split is None:
            return splits
        if self.split not in splits:
            raise UnusableInput(f"{self.path} has no split {self.split!r}; it has: {', '.join(splits) or 'none'}")
        return {self.split: splits[self.split]}

    @cached_property
    def _of_hub(self) -> "dict[str, Dataset]":
        assert self.hub
        name, config, commit = self.hub
        return arrow.load_hub(name, config, self.split, commit)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a source of tables, in order; of all columns or of those named."""
        for part in self.parts:
            with reading(part.path):
                yield from arrow.part_batches(part, columns, self._cuts_of(part))
        if not self.parts:
            for dataset in self.splits().values():
                with reading(self.path or self.name):
                    yield from arrow.dataset_batches(dataset, columns)

    def verify(self) -> None:
        """Raises SourceChanged if it is not the one that was opened. A hub data set is pinned to its commit."""
        if self.path and (found := digest(self.path, self.kind)) != self.sha256:
            raise SourceChanged(self.path, self.sha256, found)


def digest(path: Path, kind: str) -> str:
    """SHA-256 (hex) of a file's bytes, or of the sorted names and hashes of a folder's files."""
    with reading(path):
        if not path.is_dir():
            return _sha256(path)
        return sha256_json([[file.relative_to(path).as_posix(), _sha256(file)] for file in source_files(path, kind)])


def source_files(path: Path, kind: str) -> list[Path]:
    """The files that make up a source: itself, or those of the folder, in the order in which they are digested."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file()) if kind == "dataset" else shard_files(path)


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        raise UnusableInput(f"cannot read {place}: {' '.join(reason.split())[:500]}") from None


def _excerpt(raw: object) -> str:
    text = raw[: 4 * EXCERPT].decode(errors="replace") if isinstance(raw, bytes) else str(raw)
    return text.strip()[:EXCERPT]
