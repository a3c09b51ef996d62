"""Every file against the digest that the ledger has of it."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from gradsentry_lib.audit.evidence import Finding, Records
from gradsentry_lib.audit.facts import digest_of, state_of
from gradsentry_lib.audit.recompute import clean_rows
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.store import sample_index as index
from gradsentry_lib.store.records import FileRef, Output

STEPS = ("batch", "scores", "decision")  # kinds of version 0.3.0 whose files `store upgrade` removes
CACHE = "score cache"  # kind of a file whose loss costs time and nothing else


@dataclass(frozen=True)
class ExpectedFile:
    """A file that the ledger speaks of: what it is, what it should be. `output`: where it is one."""

    subject: str
    ref: FileRef
    kind: str = ""
    output: Output | None = None


def expected_files(records: Records) -> list[ExpectedFile]:
    """Every file once, as it was recorded last: a file that was made again replaces the older one of that name."""
    batches = records.latest_batches
    found: dict[str, ExpectedFile] = {}

    def add(subject: str, ref: FileRef | None, kind: str = "", output: Output | None = None) -> None:
        if ref is not None:
            found[str(ref.path)] = ExpectedFile(subject, ref, kind, output)

    for batch in records.batches.values():
        add(f"source of batch {batch.batch_key}", batch.source, batch.kind)
        add(f"samples of batch {batch.batch_key}", batch.samples)
        add(f"rejected rows of batch {batch.batch_key}", batch.rejected)
    for scan in records.scans.values():
        add(f"scores of scan {scan.seq} (batch {scan.batch_key})", scan.scores)
    for decision in records.decisions.values():
        add(f"verdicts of decision {decision.seq} (batch {decision.batch_key})", decision.verdicts)
    for output in records.outputs.values():
        kind = batches[output.batch_key].kind if output.batch_key in batches else ""
        of = (
            f"decision {output.decision} (batch {output.batch_key})" if output.decision else f"batch {output.batch_key}"
        )
        add(f"{output.kind} file of {of}", output.file, kind, output)
    for scores in records.score_files.values():
        add(f"file of the score cache ({scores.rows} rows)", scores.file, CACHE)
    return list(found.values())


def check_file(records: Records, file: ExpectedFile) -> Iterator[Finding]:
    """Its bytes against its digest."""
    state = state_of(file.ref, file.kind)
    name = records.short(file.ref)
    if state == "not checked":
        yield Finding(file.subject, f"{name} is not a file here and was not checked", "note")
    elif state == "missing":
        if file.output is not None and file.output.kind in STEPS:
            return
        needed = file.ref.file.is_relative_to(records.store) and file.kind != CACHE
        yield Finding(file.subject, f"{name} is missing", "problem" if needed else "note")
    elif state == "altered":
        details = _another(records, file) or _clean_details(records, file)
        yield Finding(file.subject, f"{name} is not what was recorded{details}")


def _another(records: Records, file: ExpectedFile) -> str:
    """Where another file of this ledger was put in its place, which one: an older set, or its statement."""
    if file.output is None:
        return ""
    try:
        sha256 = digest_of(file.ref.file, file.kind)
    except (OSError, GradSentryError):
        return ""
    for output in reversed(records.outputs.values()):
        if output.file.sha256 == sha256:
            age = "an older " if output.decision < file.output.decision else "the "
            return f": it is {age}{output.kind} file, of decision {output.decision} (batch {output.batch_key})"
    return ""


def _clean_details(records: Records, file: ExpectedFile) -> str:
    """Which rows of a clean file were touched, where source and verdicts can still tell."""
    if file.output is None or file.output.kind != "clean":
        return ""
    batch = records.latest_batches.get(file.output.batch_key)
    decision = records.decisions.get(file.output.decision)
    if batch is None or decision is None:
        return ""
    try:
        return f": {clean_rows(batch, decision, file.output)}"
    except (GradSentryError, OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        return f" (which rows, can't be told: {error})"


def check_cache(records: Records) -> Iterator[Finding]:
    """Files of scores that the ledger does not know. No scan believes them, so they are worth a note."""
    known = {scores.file.file for scores in records.score_files.values()}
    foreign: dict[Path, list[Path]] = {}
    for path in records.paths.cached_scores():
        if path not in known:
            foreign.setdefault(path.parent, []).append(path)
    for folder, paths in foreign.items():
        what = f"{len(paths)} files that the ledger does not know, {paths[0].name[:16]}... among them"
        yield Finding(f"score cache {records.short(folder)}", f"{what}: no scan believes them", "note")


def check_indexes(records: Records, sound: set[Path]) -> Iterator[Finding]:
    """The index of sample ids against the samples: one that lacks ids would hide a sample from an audit."""
    for batch in records.latest_batches.values():
        path = records.paths.sample_ids(batch.batch_key)
        if batch.samples.file not in sound or not path.exists():
            continue
        try:
            same = np.array_equal(index.read_index(path), index.make_index(batch.samples.file))
        except (ValueError, OSError, GradSentryError):
            same = False
        if not same:
            yield Finding(f"sample index of batch {batch.batch_key}", f"{records.short(path)} does not fit the samples")
