"""Last step: the clean file and the quarantine, where the gate is open for exactly these verdicts."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib import settings
from gradsentry_lib.detection.gate import refusals
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.errors import BadInput, DamagedStore, GateFailed
from gradsentry_lib.files import has_digest
from gradsentry_lib.pipeline.decided import Decided
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.pipeline.report import write_report
from gradsentry_lib.samples.source import digest
from gradsentry_lib.samples.write import QUARANTINE_COLUMNS, write_clean, write_quarantine
from gradsentry_lib.store import (
    FileRef,
    GateAcceptance,
    GateResult,
    GateState,
    Output,
    Run,
    file_ref,
    gate_inputs_sha256,
    open_ledger,
    reading,
)
from gradsentry_lib.store.attestation import attestations, publish_attestation
from gradsentry_lib.store.attestation_repair import repair
from gradsentry_lib.store.paths import Store
from gradsentry_lib.store.records import OutputKind


@dataclass(frozen=True)
class Published:
    """What was handed out: read = clean + quarantined + rejected, checked."""

    folder: Path
    clean: Path
    quarantine: Path
    attestation: Path
    report: Path
    clean_rows: int
    quarantined_rows: int
    gate: str  # passed, or accepted by a person


def gate_of(decided: Decided, store: Store) -> GateState:
    """How the gate stands now for the verdicts as they lie there; a person may have accepted it since.

    The verdict file's own digest and the limits in the ledger name the inputs: an edited file is one for which the gate
    never ran.
    """
    return _gate_for(_verdicts(decided, store), decided, store)


def _verdicts(decided: Decided, store: Store) -> bytes:
    """The verdict file as it lies there, read once for its digest and its rows; empty where there is none."""
    path = store.decision(decided.batch_key, decided.decision_key).verdicts
    return path.read_bytes() if path.exists() else b""


def _gate_for(verdicts: bytes, decided: Decided, store: Store) -> GateState:
    found = hashlib.sha256(verdicts).hexdigest()
    with open_ledger(store.ledger, read_only=True) as ledger:
        results = ledger.find(GateResult, decision=decided.number, batch_key=decided.batch_key)
        return (
            ledger.gate_state(gate_inputs_sha256(found, results[-1].limits), decided.batch_key)
            if results
            else GateState("never run")
        )


def publish(batch: Ingested, decided: Decided, store: Store, run: Run) -> Published:
    """Writes the batch's clean rows in the source's own format, and the quarantined ones with their reasons. What an
    earlier call wrote for the same decision, and is what was recorded of it, stays as it is.

    Raises GateFailed where the gate failed or never ran for these verdicts, SourceChanged where the source is not what
    was judged any more, BadInput where the rows do not add up.
    """
    verdicts = _verdicts(decided, store)
    state = _gate_for(verdicts, decided, store)
    if not state.open:
        failed = "; ".join(check.message for check in refusals(decided.gate_checks))
        raise GateFailed(f"gate {state.status} for batch {batch.batch_key}: {failed or 'no result stored'}")
    if (known := _published_before(batch, decided, store, state)) is not None:
        with batch.held(store):  # the source is still what was judged
            return known
    kept, rest = _split(verdicts)
    del verdicts  # what is not needed beside the writing is not held
    files = store.published(batch.batch_key, decided.decision_key)
    quarantine, attestation = files.quarantine, files.attestation
    with batch.held(store) as source:
        total = batch.read if not batch.options.get("limit") else sum(1 for _ in source.rows())
        removed = np.flatnonzero(~_mask(kept, total))
        clean = files.clean(source.suffix)
        clean_rows = write_clean(source, removed, clean)
        quarantined_rows = write_quarantine(source, rest, quarantine)
    try:
        _check_conservation(batch, len(kept), clean_rows, quarantined_rows)
    except BadInput:
        for made in (clean, quarantine):
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        raise
    report = write_report(batch, decided, store, state, files.report, run.run_id)
    written: tuple[tuple[OutputKind, Path, int | None], ...] = (
        ("clean", clean, clean_rows),
        ("quarantine", quarantine, quarantined_rows),
        ("report", report, None),
    )
    outputs = [
        Output(
            batch_key=batch.batch_key,
            decision=decided.number,
            kind=kind,
            file=file_ref(path) if path.is_file() else FileRef(path, digest(path, source.kind)),
            rows=rows,
            run_id=run.run_id,
        )
        for kind, path, rows in written
    ]
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        for output in outputs:
            ledger.record_output(output)
    with open_ledger(store.ledger) as ledger:
        repair(ledger, batch.batch_key)
        publish_attestation(ledger, decided.number, outputs[0].file, attestation, run.run_id)
    return Published(files.folder, clean, quarantine, attestation, report, clean_rows, quarantined_rows, state.status)


def _split(verdicts: bytes) -> tuple[np.ndarray, pa.Table]:
    """Of a verdict file, the row numbers that are clean, and the other rows."""
    judged = pq.ParquetFile(pa.BufferReader(verdicts)).read(QUARANTINE_COLUMNS)
    out = not_clean(judged)
    return judged["row"].to_numpy()[~out], judged.filter(pa.array(out))


def handed_out(store: Store, decided: Decided, published: Published | None) -> dict[str, Path]:
    """What there is to hand out, by name; `clean...` and `quarantine.jsonl` only where the gate is open."""
    made = store.decision(decided.batch_key, decided.decision_key)
    found = (made.verdicts, made.threshold, made.plot, made.groups, made.power, made.report)
    files = {path.name: path for path in (*found, store.rejected(decided.batch_key))}
    if published is not None:
        # Hidden ones are what another scan of the same batch is writing at this moment.
        files |= {path.name: path for path in published.folder.iterdir() if not path.name.startswith(".")}
    # The report of a batch that was published lies with the clean file.
    return {name: path for name, path in files.items() if path.exists()}


def _published_before(batch: Ingested, decided: Decided, store: Store, state: GateState) -> Published | None:
    """What was handed out for this very decision, if all of it is a file that is whole and nobody spoke since."""
    if settings.signing_key() is not None:  # another key may be asked for by now
        return None
    files = store.published(batch.batch_key, decided.decision_key)
    with reading(store.ledger) as ledger:
        recorded = {output.kind: output for output in ledger.find(Output, decision=decided.number)
                    if output.file.file.parent == files.folder}  # fmt: skip
        since = ledger.released_in_others(batch.batch_key)
        accepted = ledger.find(GateAcceptance, inputs_sha256=decided.gate_inputs, batch_key=batch.batch_key)
        kept = {file.file for file in attestations(ledger, batch.batch_key)}
        found = set(ledger.paths.kept_attestations(batch.batch_key))
    if kept != found:  # one is gone, or a killed process left one: `repair` puts that right
        return None
    kinds: tuple[OutputKind, ...] = ("clean", "quarantine", "report", "attestation")
    if since or not set(kinds) <= recorded.keys() or any(each.seq > recorded["report"].seq for each in accepted):
        return None
    if not all(each.file.file.is_file() and has_digest(each.file.file, each.file.sha256) for each in recorded.values()):
        return None
    clean, quarantine, report, attestation = (recorded[kind] for kind in kinds)
    return Published(
        files.folder,
        clean.file.file,
        quarantine.file.file,
        attestation.file.file,
        report.file.file,
        clean.rows or 0,
        quarantine.rows or 0,
        state.status,
    )


def _mask(rows: np.ndarray, total: int) -> np.ndarray:
    """(total,) bool, true at those rows. (numpy's set functions import its masked arrays.)"""
    mask = np.zeros(total, bool)
    mask[rows[rows < total]] = True
    return mask


def write_refusal(batch: Ingested, decided: Decided, store: Store, run: Run) -> Path:
    """The report of a batch that the gate refused: what a person looks at before accepting or rejecting it."""
    path = store.decision(batch.batch_key, decided.decision_key).report
    write_report(batch, decided, store, gate_of(decided, store), path, run.run_id)
    report = Output(
        batch_key=batch.batch_key, decision=decided.number, kind="report", file=file_ref(path), run_id=run.run_id
    )
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        ledger.record_output(report)
    return path


def _check_conservation(batch: Ingested, kept: int, clean_rows: int, quarantined_rows: int) -> None:
    if clean_rows != kept or batch.read != clean_rows + quarantined_rows + batch.rejected:
        raise DamagedStore(
            f"rows do not add up: {batch.read} read, {clean_rows} clean, {quarantined_rows} quarantined, "
            f"{batch.rejected} rejected; nothing of this batch is to be used"
        )
