"""The steps of a scan once more, to check their recorded results (verify.py). Writes nothing into the store."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib import settings
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.control import KEEP, QUARANTINE
from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.detection.known import known_groups
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.reason import Swapped
from gradsentry_lib.detection.verdict import Override
from gradsentry_lib.errors import GradSentryError, UnusableInput
from gradsentry_lib.files import has_digest
from gradsentry_lib.pipeline.score import read_scores, read_sketches
from gradsentry_lib.pipeline.swapped import recorded
from gradsentry_lib.samples import arrow
from gradsentry_lib.samples.container import Meter, find_compression, open_regular, open_unpacked
from gradsentry_lib.samples.ipc import ipc_batches
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.samples.write import write_clean
from gradsentry_lib.store import Batch, Decision, Output, Scan, ThresholdRecord
from gradsentry_lib.store.paths import DecisionFiles, PublishedFiles

SHOWN = 5  # lines that a difference names


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
        control_tokens=decision.settings.get("control_tokens", QUARANTINE),
        detection=_detection(decision),
        swapped=_swapped(decision),
        watched=decision.settings.get("watched", KEEP),
        known=known_groups(decision.settings.get("known", ())),
    )
    return judgement.threshold.tau, judgement.verdicts


def _detection(decision: Decision) -> DetectionConfig | None:
    told = decision.settings.get("detection")
    return None if told is None else DetectionConfig.from_dict(told)


def _swapped(decision: Decision) -> Swapped | None:
    sha256 = decision.settings.get("swapped")
    return None if sha256 is None else recorded(DecisionFiles(decision.verdicts.file.parent), sha256)


def clean_rows(batch: Batch, decision: Decision, output: Output, found: Path | None = None) -> str:
    """How a clean file, or an altered copy of it at `found`, differs from what was published, in words.

    Compared with the store's own file where that is unaltered, else with the source without its removed rows. Raises
    BadInput where neither is there any more, or the source is no single file.
    """
    own = output.file.file
    found = found or own
    rows = pq.read_table(decision.verdicts.file, columns=["row"], filters=[("verdict", "=", "clean")])["row"].to_numpy()
    if found != own and own.is_file() and has_digest(own, output.file.sha256):
        return compare(own, found, rows, batch.batch_key)
    options = batch.options
    source = open_as_told(str(batch.source.path), options)
    if source.sha256 != batch.source.sha256:
        raise UnusableInput("the source has changed too")
    if source.is_folder:
        raise UnusableInput("the rows of folders are not compared")
    total = batch.rows_read if not options.get("limit") else sum(1 for _ in source.records())
    with tempfile.TemporaryDirectory() as folder:
        expected = PublishedFiles(Path(folder)).clean(source.suffix)
        write_clean(source, np.setdiff1d(np.arange(total), rows), expected)
        return compare(expected, found, rows, batch.batch_key)


def compare(expected: Path, found: Path, rows: np.ndarray, batch_key: str) -> str:
    """How two files differ that should be the same. `rows`: the source's numbers of the rows in `expected`, in order.

    A row that stands in its place and is another is named by its number; what was taken out or put in, by lines.
    """
    try:
        changed, same_length = _changed(expected, found)
    except (GradSentryError, ValueError):  # what was done to it made it another kind of file
        changed, same_length = [], False
    before, after = Counter(one for _, one, _, _ in changed), Counter(other for _, _, other, _ in changed)
    if same_length and changed and not before & after:
        named = [f"{rows[at]} (line {line})" for at, _, _, line in changed[:SHOWN] if at < len(rows)]
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        one = len(changed) == 1
        return f"altered: row{'' if one else 's'} {', '.join(named)}{more} of the clean set of batch {batch_key}"
    return f"{describe(_lines(expected), _lines(found))} (clean set of batch {batch_key})"


def _changed(expected: Path, found: Path) -> tuple[list[tuple[int, bytes, bytes, int]], bool]:
    """The rows that differ (place among the rows, the one, the other, line in the second file), and whether there are
    as many rows in both."""
    changed: list[tuple[int, bytes, bytes, int]] = []
    at = -1
    for at, (one, other) in enumerate(zip_longest(_rows(expected), _rows(found))):
        if one is None or other is None:
            return changed, False
        if one[0] != other[0]:
            changed.append((at, one[0], other[0], other[1]))
    return changed, at >= 0


def _rows(path: Path) -> Iterator[tuple[bytes, int]]:
    """A file's rows with the line that each begins in, from 1; of Parquet the rows as JSON, by their number."""
    if path.suffix == ".parquet":
        yield from ((row, at) for at, row in enumerate(_lines(path), start=1))
        return
    source = open_as_told(str(path), {})
    if source.kind not in ("jsonl", "csv"):
        raise UnusableInput("no rows on lines of their own")
    line = 1
    for piece in source.pieces(source.parts[0], Meter(source.max_bytes)):
        if piece.is_row:
            yield piece.data, line
        line += piece.data.count(b"\n")


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
    """A text file's lines, unpacked; the rows of a table as JSON."""
    if path.suffix == ".parquet":
        yield from _as_json(arrow.parquet_batches(path))
        return
    if path.suffix in (".arrow", ".feather"):
        yield from _as_json(ipc_batches(path, []))
        return
    with open_regular(path) as file:
        compression = find_compression(file.read(10))
    with open_unpacked(path, compression, Meter(settings.max_bytes()), []) as text:
        yield from text


def _as_json(batches: Iterable[pa.RecordBatch]) -> Iterable[bytes]:
    for batch in batches:
        yield from (json.dumps(row, default=str, sort_keys=True).encode() for row in batch.to_pylist())
