"""What the ledger holds, one frozen dataclass a table.

Field names are column names. A `FileRef` field `x` is stored as `x_path` and `x_sha256`; a field marked `_json` as
canonical JSON text; times are UTC. `seq` and `recorded_at` are given by the ledger when it takes the record in: `seq`
is the record's number over all tables and the way other records refer to it ("scan 17", "decision 23").
"""

import getpass
import os
import platform
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import gradsentry_lib
from gradsentry_lib.files import sha256_file

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scipy", "pyarrow", "duckdb")

OutputKind = Literal[
    "clean", "quarantine", "rejected", "attestation", "signature", "report",
    "threshold", "plot", "groups", "power",  # written from the ledger for others to read
    "listed",  # the rows that a person reviews
]  # fmt: skip


def _json(**options: Any) -> Any:
    """A field stored as JSON text."""
    return field(metadata={"json": True}, **options)


@dataclass(frozen=True)
class FileRef:
    """A file and the SHA-256 (hex) of its bytes. A path inside the store is stored relative to it, so that a store
    can be moved; any other path is stored absolute; a name with a scheme ("hub://...") stays as it is."""

    path: Path | str
    sha256: str

    @property
    def file(self) -> Path:
        return Path(self.path)


def file_ref(path: Path) -> FileRef:
    """Reads the file once for its hash. Do this before the ledger is opened."""
    return FileRef(path, sha256_file(path))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every record gets from the ledger."""

    seq: int = 0
    recorded_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """One process at work: a CLI call or a Dagster run. `packages`: name to version."""

    run_id: str
    tool: str  # "cli", "dagster" or a caller's own word
    dagster_run_id: str = ""
    host: str
    username: str
    code_version: str
    python_version: str
    packages: Mapping[str, str] = _json()


def current_run(tool: str, dagster_run_id: str = "") -> Run:
    """The run that is this process: a Dagster run keeps its id, anything else gets a new one."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Run(
        run_id=dagster_run_id or uuid.uuid4().hex,
        tool=tool,
        dagster_run_id=dagster_run_id,
        host=socket.gethostname(),
        username=_username(),
        code_version=gradsentry_lib.__version__,
        python_version=platform.python_version(),
        packages=versions,
    )


def _username() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


@dataclass(frozen=True, kw_only=True)
class Batch(Record):
    """A source as it was read: `rows_read` = `readable` + `rejected_rows`.

    `source.sha256` is `Source.sha256` (of a folder: of its sorted file hashes). `options` is what else the reader was
    told (columns, split), so that the source can be read again in the same way. `truncated`: how the source is cut
    short, in sentences; None where it is whole. `reading`: `reader` (its number), `layout`, `notes` and `unread`, as
    pipeline/ingest.py has them; None in records of version 0.3.
    """

    batch_key: str
    name: str
    kind: str  # jsonl, json, csv, parquet, arrow, dataset, hub
    source: FileRef
    options: Mapping[str, Any] = _json(default_factory=dict)
    samples: FileRef  # samples.parquet
    rejected: FileRef | None = None  # rejected.jsonl
    rows_read: int
    readable: int
    rejected_rows: int
    run_id: str = ""
    truncated: str | None = None
    reading: Mapping[str, Any] | None = _json(default=None)


