"""What leaves the house: the clean part of a source, as it came, and the quarantined rows with their reasons."""

import base64
import bz2
import gzip
import lzma
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib.files import atomic_path, workshop
from gradsentry_lib.samples import arrow, ipc
from gradsentry_lib.samples.container import Meter, archive_of, only_member, zstd
from gradsentry_lib.samples.encoding import encode
from gradsentry_lib.samples.json_columns import column_rows, without
from gradsentry_lib.samples.part import Part
from gradsentry_lib.samples.row_format import BadRow
from gradsentry_lib.samples.source import Source, among, contains, reading
from gradsentry_lib.samples.table import json_line

GROUP_BYTES = 16 << 20  # of rows in memory before a row group of Parquet is written
GROUP_ROWS = 1 << 16
QUARANTINE_COLUMNS = ["row", "sample_id", "verdict", "reasons", "entropy"]  # of the verdicts, beside a row's original


def write_clean(source: Source, removed: np.ndarray, path: Path) -> int:
    """Writes the source without its `removed` rows (int64, sorted, rejected ones included); returns the number left.

    Order, columns, types, metadata and file format are the source's, packing, encoding and the names of many files too;
    of text every byte of a row, header and blank lines included. A JSON array that is cut short is closed. `path` is a
    file or, where the source is a folder or on the hub, a folder; it is replaced as a whole. Raises `BadInput` and
    writes nothing if the source has changed since it was opened.
    """
    source.verify()
    with (atomic_folder if source.is_folder else atomic_path)(path) as place:
        if source.kind == "parquet":
            rows = _clean_parquet(source, removed, place)
        elif source.kind == "arrow":
            rows = _clean_arrow(source, removed, place)
        elif source.kind in ("dataset", "hub"):
            rows = _clean_dataset(source, removed, place)
        else:
            rows = _clean_text(source, removed, place)
        source.verify()  # nor has it changed under our hands
    return rows


def _clean_text(source: Source, removed: np.ndarray, place: Path) -> int:
    is_removed = contains(removed)
    meter = Meter(source.max_bytes)
    row = written = 0
    for part in source.parts:
        with packing(_target(source, part, place), part) as file:
            if part.shape == "columns":
                columns = source.json_columns(part, meter)
                total = sum(1 for _ in column_rows(columns))
                kept = _kept(row, row + total, removed).tolist()
                file.write(encode(without(columns, kept), part.encoding))
                row, written = row + total, written + len(kept)
                continue
            follows = False  # a row stands before it in its array
            for piece in source.pieces(part, meter):
                if piece.is_row:
                    row += 1
                    if is_removed(row - 1):
                        continue
                    if piece.fault:
                        raise ValueError(f"row {row - 1} was rejected ({piece.fault}) and cannot be clean")
                    written += 1
                if follows and piece.is_row and part.shape == "array":
                    file.write(encode(b",", part.encoding))
                follows = piece.is_row
                file.write(encode(piece.data, part.encoding))
    return written


def _target(source: Source, part: Part, place: Path) -> Path:
    """Where the clean copy of a part goes: the same name in the folder, if the source is one."""
    if not source.is_folder:
        return place
    target = place / part.name
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


@contextmanager
def packing(place: Path, part: Part) -> Iterator[IO[bytes]]:
    """A new file, packed as the part is. No clock goes in: the same rows give the same bytes."""
    with place.open("wb") as file:
        if part.compression is None:
            yield file
        elif part.compression == "zip":
            with archive_of(part.path) as archive:
                member = only_member(archive, part.path)
            told = zipfile.ZipInfo(member.filename, member.date_time)
            told.compress_type, told.external_attr = member.compress_type, member.external_attr
            with zipfile.ZipFile(file, "w") as made, made.open(told, "w", force_zip64=True) as packed:
                yield packed
        else:
            with _packed(file, part.compression) as packed:
                yield packed
            if file.tell() == 0:
                file.write(zstd.compress(b""))  # which writes no frame of its own around nothing


def _packed(file: IO[bytes], compression: str) -> IO[bytes]:
    if compression == "gzip":
        return cast(IO[bytes], gzip.GzipFile("", "wb", fileobj=file, mtime=0))
    if compression == "bzip2":
        return cast(IO[bytes], bz2.BZ2File(file, "wb"))
    return cast(IO[bytes], lzma.LZMAFile(file, "wb") if compression == "xz" else zstd.ZstdFile(file, "wb"))


