"""What is said of each row, and what a person may say over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Verdict = Literal["clean", "flagged", "unscored"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
NO_TRIGGER = "nothing that could be proven"  # said of a group without a trigger
CLEAN, FLAGGED, UNSCORED = np.arange(len(VERDICTS), dtype=np.int8)  # a byte a row while a batch is judged

# One line a readable row, in source order. Policies append further signal columns.
VERDICT_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # 0-based position in the source
        ("sample_id", pa.string()),
        ("entropy", pa.float64()),  # NaN = unscored
        ("supervised_tokens", pa.int32()),
        ("nll", pa.float64()),  # nats a token
        ("verdict", pa.string()),
        ("reasons", pa.list_(pa.string())),
    ]
)


def not_clean(verdicts: pa.Table) -> np.ndarray:
    """(N,) bool: the rows of a verdict table that are flagged or unscored."""
    return pc.fill_null(pc.not_equal(verdicts["verdict"], "clean"), True).to_numpy().astype(bool)


@dataclass(frozen=True)
class Override:
    """A person's word on a sample, wherever its text appears: "release" makes it clean, "flag" quarantines it."""

    sample_id: str
    action: Literal["release", "flag"]
    by: str
    reason: str


@dataclass(frozen=True)
class Group:
    """Rows that look like one attack. `payload`: what their answers share; `trigger`: what their prompts share; "" of
    either where there is nothing that could be told.

    `figures` holds the evidence by name (share inside and outside the group, lift, significance), as JSON values.
    """

    rows: tuple[int, ...]
    payload: str
    trigger: str
    figures: dict[str, Any]

    @property
    def watched(self) -> bool:
        """To be looked at by a person; its rows stay clean."""
        return self.figures.get("outcome") == "watched"


@dataclass(frozen=True)
class VerdictCounts:
    """How many rows got which verdict."""

    clean: int
    flagged: int
    unscored: int

    @property
    def quarantined(self) -> int:
        return self.flagged + self.unscored

    @property
    def readable(self) -> int:
        return self.clean + self.flagged + self.unscored


def count_verdicts(verdicts: pa.Table) -> VerdictCounts:
    """Counts the `verdict` column. A value that is no verdict counts nowhere, so that conservation fails."""
    counted = {entry["values"]: entry["counts"] for entry in pc.value_counts(verdicts["verdict"]).to_pylist()}
    return VerdictCounts(*(counted.get(verdict, 0) for verdict in VERDICTS))


def reason_lists(size: int, notes: Sequence[tuple[np.ndarray, Sequence[str] | np.ndarray]]) -> pa.ListArray:
    """Reasons of `size` rows as list<string>.

    Each note is (positions, texts): `texts[i]` is said of the row at `positions[i]`. Reasons of a row stand in the
    order of the notes. Vectorised: a million rows take about a second.
    """
    positions = np.concatenate([np.asarray(where, dtype=np.int64) for where, _ in notes] or [np.empty(0, np.int64)])
    texts = pa.concat_arrays([pa.array(said, pa.string()) for _, said in notes] or [pa.array([], pa.string())])
    order = np.argsort(positions, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(positions, minlength=size))))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts.take(pa.array(order)))
