"""Rows dealt out into blocks, in memory that does not grow with their number.

A search compares the rows of a block with one another. What it reads of each row, texts and sketch, comes in the
batch's order; a batch of more than one block goes through temporary files, dealt one by one (row i to block i mod n),
so that every block is a fair sample of the whole.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gradsentry_lib.detection.former.texts import Read, Texts

BLOCK = 7_500  # rows at most
HELD_BYTES = 4 << 20  # waiting to be written
SCHEMA = pa.schema(
    {
        "prompt": pa.string(),
        "answer": pa.string(),
        "turns": pa.list_(pa.list_(pa.int64())),
        "sketch": pa.binary(),
    }
)


@dataclass(frozen=True)
class Block:
    """`rows`: their numbers in the batch; `sketches[i]` is empty where row i has none."""

    rows: np.ndarray
    texts: Texts
    sketches: list[bytes]


@dataclass(frozen=True)
class Deal:
    """A batch of `count` rows in `blocks` blocks."""

    count: int
    blocks: int
    _held: Block | None = None
    _folder: Path | None = None

    def rows(self, number: int) -> np.ndarray:
        return np.arange(number, self.count, self.blocks)

    def read(self, number: int) -> Block:
        if self._held is not None:
            return self._held
        assert self._folder is not None
        with pa.ipc.open_stream(_file(self._folder, number)) as stream:
            table = stream.read_all()
        turns = [tuple((turn, begin) for turn, begin in row) for row in table["turns"].to_pylist()]
        texts = Texts(table["prompt"].to_pylist(), table["answer"].to_pylist(), turns)
        return Block(self.rows(number), texts, table["sketch"].to_pylist())


@contextmanager
def dealt(read: Iterable[tuple[Read, bytes]], count: int) -> Iterator[Deal]:
    """Deals `count` rows into blocks of at most BLOCK. Raises ValueError where they are not as many."""
    blocks = max(1, -(-count // BLOCK))
    if blocks == 1:
        texts, sketches = Texts([], [], []), []
        for row, sketch in read:
            texts.append(row)
            sketches.append(sketch)
        _check(len(sketches), count)
        yield Deal(count, 1, Block(np.arange(count), texts, sketches))
        return
    with tempfile.TemporaryDirectory(prefix="gradsentry-") as name:
        folder = Path(name)
        _write(read, count, blocks, folder)
        yield Deal(count, blocks, None, folder)


def _write(read: Iterable[tuple[Read, bytes]], count: int, blocks: int, folder: Path) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    writers = [pa.ipc.new_stream(_file(folder, number), SCHEMA, options=options) for number in range(blocks)]
    held: list[list[tuple[Read, bytes]]] = [[] for _ in writers]
    size = total = 0
    try:
        for row, sketch in read:
            held[total % blocks].append((row, sketch))
            size += len(row.prompt) + len(row.answer) + len(sketch)
            total += 1
            if size > HELD_BYTES:
                _flush(held, writers)
                size = 0
        _flush(held, writers)
    finally:
        for writer in writers:
            writer.close()
    _check(total, count)


def _flush(held: list[list[tuple[Read, bytes]]], writers: list[pa.ipc.RecordBatchStreamWriter]) -> None:
    for rows, writer in zip(held, writers, strict=True):
        if rows:
            columns = [
                pa.array([row.prompt for row, _ in rows], pa.string()),
                pa.array([row.answer for row, _ in rows], pa.string()),
                pa.array([[list(turn) for turn in row.turns] for row, _ in rows], SCHEMA.field("turns").type),
                pa.array([sketch for _, sketch in rows], pa.binary()),
            ]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
            rows.clear()


def _file(folder: Path, number: int) -> str:
    return str(folder / f"block-{number}.arrow")


def _check(found: int, count: int) -> None:
    if found != count:
        raise ValueError(f"{count} scores but {found} samples")