@dataclass(frozen=True, kw_only=True)
class Scan(Record):
    """A batch scored by one model under one scoring configuration."""

    batch_key: str
    source_sha256: str
    samples_sha256: str
    model: str
    model_fingerprint: str
    tokenizer_fingerprint: str
    scoring: Mapping[str, Any] = _json()
    score_key: str
    scores: FileRef  # scores.parquet
    scored: int
    unscored: int
    device: str = ""
    started_at: datetime
    finished_at: datetime
    run_id: str = ""
    supervised_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class ThresholdRecord(Record):
    """How tau was found on one scan's entropies; `grid` and `density` are the KDE's curve, entropy against density.

    `config`: the threshold's settings. `details`: everything else that is worth keeping (peaks, trust).
    """

    scan: int
    batch_key: str
    config: Mapping[str, Any] = _json()
    tau: float
    method: str
    reason: str
    n: int
    suspects: int
    bandwidth: float | None = None
    left_peak: float | None = None
    right_peak: float | None = None
    valley: float | None = None
    valley_ratio: float | None = None
    weak_evidence: bool = False
    grid: tuple[float, ...] = ()
    density: tuple[float, ...] = ()
    details: Mapping[str, Any] = _json(default_factory=dict)
    run_id: str = ""

    @classmethod
    def of(
        cls,
        scan: int,
        batch_key: str,
        config: Mapping[str, Any],
        threshold: Mapping[str, Any],
        details: Mapping[str, Any] | None = None,
        run_id: str = "",
    ) -> "ThresholdRecord":
        """From `Threshold.to_dict()`: what has no column of its own goes into `details`."""
        columns = {name for name in cls.__dataclass_fields__ if name not in Record.__dataclass_fields__}
        known = {name: value for name, value in threshold.items() if name in columns}
        rest = {name: value for name, value in threshold.items() if name not in columns}
        known["grid"], known["density"] = tuple(known.get("grid", ())), tuple(known.get("density", ()))
        return cls(
            scan=scan, batch_key=batch_key, config=config, details={**rest, **(details or {})}, run_id=run_id, **known
        )

    def found(self) -> dict[str, Any]:
        """What `of` was given as `threshold` and `details`, together."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _OF_THE_RECORD}
        return {**named, "grid": list(self.grid), "density": list(self.density), **self.details}


_OF_THE_RECORD = {"seq", "recorded_at", "scan", "batch_key", "config", "details", "run_id"}  # and not of the threshold


@dataclass(frozen=True, kw_only=True)
class Decision(Record):
    """The verdicts of one scan under one threshold, policy and set of overrides.

    `scan`, `threshold`: the numbers of those records. `settings`: all that the verdicts depend on beside scores and
    threshold. `overrides`: those that were applied, `AppliedOverride` as JSON objects; `overrides_digest`: what
    `overrides_digest(batch)` was then, so that a change makes the batch stale.
    """

    scan: int
    threshold: int
    batch_key: str
    decision_key: str
    policy: str
    settings: Mapping[str, Any] = _json(default_factory=dict)
    verdicts: FileRef  # verdicts.parquet
    clean: int
    flagged: int
    unscored: int
    overrides: tuple[Mapping[str, Any], ...] = _json(default=())
    overrides_digest: str = ""
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Findings(Record):
    """What a decision found beside its verdicts. `groups`: rows that look like one attack, `Group`s as JSON objects;
    `remarks`: on the whole batch, in sentences."""

    batch_key: str
    decision: int
    groups: tuple[Mapping[str, Any], ...] = _json(default=())
    remarks: tuple[str, ...] = _json(default=())
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class GateResult(Record):
    """The gate's answer for exactly these inputs. `checks`: `GateCheck`s as JSON objects.

    `loosened`: who judged by limits looser than the store's own (`made_by`, `reason`, `own`: those limits); None where
    nobody did.
    """

    batch_key: str
    decision: int
    verdicts_sha256: str
    limits: Mapping[str, Any] = _json()
    inputs_sha256: str
    passed: bool
    checks: tuple[Mapping[str, Any], ...] = _json()
    run_id: str = ""
    loosened: Mapping[str, Any] | None = _json(default=None)


@dataclass(frozen=True, kw_only=True)
class GateAcceptance(Record):
    """A person lets one failed gate pass: these inputs, no others.

    `accepted`: what that person had before them (see acceptance.py); None in records of version 0.3.
    """

    batch_key: str
    inputs_sha256: str
    made_by: str
    reason: str
    accepted: Mapping[str, Any] | None = _json(default=None)


@dataclass(frozen=True, kw_only=True)
class Override(Record):
    """A person's word on a sample: `release` it, `flag` it, or `unset` what was said before.

    `batch_key` None: in every batch. A word on one batch goes before a word on all; among equals the last one counts.
    `page`: SHA-256 of the review page that it was said on; None where it was not said on one.
    """

    sample_id: str
    action: Literal["release", "flag", "unset"]
    made_by: str
    reason: str
    batch_key: str | None = None
    page: str | None = None


@dataclass(frozen=True, kw_only=True)
class Output(Record):
    """A file that a step wrote, beside its tables. `rows`: data rows in it, None where that means nothing.

    `decision`: the decision that it belongs to.
    """

    batch_key: str
    decision: int
    kind: OutputKind
    file: FileRef
    rows: int | None = None
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreFile(Record):
    """A file of scores in the cache. `cache`: the folder's name, which stands for model and scoring configuration."""

    cache: str
    file: FileRef
    rows: int
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class LimitPolicy(Record):
    """The gate limits that the store has of its own from here on, by a person's word. `limits`: `GateLimits`."""

    limits: Mapping[str, float] = _json()
    made_by: str
    reason: str


@dataclass(frozen=True)
class GateState:
    """Where a set of gate inputs stands. `open` tells whether its clean rows may be published."""

    status: Literal["never run", "passed", "failed", "accepted"]
    result: GateResult | None = None
    acceptance: GateAcceptance | None = None

    @property
    def open(self) -> bool:
        return self.status in ("passed", "accepted")


TABLES: dict[type[Record], str] = {
    Run: "runs",
    Batch: "batches",
    Scan: "scans",
    ThresholdRecord: "thresholds",
    Decision: "decisions",
    Findings: "findings",
    GateResult: "gate_results",
    GateAcceptance: "gate_acceptances",
    Override: "overrides",
    Output: "outputs",
    ScoreFile: "score_files",
    LimitPolicy: "limit_policies",
}
