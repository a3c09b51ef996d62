"""What a policy hands to the verdict table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from gradsentry_lib.detection.verdict import Group

Notes = tuple[tuple[np.ndarray, Sequence[str]], ...]  # (positions, one text for each): see verdict.reason_lists


@dataclass(frozen=True)
class Findings:
    """What a policy found among N rows.

    `flagged`: (N,) bool. `watched`: (N,) bool, rows that a person should look at first; None: none. `notes`: sentences
    on rows. `columns`: further signal columns. `groups`: rows that look like one attack. `rescan`: (batch key, row) of
    rows of earlier batches that belong to a group. `remarks`: sentences on the whole batch.
    """

    flagged: np.ndarray
    watched: np.ndarray | None = None
    notes: Notes = ()
    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    rescan: tuple[tuple[str, int], ...] = ()
    remarks: tuple[str, ...] = ()
