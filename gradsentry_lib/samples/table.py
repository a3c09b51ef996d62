"""The samples of a source as a Parquet table, and its rejected rows as JSON Lines beside it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib.errors import UnusableInput
from gradsentry_lib.files import atomic_path
from gradsentry_lib.samples.arrow import batches_of
from gradsentry_lib.samples.observed import Observed, UnreadColumn
from gradsentry_lib.samples.reasons import advice
from gradsentry_lib.samples.sample import Reject, Sample, Turn
from gradsentry_lib.samples.source import Source

TURN = [("role", pa.string()), ("text", pa.string()), ("train", pa.bool_()), ("beside", pa.string())]
SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("line", pa.int64()),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("turns", pa.list_(pa.struct(TURN)), nullable=False),
        pa.field("tools", pa.string(), nullable=False),
    ]
)
SAMPLE_COLUMNS = ["row", "line", "format", "turns", "tools"]  # what a Sample is made of
CHUNK_ROWS = 8192  # rows of one row group, fewer where they are long
CHUNK_CHARACTERS = 8 << 20


@dataclass(frozen=True)
class Counts:
    """read = readable + rejected. `notes`: how rows were read, in sentences; `unread`: text that no layout used;
    `truncated`: how the source is cut short, in sentences, "" where it is not."""

    read: int
    readable: int
    rejected: int
    layout: str = ""
    notes: tuple[str, ...] = ()
    unread: tuple[UnreadColumn, ...] = ()
    truncated: str = ""


def write_samples(source: Source, samples_path: Path, rejected_path: Path, limit: int | None = None) -> Counts:
    """Reads the source, or its first `limit` rows, into the two files, a chunk of rows in memory at a time.

    Raises `BadInput` where there is no row, or none that can be read; the rejects are written all the same.
    """
    readable = rejected = 0
    first: Reject | None = None
    chunk: list[Sample] = []
    characters = 0
    observed = Observed()
    with atomic_path(samples_path) as samples_file:
        with (
            atomic_path(rejected_path) as rejected_file,
            rejected_file.open("wb") as rejects,
            pq.ParquetWriter(samples_file, SAMPLES_SCHEMA, compression="zstd") as samples,
        ):
            for row in islice(source.rows(observed), limit):
                if isinstance(row, Reject):
                    first = first or row
                    rejected += 1
                    rejects.write(json_line(asdict(row)))
                    continue
                readable += 1
                chunk.append(row)
                characters += sum(len(turn.text) + len(turn.beside) for turn in row.turns)
                if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
                    samples.write_table(to_table(chunk))
                    chunk, characters = [], 0
            if chunk:
                samples.write_table(to_table(chunk))
        if readable == 0:
            cut = f"; it is cut short (truncated): {source.truncated}" if source.truncated else ""
            if first is None:
                raise UnusableInput(f"{source.path or source.name} holds no rows; there is nothing to scan{cut}")
            where = f"line {first.line}" if first.line else f"row {first.row}"
            raise UnusableInput(
                f"none of the {rejected} rows of {source.path or source.name} can be read; "
                f"the first, {where}: {first.reason} (all of them: {rejected_path}; "
                f"`gradsentry formats` shows what can be read): {advice(source.kind, first.reason)}{cut}"
            )
    return Counts(
        readable + rejected, readable, rejected, observed.layout, observed.notes, observed.unread, source.truncated
    )


def read_samples(path: Path, rows_per_chunk: int = 4096) -> Iterator[list[Sample]]:
    """The samples of a file that `write_samples` made, in order, at most `rows_per_chunk` at a time.

    No chunk reaches over a row group, so that long rows, which lie in small ones, do not add up in memory.
    """
    with pq.ParquetFile(path) as file:
        yield from map(from_batch, batches_of(file, rows_per_chunk, SAMPLE_COLUMNS))


def read_rejects(path: Path) -> Iterator[Reject]:
    """The rejected rows of a file that `write_samples` made, in order."""
    with path.open(encoding="utf-8", errors="surrogatepass") as file:
        for line in file:
            yield Reject(**json.loads(line))


def json_line(value: Mapping[str, Any]) -> bytes:
    """One line of JSON in UTF-8; a lone surrogate is written as JSON's own escape of it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def to_table(samples: list[Sample]) -> pa.Table:
    """Samples as a table of SAMPLES_SCHEMA, in order."""
    turns = [turn for sample in samples for turn in sample.turns]
    ends = np.cumsum([0, *(len(sample.turns) for sample in samples)], dtype=np.int32)
    pieces = pa.StructArray.from_arrays(
        [pa.array([getattr(turn, name) for turn in turns], kind) for name, kind in TURN], [name for name, _ in TURN]
    )
    columns = [
        pa.array([sample.row for sample in samples], pa.int64()),
        pa.array([sample.line for sample in samples], pa.int64()),
        pa.array([sample.sample_id for sample in samples], pa.string()),
        pa.array([sample.format for sample in samples], pa.string()),
        pa.ListArray.from_arrays(pa.array(ends), pieces),
        pa.array([sample.tools for sample in samples], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SAMPLES_SCHEMA)


def from_batch(batch: pa.RecordBatch) -> list[Sample]:
    """The samples of some rows of such a file; `batch` has at least SAMPLE_COLUMNS, or those that there were in 0.3.0:
    role and text of turns, no tools."""
    turns = batch["turns"]
    pieces = turns.flatten()
    names = {field.name for field in pieces.type}
    flat = list(map(Turn, *(pieces.field(name).to_pylist() for name, _ in TURN if name in names)))
    starts = (turns.offsets.to_numpy() - turns.offsets[0].as_py()).tolist()
    has = set(batch.schema.names)
    rows = zip(*(batch[name].to_pylist() for name in SAMPLE_COLUMNS if name != "turns" and name in has), strict=True)
    return [
        Sample(row, line, format, tuple(flat[start:end]), *tools)
        for (row, line, format, *tools), start, end in zip(rows, starts[:-1], starts[1:], strict=True)
    ]
