"""Evaluation data: rows with labels, from files; and as the scorer sees them, who never sees a label."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet

from gradsentry_lib.errors import UnusableFile, UnusableInput
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.samples.parse import parse_json
from gradsentry_lib.samples.row_format import BadRow, read_row
from gradsentry_lib.samples.sample import Sample


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSON lines, CSV or Parquet file as objects. Evaluation data is held in memory, and has to be whole:
    a line that can't be read is an error (BadInput), not a reject."""
    try:
        match path.suffix:
            case ".parquet":
                return pyarrow.parquet.read_table(path).to_pylist()
            case ".csv":
                return pyarrow.csv.read_csv(path).to_pylist()
        lines = path.read_bytes().splitlines()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise UnusableFile(f"{path} can't be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                rows.append(parse_json(line))
        except BadRow as error:
            raise UnusableInput(f"{path}, line {number}: {error}") from None
    if not rows:
        raise UnusableInput(f"{path} holds no rows.")
    return rows


def split_labels(rows: Sequence[Row], column: str) -> tuple[list[dict[str, Any]], np.ndarray]:
    """(rows without the label column, labels (N,) bool). Labels are true/false, 0/1 or their text."""
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    labels = []
    for number, row in enumerate(rows):
        if column not in row:
            raise UnusableInput(f"Row {number} has no label column {column!r}.")
        word = str(row[column]).strip().lower()
        if word not in words:
            raise UnusableInput(f"Row {number}: the label must be 0, 1, true or false, not {word[:40]!a}.")
        labels.append(words[word])
    return without(rows, column), np.asarray(labels, dtype=bool)


def without(rows: Iterable[Row], column: str) -> list[dict[str, Any]]:
    """The rows without one column: how labels are hidden."""
    return [{key: value for key, value in row.items() if key != column} for row in rows]


def take(rows: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    """At most `limit` rows, drawn by `seed`, in their order."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def mix(
    clean: Sequence[Row], poisoned: Sequence[Row], ratio: float, seed: int
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Line i from one file or the other, exactly round(ratio * N) from the poisoned one: any ratio of a paired set."""
    if len(clean) != len(poisoned):
        raise UnusableInput(f"Paired files must have as many rows: {len(clean)} and {len(poisoned)}.")
    labels = np.zeros(len(clean), dtype=bool)
    labels[random.Random(seed).sample(range(len(clean)), round(ratio * len(clean)))] = True
    return [dict(bad if label else good) for good, bad, label in zip(clean, poisoned, labels, strict=True)], labels


def to_samples(rows: Sequence[Row]) -> list[Sample]:
    """Every row as a sample. Only the columns of its format are read. Raises BadInput for a row that cannot be one."""
    samples = []
    for number, row in enumerate(rows):
        try:
            samples.append(read_row(row, number=number).sample)
        except BadRow as error:
            raise UnusableInput(f"row {number}: {error}") from None
    return samples


def response(sample: Sample) -> str:
    """The sample's last supervised text."""
    return sample.answered[-1]


def prompt(sample: Sample) -> str:
    """The text that asks for the last response: the question of a row, without its answer."""
    roles = {"prompt", "user"} if sample.format != "alpaca" else {"instruction"}
    return next((turn.text for turn in reversed(sample.turns) if turn.role in roles), "")
