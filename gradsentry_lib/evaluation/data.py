"""Evaluation data: rows with labels, from files."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet

from gradsentry_lib.errors import UnusableFile, UnusableInput
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.evaluation.samples import without
from gradsentry_lib.samples.parse import parse_json
from gradsentry_lib.samples.row_format import BadRow


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
