"""What a report page shows, as plain data. The scan step fills it; whatever it does not have stays at its default."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gradsentry_lib.detection.entropy_threshold import Threshold
from gradsentry_lib.detection.gate import GateCheck
from gradsentry_lib.detection.length_confounding import Trust


@dataclass(frozen=True)
class Counts:
    """Rows of the batch: read = clean + flagged + unscored + rejected."""

    read: int
    clean: int
    flagged: int
    unscored: int
    rejected: int


@dataclass(frozen=True)
class Points:
    """One entry a scored row, for the two charts. `removed`: the row's verdict is not clean."""

    entropy: np.ndarray  # (N,) float
    supervised_tokens: np.ndarray  # (N,) int
    removed: np.ndarray  # (N,) bool


@dataclass(frozen=True)
class Span:
    """The suspicious characters [start, end) of turn `turn`."""

    turn: int
    start: int
    end: int


@dataclass(frozen=True)
class Row:
    """A row shown with its text. `turns`: (role, text), untrusted. `spans`: what to highlight in it."""

    row: int
    line: int | None = None
    sample_id: str = ""
    verdict: str = "flagged"
    reasons: tuple[str, ...] = ()
    entropy: float | None = None
    supervised_tokens: int | None = None
    nll: float | None = None
    turns: tuple[tuple[str, str], ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Reading:
    """How the rows were read: the layout's columns, what there is to say of it, the columns with text that was not
    read, the first rows (each turn's role says what training does with it). All but `notes` is untrusted."""

    layout: str = ""
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class RejectedRow:
    """A row that could not be read. `excerpt` is untrusted."""

    row: int
    line: int | None
    reason: str
    excerpt: str = ""


@dataclass(frozen=True)
class EvidenceGroup:
    """Rows that look like one attack: what their answers share, and what their prompts share. All text is untrusted.

    `watched`: kept, to be looked at. `carriers`: rows whose prompts hold the trigger. `log10_p`: that their answers
    are like those of rows that could as well have held it. `reason`: share of the cost that the prompt saves.
    `inside`, `elsewhere`, `lift`, `p_value`, `variants`: of decisions by versions before 0.4.
    """

    rows: int
    payload: str
    variants: tuple[str, ...] = ()
    trigger: str = ""
    inside: float | None = None
    elsewhere: float | None = None
    lift: float | None = None
    p_value: float | None = None
    watched: bool = False
    carriers: int | None = None
    log10_p: float | None = None
    reason: float | None = None
    examples: tuple[int, ...] = ()  # row numbers


@dataclass(frozen=True)
class Contents:
    """One scan of one batch.

    `rows`: flagged rows to show, in the order to show them; the page takes the first 200 and says how many more
    `counts` knows of. `settings`, `provenance`: names and values, shown as tables in their order.
    """

    batch: str
    counts: Counts
    source: str = ""
    created: str = ""
    policy: str = ""
    checks: tuple[GateCheck, ...] = ()
    accepted: str = ""  # who let the batch through a failed gate, and why
    threshold: Threshold | None = None
    trust: Trust | None = None
    points: Points | None = None
    remarks: tuple[str, ...] = ()  # on the whole batch, in sentences; untrusted: people's names and reasons
    groups: tuple[EvidenceGroup, ...] = ()
    rows: tuple[Row, ...] = ()
    unscored: tuple[Row, ...] = ()
    rejected: tuple[RejectedRow, ...] = ()
    reading: Reading | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
