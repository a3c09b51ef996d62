"""What becomes of rows whose own text holds control tokens (scoring/control_tokens.py says which).

A trainer reads such text as structure: other turns than the row shows. `quarantine` flags them; `keep` leaves them to
the policy like any other row. They are scored either way, as a trainer's tokenizer reads them.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.settings import OPTIONS

QUARANTINE, KEEP = "quarantine", "keep"
REASON = "control tokens in the row's own text"


def holding(scores: pa.Table) -> np.ndarray:
    """Positions of the rows that hold control tokens; none in scores of a version that did not look for them."""
    if "control_tokens" not in scores.column_names:
        return np.empty(0, np.int64)
    return np.flatnonzero(pc.fill_null(pc.not_equal(scores["control_tokens"], ""), False).to_numpy())


def control_notes(scores: pa.Table, choice: str) -> tuple[np.ndarray, list[str]]:
    """The rows to quarantine, and a reason for each."""
    OPTIONS["control_tokens"].check(choice)
    rows = holding(scores) if choice == QUARANTINE else np.empty(0, np.int64)
    named = scores["control_tokens"].take(pa.array(rows)).to_pylist() if len(rows) else []
    return rows, [f"{REASON}: {tokens}" for tokens in named]
