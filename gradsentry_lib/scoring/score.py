"""What the scorer says of one sample; and scores as tables: a shard of the cache, a batch's scores.parquet."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Score:
    """All signals of one sample, from one forward pass.

    `entropy`: normalised spectral entropy in [0, 1], the largest over the sample's supervised spans; NaN if unscored.
    `turn_entropies`: one a span (one for prompt/response and Alpaca rows, one an assistant turn for chats).
    `supervised_tokens`: over all spans, eos included. `nll`: mean negative log-likelihood over them, nats a token.
    `sketch`: the span sketches (scoring/sketch.py), empty where none was asked for.
    `failure`: why there is no score; empty where there is one.
    `turn_tokens`, `turn_nll`: of each span, as `supervised_tokens` and `nll` are of all.
    `control_tokens`: which ones the row's own text holds, and where (scoring/control_tokens.py); empty where none.
    """

    sample_id: str
    entropy: float
    turn_entropies: tuple[float, ...]
    supervised_tokens: int
    nll: float
    truncated: bool
    sketch: bytes = b""
    failure: str = ""
    control_tokens: str = ""
    turn_tokens: tuple[int, ...] = ()
    turn_nll: tuple[float, ...] = ()


SCORE_FIELDS = [
    ("sample_id", pa.string()),
    ("entropy", pa.float64()),
    ("turn_entropies", pa.list_(pa.float64())),
    ("supervised_tokens", pa.int32()),
    ("nll", pa.float64()),
    ("truncated", pa.bool_()),
    ("sketch", pa.binary()),
    ("failure", pa.string()),
    ("control_tokens", pa.string()),
    ("turn_tokens", pa.list_(pa.int32())),
    ("turn_nll", pa.list_(pa.float64())),
]
LISTS = ("turn_entropies", "turn_tokens", "turn_nll")
SCORE_SCHEMA = pa.schema(SCORE_FIELDS)
BATCH_SCORE_SCHEMA = pa.schema([("row", pa.int64()), *SCORE_FIELDS])


def from_table(table: pa.Table) -> list[Score]:
    """Raises ValueError for a table of another schema."""
    if not table.schema.equals(SCORE_SCHEMA):
        raise ValueError("no table of scores")
    lines = table.to_pylist()
    return [Score(**{**line, **{name: tuple(line[name] or ()) for name in LISTS}}) for line in lines]


def to_table(scores: Sequence[Score]) -> pa.Table:
    """Scores as a table of SCORE_SCHEMA, in order."""
    columns = {name: [getattr(score, name) for score in scores] for name, _ in SCORE_FIELDS}
    return pa.table(columns, schema=SCORE_SCHEMA)
