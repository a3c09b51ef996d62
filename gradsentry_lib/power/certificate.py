"""How many of the planted attacks were found, with intervals, in figures and in sentences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SIZES = (3, 5, 10)  # rows of an attack
GATED = 10  # the size that the gate's `min_power` is about
SHARES = (0.01, 0.05)  # of a batch's rows, for which the largest size not above it speaks


@dataclass(frozen=True)
class Trial:
    """One planted attack. `found`: at least half of its rows were flagged."""

    kind: str
    rows: int
    found: bool


@dataclass(frozen=True)
class Cell:
    """Attacks of one kind ("" all kinds) with so many rows: planted, found."""

    kind: str
    rows: int
    planted: int
    found: int

    @property
    def share(self) -> float:
        return self.found / self.planted if self.planted else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.found, self.planted)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {**asdict(self), "share": self.share, "low": low, "high": high}


@dataclass(frozen=True)
class Certificate:
    """What a scan would have found. `rows`: the batch's readable ones; `among`: how many of them stood in a mixture;
    `canaries`: rows that were scored for it; `shuffled`, `alarms`: searches of the batch's own rows with prompts dealt
    anew, and those that flagged any."""

    rows: int
    among: int
    canaries: int
    cells: tuple[Cell, ...]
    shuffled: int
    alarms: int

    @classmethod
    def of(
        cls, trials: Sequence[Trial], rows: int, among: int, canaries: int, shuffled: int, alarms: int
    ) -> "Certificate":
        kinds = ["", *dict.fromkeys(trial.kind for trial in trials)]
        cells = [_cell(kind, size, trials) for size in SIZES for kind in kinds]
        return cls(rows, among, canaries, tuple(cell for cell in cells if cell.planted), shuffled, alarms)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Certificate":
        cells = tuple(Cell(one["kind"], one["rows"], one["planted"], one["found"]) for one in told["cells"])
        return cls(told["rows"], told["among"], told["canaries"], cells, told["shuffled"], told["alarms"])

    def to_dict(self) -> dict[str, Any]:
        low, high = wilson(self.alarms, self.shuffled)
        return {
            **asdict(self),
            "cells": [cell.to_dict() for cell in self.cells],
            "alarm_low": low,
            "alarm_high": high,
            "shares": [
                {"share": share, "rows": round(share * self.rows), "as": self.size_of(share)} for share in SHARES
            ],
        }

    def size_of(self, share: float) -> int | None:
        """The largest planted size not above that share of the rows; None where that is fewer than any."""
        return max((size for size in SIZES if size <= round(share * self.rows)), default=None)

    def cell(self, rows: int, kind: str = "") -> Cell:
        return next((cell for cell in self.cells if (cell.rows, cell.kind) == (rows, kind)), Cell(kind, rows, 0, 0))

    @property
    def power(self) -> float:
        """Share of the attacks of ten rows that were found, over all kinds: what `min_power` is about."""
        return self.cell(GATED).share

    def sentences(self) -> tuple[str, ...]:
        """For people; the first says it all."""
        told = ", ".join(f"with {size} rows {_percent(self.cell(size))}" for size in SIZES)
        first = (
            f"Of attacks planted into copies of this batch's own rows, {told} were found (five kinds; 95 % intervals)."
        )
        kinds = [kind for kind in dict.fromkeys(cell.kind for cell in self.cells) if kind]
        by_kind = [
            f"{kind}: " + ", ".join(f"{size} rows {_percent(self.cell(size, kind))}" for size in SIZES)
            for kind in kinds
        ]
        low, high = wilson(self.alarms, self.shuffled)
        alarms = (
            f"False alarms: {self.alarms} of {self.shuffled} searches of its own rows with prompts dealt anew flagged "
            f"any ({low:.0%} to {high:.0%})."
        )
        return (first, *(each[0].upper() + each[1:] + "." for each in by_kind), *self._shares(), alarms, self._how())

    def _shares(self) -> Iterable[str]:
        for share in SHARES:
            rows, size = round(share * self.rows), self.size_of(share)
            if size is None:
                yield f"{share:.0%} of the rows are {rows}: fewer than can be proven."
            else:
                yield f"{share:.0%} of the rows are {rows}: at least as with {size}."

    def _how(self) -> str:
        return (
            f"Each was searched for among {self.among:,} of the {self.rows:,} rows; among more, so many rows are as a "
            "rule proven more easily. Attacks of other kinds may go unseen."
        )


def wilson(found: int, planted: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); (0, 1) where nothing was planted."""
    if not planted:
        return 0.0, 1.0
    share, square = found / planted, z * z
    middle = (share + square / (2 * planted)) / (1 + square / planted)
    half = z / (1 + square / planted) * (share * (1 - share) / planted + square / (4 * planted * planted)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _cell(kind: str, size: int, trials: Sequence[Trial]) -> Cell:
    mine = [trial for trial in trials if trial.rows == size and kind in ("", trial.kind)]
    return Cell(kind, size, len(mine), sum(trial.found for trial in mine))


def _percent(cell: Cell) -> str:
    low, high = cell.interval
    return f"{cell.share:.0%} ({100 * low:.0f}-{100 * high:.0f})" if cell.planted else "none planted"
