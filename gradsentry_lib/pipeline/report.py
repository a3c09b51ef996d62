"""The page that a person opens: one scan of one batch, put together from its files."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.files import write_text
from gradsentry_lib.pipeline.decided import Decided, load_evidence
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.pipeline.other_batches import released_elsewhere
from gradsentry_lib.report.contents import Contents, Counts, EvidenceGroup, Points, Reading, RejectedRow, Row, Span
from gradsentry_lib.report.page import render_page
from gradsentry_lib.samples.preview import SHOWN as FIRST
from gradsentry_lib.samples.preview import standing
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import read_rejects, read_samples
from gradsentry_lib.store import Decision, GateState, Run, Scan, open_ledger
from gradsentry_lib.store.paths import Store

SHOWN = 200  # rows of a kind on the page


def write_report(batch: Ingested, decided: Decided, store: Store, state: GateState, path: Path) -> Path:
    """Writes the page of a decision to `path`, atomically. `state`: how the gate stands now."""
    names = ["row", "sample_id", "entropy", "supervised_tokens", "nll", "verdict", "reasons"]
    verdicts = pq.read_table(store.decision(batch.batch_key, decided.decision_key).verdicts, columns=names)
    evidence = load_evidence(store, decided)
    with open_ledger(store.ledger, read_only=True) as ledger:
        scan = ledger.get(Scan, ledger.get(Decision, decided.number).scan)
        runs = ledger.find(Run, run_id=scan.run_id)
    flagged = _some(verdicts, "flagged").sort_by([("entropy", "descending")]).slice(0, SHOWN)
    unscored = _some(verdicts, "unscored").slice(0, SHOWN)
    texts = _texts(store, batch, np.union1d(flagged["row"].to_numpy(), unscored["row"].to_numpy()))
    accepted = f"{state.acceptance.made_by}: {state.acceptance.reason}" if state.acceptance else ""
    contents = Contents(
        batch=batch.batch_key,
        counts=Counts(batch.read, decided.clean, decided.flagged, decided.unscored, batch.rejected),
        source=batch.source,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        policy=decided.policy,
        checks=decided.gate_checks,
        accepted=accepted,
        threshold=evidence.threshold,
        trust=evidence.trust,
        points=_points(verdicts),
        remarks=(*_cut_short(batch), *decided.remarks, *map(str, released_elsewhere(store, batch.batch_key))),
        groups=tuple(_group(group) for group in evidence.groups),
        rows=_rows(flagged, texts, evidence.groups),
        unscored=_rows(unscored, texts, ()),
        rejected=tuple(RejectedRow(**asdict(r)) for r in islice(read_rejects(store.rejected(batch.batch_key)), SHOWN)),
        reading=_reading(store, batch),
        settings=_settings(scan, decided),
        provenance=_provenance(batch, scan, runs[-1] if runs else None),
    )
    write_text(path, render_page(contents))
    return path


def _reading(store: Store, batch: Ingested) -> Reading:
    first = next(read_samples(store.samples(batch.batch_key), FIRST), [])
    rows = tuple(
        Row(s.row, s.line, turns=tuple((f"{turn.role}: {standing(turn)}", turn.said) for turn in s.turns))
        for s in first
    )
    return Reading(batch.layout, batch.notes, tuple(column.share(batch.readable) for column in batch.unread), rows)


def _cut_short(batch: Ingested) -> tuple[str, ...]:
    return (f"The source is cut short, so rows of it are missing: {batch.truncated}.",) if batch.truncated else ()


def _some(verdicts: pa.Table, verdict: str) -> pa.Table:
    return verdicts.filter(pc.equal(verdicts["verdict"], verdict))


def _points(verdicts: pa.Table) -> Points:
    scored = verdicts.filter(pc.invert(pc.is_nan(verdicts["entropy"])))
    return Points(
        scored["entropy"].to_numpy(),
        scored["supervised_tokens"].to_numpy(),
        pc.not_equal(scored["verdict"], "clean").to_numpy(zero_copy_only=False),
    )


def _texts(store: Store, batch: Ingested, rows: np.ndarray) -> Mapping[int, Sample]:
    """The samples of some rows, by row number."""
    wanted = set(rows.tolist())
    chunks: Iterator[list[Sample]] = read_samples(store.samples(batch.batch_key))
    return {sample.row: sample for chunk in chunks for sample in chunk if sample.row in wanted} if wanted else {}


def _rows(table: pa.Table, texts: Mapping[int, Sample], groups: tuple[Group, ...]) -> tuple[Row, ...]:
    payload = {row: group.payload for group in groups for row in group.rows if group.payload}
    made = []
    for line in table.to_pylist():
        sample = texts[line["row"]]
        turns = tuple((turn.role, turn.said) for turn in sample.turns)
        entropy = None if np.isnan(line["entropy"]) else line["entropy"]
        made.append(
            Row(
                row=sample.row,
                line=sample.line,
                sample_id=line["sample_id"],
                verdict=line["verdict"],
                reasons=tuple(line["reasons"]),
                entropy=entropy,
                supervised_tokens=line["supervised_tokens"],
                nll=None if entropy is None else line["nll"],
                turns=turns,
                spans=_spans(sample, payload.get(sample.row, "")),
            )
        )
    return tuple(made)


def _spans(sample: Sample, payload: str) -> tuple[Span, ...]:
    """Where the payload stands in the answers."""
    if not payload:
        return ()
    found = []
    for number, turn in enumerate(sample.turns):
        at = turn.said.find(payload) if turn.judged else -1
        if at >= 0:
            found.append(Span(number, at, at + len(payload)))
    return tuple(found)


def _group(group: Group) -> EvidenceGroup:
    known = {name: value for name, value in group.figures.items() if name in EvidenceGroup.__dataclass_fields__}
    known["variants"] = tuple(known.get("variants", ()))
    known["examples"] = group.rows[:10]
    known["watched"] = group.watched
    return EvidenceGroup(rows=len(group.rows), payload=group.payload, trigger=group.trigger, **known)


def _settings(scan: Scan, decided: Decided) -> dict[str, str]:
    return {
        "model": scan.model,
        **{name: str(value) for name, value in scan.scoring.items()},
        "device": scan.device,
        "policy": decided.policy,
        "threshold": f"{decided.tau:.4f}",
    }


def _provenance(batch: Ingested, scan: Scan, run: Run | None) -> dict[str, str]:
    told = {
        "source": batch.source,
        "source SHA-256": batch.source_sha256,
        "model weights SHA-256": scan.model_fingerprint,
        "tokenizer SHA-256": scan.tokenizer_fingerprint,
        "scored": f"{scan.started_at:%Y-%m-%d %H:%M} to {scan.finished_at:%Y-%m-%d %H:%M} UTC",
    }
    if run is not None:
        told |= {"run": run.run_id, "host": run.host, "user": run.username, "GradSentry": run.code_version}
        told |= {name: version for name, version in run.packages.items() if name in ("torch", "transformers")}
    return told
