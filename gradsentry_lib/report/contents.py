"""What a report page shows, as plain data. The scan step fills it; whatever it does not have stays at its default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """The suspicious characters [start, end) of turn `turn`. `kind`: "payload" or "trigger"."""

    turn: int
    start: int
    end: int
    kind: str = "payload"


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
class Card:
    """A group of rows that look like one attack, or that are watched. All text is untrusted.

    `rows`: how many; `wordings`: what triggers it; `payload`: what the answers share, "" where each is worded by
    itself; `evidence`: each test of the detection in one sentence with its number; `examples`: three rows as `listed`
    makes them; `carriers`: rows whose prompts hold a wording, None where nobody counted; `without`: some of those that
    are not in the group.
    """

    rows: int
    payload: str = ""
    wordings: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    watched: bool = False
    evidence: tuple[tuple[str, str], ...] = ()  # (name of the test, sentence)
    examples: tuple[Mapping[str, Any], ...] = ()
    carriers: int | None = None
    without: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Review:
    """What a page must know for a person's decisions on it. Digests are SHA-256 in hex.

    `words_digest`: of the words in force when the page was made; `seq`: the ledger's newest record then. `words`: those
    words by sample id: (action, who, when, why, batch or "all"). `by`: who decides, "" where the page only gathers;
    `served`: by `gradsentry review`, so that rows and whole texts can be asked for; `token`: what it asks back.
    """

    decision: int = 0
    verdicts_sha256: str = ""
    words_digest: str = ""
    seq: int = 0
    words: Mapping[str, tuple[str, str, str, str, str]] = field(default_factory=dict)
    by: str = ""
    served: bool = False
    token: str = ""


@dataclass(frozen=True)
class Contents:
    """One scan of one batch.

    `rows`: flagged, watched and unscored rows as `listed` makes them, in the order to show them; the page takes the
    first 2,000, as far as its size allows, and says how many of `listed` there are. `looked_for`: what the scan could
    have found; `power`: what planted attacks showed of it. `settings`, `provenance`: names and values, shown as tables
    in their order.
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
    looked_for: tuple[str, ...] = ()
    power: tuple[str, ...] = ()  # what attacks planted into copies of the rows showed, in sentences
    cards: tuple[Card, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    listed: int = 0
    watched: int = 0
    unscored: Mapping[str, int] = field(default_factory=dict)  # reason to rows
    refused_rows: Mapping[str, int] = field(default_factory=dict)  # rows rejected by the reader: reason to rows
    rejected: tuple[RejectedRow, ...] = ()
    reading: Reading | None = None
    review: Review = field(default_factory=Review)
    redacted: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
