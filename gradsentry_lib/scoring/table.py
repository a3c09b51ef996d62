"""Scores as tables: what a shard of the cache and a batch's scores.parquet hold."""

from collections.abc import Sequence

import pyarrow as pa

from gradsentry_lib.scoring.score import Score

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
SCORE_SCHEMA = pa.schema(SCORE_FIELDS)
BATCH_SCORE_SCHEMA = pa.schema([("row", pa.int64()), *SCORE_FIELDS])


def to_table(scores: Sequence[Score]) -> pa.Table:
    """Scores as a table of SCORE_SCHEMA, in order."""
    columns = {name: [getattr(score, name) for score in scores] for name, _ in SCORE_FIELDS}
    return pa.table(columns, schema=SCORE_SCHEMA)
