"""Rows as the scorer sees them. What an evaluation knows of the labels never gets this far."""

from collections.abc import Iterable, Sequence
from typing import Any

from gradsentry_lib.errors import UnusableInput
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.samples.row_format import BadRow, read_row
from gradsentry_lib.samples.sample import Sample


def without(rows: Iterable[Row], column: str) -> list[dict[str, Any]]:
    """The rows without one column: how labels are hidden."""
    return [{key: value for key, value in row.items() if key != column} for row in rows]


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
