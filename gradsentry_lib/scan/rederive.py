"""The steps of a scan once more, to check their recorded results (ledger/verify.py). Writes nothing into the store."""

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.reason import Swapped
from gradsentry_lib.errors import BadInput
from gradsentry_lib.filtering.policy import judge
from gradsentry_lib.filtering.threshold import ThresholdConfig
from gradsentry_lib.filtering.verdict import Override
from gradsentry_lib.ledger import Batch, Decision, Output, Scan, ThresholdRecord
from gradsentry_lib.ledger.evidence import Recompute
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.source import digest
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.samples.write import write_clean
from gradsentry_lib.scan.history import load_earlier
from gradsentry_lib.scan.score import read_scores, read_sketches
from gradsentry_lib.scan.store import Store
from gradsentry_lib.scan.swapped import recorded

SHOWN = 5  # lines that a difference names


def recompute() -> Recompute:
    """What a verification needs of the rooms of samples and filtering."""
    return Recompute(digest=digest, judge=judge_again, clean_rows=clean_rows)


def judge_again(batch: Batch, scan: Scan, threshold: ThresholdRecord, decision: Decision) -> tuple[float, pa.Table]:
    """tau and the verdict table that follow from a scan's scores under a decision's recorded settings."""
    words = [
        Override(word["sample_id"], word["action"], word["made_by"], word["reason"]) for word in decision.overrides
    ]
    judgement = judge(
        read_scores(scan.scores.file),
        decision.policy,
        threshold=ThresholdConfig(**threshold.config),
        samples=lambda: read_samples(batch.samples.file),
        sketches=lambda: read_sketches(scan.scores.file),
        overrides=words,
        detection=_detection(decision),
        swapped=_swapped(decision),
        history=load_earlier(Store(batch.samples.file.parents[2]), decision.settings.get("history", [])),
    )
    return judgement.threshold.tau, judgement.verdicts


def _detection(decision: Decision) -> DetectionConfig | None:
    told = decision.settings.get("detection")
    return None if told is None else DetectionConfig(**{**told, "marking": tuple(told["marking"])})


def _swapped(decision: Decision) -> Swapped | None:
    sha256 = decision.settings.get("swapped")
    return None if sha256 is None else recorded(decision.verdicts.file.parent, sha256)


def clean_rows(batch: Batch, decision: Decision, output: Output) -> str:
    """How a clean file differs from the source without its removed rows, in words. Raises BadInput where the source
    has changed too, or is no single file."""
    options = batch.options
    source = open_source(str(batch.source.path), options.get("columns"), options.get("split"))
    if source.sha256 != batch.source.sha256:
        raise BadInput("the source has changed too")
    if source.suffix == "":
        raise BadInput("the rows of folders are not compared")
    kept = pq.read_table(decision.verdicts.file, columns=["row"], filters=[("verdict", "=", "clean")])["row"]
    total = batch.rows_read if not options.get("limit") else sum(1 for _ in source.records())
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder) / f"clean{source.suffix}"
        write_clean(source, np.setdiff1d(np.arange(total), kept.to_numpy()), expected)
        return describe(_lines(expected), _lines(output.file.file))


def describe(expected: Iterable[bytes], found: Iterable[bytes]) -> str:
    """Which lines of `found` are foreign to `expected`, and how many of `expected` it lacks."""
    wanted = Counter(expected)
    foreign: list[str] = []
    count = 0
    for number, line in enumerate(found, start=1):
        if wanted[line] > 0:
            wanted[line] -= 1
            continue
        count += 1
        if len(foreign) < SHOWN:
            foreign.append(str(number))
    lacking = sum(wanted.values())
    if not count and not lacking:
        return "the same rows, in another order or form"
    parts = []
    if count:
        more = f" and {count - SHOWN} more" if count > SHOWN else ""
        parts.append(
            f"holds line{'s' if count > 1 else ''} {', '.join(foreign)}{more} that do{'es' * (count == 1)} not belong"
        )
    if lacking:
        parts.append(f"lacks {lacking} line{'s' if lacking > 1 else ''} of the source")
    return "; ".join(parts)


def _lines(path: Path) -> Iterable[bytes]:
    """A text file's lines; the rows of a Parquet file as JSON."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from (json.dumps(row, default=str, sort_keys=True).encode() for row in batch.to_pylist())
    elif path.suffix == ".gz":
        with gzip.open(path) as packed:
            yield from packed
    else:
        with path.open("rb") as text:
            yield from text