def _kept(start: int, stop: int, removed: np.ndarray) -> np.ndarray:
    """Of the rows start..stop those not removed, counted from `start`."""
    return np.flatnonzero(~among(removed, start, stop))


def _clean_parquet(source: Source, removed: np.ndarray, place: Path) -> int:
    start = written = 0
    for part in source.parts:
        metadata = pq.read_metadata(part.path)
        codec = metadata.row_group(0).column(0).compression if metadata.num_rows else "SNAPPY"
        schema = arrow.parquet_schema(part.path)
        group: list[pa.RecordBatch] = []
        with _parquet_writer(_target(source, part, place), schema, codec) as write:
            for batch in arrow.parquet_batches(part.path):
                group.append(arrow.take(batch, _kept(start, start + batch.num_rows, removed)))
                start += batch.num_rows
                written += group[-1].num_rows
                if sum(b.nbytes for b in group) >= GROUP_BYTES or sum(b.num_rows for b in group) >= GROUP_ROWS:
                    write(pa.Table.from_batches(group))
                    group = []
            if group:
                write(pa.Table.from_batches(group))
    return written


@contextmanager
def _parquet_writer(place: Path, schema: pa.Schema, codec: str) -> Iterator[Callable[[pa.Table], None]]:
    """Writes tables of one schema. Types that Arrow reads but cannot write are written as what they stand for in
    Parquet, with the schema beside them that reads them back as they were."""
    plain = arrow.without_inner_views(schema)
    if plain.equals(schema):
        with pq.ParquetWriter(place, schema, compression=codec) as writer:
            yield writer.write_table
        return
    with pq.ParquetWriter(place, plain, compression=codec, store_schema=False) as writer:
        yield lambda table: writer.write_table(table.cast(plain))
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(schema.serialize().to_pybytes())})


def _clean_arrow(source: Source, removed: np.ndarray, place: Path) -> int:
    start = written = 0
    for part in source.parts:
        schema = ipc.ipc_schema(part.path)
        options = pa.ipc.IpcWriteOptions(
            compression="lz4" if ipc.is_compressed(part.path) else None,
            unify_dictionaries=True,
        )
        new = pa.ipc.new_file if ipc.is_file_format(part.path) else pa.ipc.new_stream
        with reading(part.path), new(str(_target(source, part, place)), schema, options=options) as writer:
            for batch in ipc.ipc_batches(part.path, []):
                kept = arrow.take(batch, _kept(start, start + batch.num_rows, removed))
                start += batch.num_rows
                written += kept.num_rows
                writer.write_batch(kept)
    return written


def _clean_dataset(source: Source, removed: np.ndarray, place: Path) -> int:
    import datasets

    start = written = 0
    clean = {}
    for name, dataset in source.splits().items():
        kept = _kept(start, start + len(dataset), removed)
        clean[name] = dataset.select(kept)
        start += len(dataset)
        written += len(kept)
    shards = {name: None if len(dataset) else 1 for name, dataset in clean.items()}  # without one it does not load
    if source.split is None and "" not in clean:
        datasets.DatasetDict(clean).save_to_disk(place, num_shards=shards)
    else:
        ((name, dataset),) = clean.items()
        dataset.save_to_disk(place, num_shards=shards[name])
    return written


def write_quarantine(source: Source, verdicts: pa.Table, path: Path) -> int:
    """Writes the rows of `verdicts` (the quarantined ones), each with its original, as JSON Lines; returns how many.

    What JSON cannot carry is written as ISO dates, Base64 for bytes, null for NaN; `source` is null as a whole where a
    column beside the scored ones cannot be decoded.
    """
    verdicts = verdicts.select(QUARANTINE_COLUMNS).sort_by("row")
    wanted = verdicts["row"].to_numpy()
    written = 0
    lines = (line for batch in verdicts.to_batches(arrow.BATCH_ROWS) for line in batch.to_pylist())
    with atomic_path(path) as place:
        with place.open("wb") as file:
            for record, verdict in zip(source.records(wanted), lines, strict=True):
                original = None if isinstance(record.value, BadRow) else record.value
                file.write(json_line({"row": record.row, "line": record.line} | _plain(verdict | {"source": original})))
                written += 1
        source.verify()
    return written


def _plain(value: Any) -> Any:
    """A value as JSON can carry it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside `path`; puts it in the place of `path` on success, removes it on failure."""
    with workshop(path.parent, path.name) as room:
        new = room / "new"
        new.mkdir()
        yield new
        if path.exists():
            path.rename(room / "old")
        new.rename(path)
