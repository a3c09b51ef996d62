"""The page that a person opens: one scan of one batch, put together from its files."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.gate import WATCHED
from gradsentry_lib.files import write_text
from gradsentry_lib.pipeline.decided import Decided, load_evidence, verdicts_of
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.pipeline.listing import listing
from gradsentry_lib.pipeline.other_batches import released_in_others
from gradsentry_lib.pipeline.power import load_certificate
from gradsentry_lib.report.contents import Contents, Counts, Points, Reading, RejectedRow, Review, Row
from gradsentry_lib.report.evidence import looked_for
from gradsentry_lib.report.page import render_page
from gradsentry_lib.report.rows import PAGE_ROWS, SERVED_ROWS, for_page
from gradsentry_lib.samples.preview import SHOWN as FIRST
from gradsentry_lib.samples.preview import standing
from gradsentry_lib.samples.table import read_rejects, read_samples
from gradsentry_lib.store import Decision, GateState, Run, Scan, overrides_digest, reading
from gradsentry_lib.store.paths import Store

SHOWN = 200  # rejected rows on the page


def write_report(
    batch: Ingested, decided: Decided, store: Store, state: GateState, path: Path, run_id: str = ""
) -> Path:
    """Writes the page of a decision to `path`, atomically. `state`: how the gate stands now."""
    write_text(path, render_page(page_contents(batch, decided, store, state, run_id=run_id)))
    return path


def page_contents(
    batch: Ingested,
    decided: Decided,
    store: Store,
    state: GateState,
    served: Mapping[str, Any] | None = None,
    run_id: str = "",
) -> Contents:
    """What the page shows. `served`: `by` and `token` of the server that asks; `run_id`: who has the rows listed, where
    they are not yet."""
    listed = listing(store, batch, decided, run_id)
    verdicts = pq.ParquetFile(verdicts_of(store, decided)).read()  # `read_table` imports a query engine
    with reading(store.ledger) as ledger:
        decision = ledger.get(Decision, decided.number)
        certificate = load_certificate(store, decided)
        evidence, in_others = load_evidence(store, decided), released_in_others(store, batch.batch_key)
        scan = ledger.get(Scan, decision.scan)
        runs = ledger.find(Run, run_id=scan.run_id)
        words, head = ledger.active_overrides(batch.batch_key), ledger.head()
    accepted = f"{state.acceptance.made_by}: {state.acceptance.reason}" if state.acceptance else ""
    rejects = list(read_rejects(store.rejected(batch.batch_key)))
    scored = verdicts.num_rows - decided.unscored
    level = (decision.settings.get("detection") or {}).get("level", DetectionConfig().level)
    return Contents(
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
        remarks=(*_cut_short(batch), *decided.remarks, *map(str, in_others)),
        looked_for=looked_for(decided.policy, scored, level),
        power=() if certificate is None else certificate.sentences(),
        cards=listed.cards,
        rows=tuple(for_page(listed.rows(), PAGE_ROWS if served is None else SERVED_ROWS)),
        listed=listed.count,
        watched=_watched(verdicts),
        unscored=_reasons(verdicts, "unscored"),
        refused_rows=dict(Counter(reject.reason for reject in rejects).most_common(SHOWN)),
        rejected=tuple(RejectedRow(**asdict(reject)) for reject in islice(rejects, SHOWN)),
        reading=_reading(store, batch),
        review=Review(
            decision=decided.number,
            verdicts_sha256=decided.verdicts_sha256,
            words_digest=overrides_digest(words),
            seq=head.seq,
            words={
                word.sample_id: (
                    word.action,
                    word.made_by,
                    f"{word.recorded_at:%Y-%m-%d}" if word.recorded_at else "",
                    word.reason,
                    word.batch_key or "all",
                )
                for word in words
            },
            served=served is not None,
            **(served or {}),
        ),
        settings=_settings(scan, decided),
        provenance=_provenance(batch, scan, runs[-1] if runs else None),
    )


def _reading(store: Store, batch: Ingested) -> Reading:
    first = next(read_samples(store.samples(batch.batch_key), FIRST), [])
    rows = tuple(
        Row(s.row, s.line, turns=tuple((f"{turn.role}: {standing(turn)}", turn.said) for turn in s.turns))
        for s in first
    )
    return Reading(batch.layout, batch.notes, tuple(column.share(batch.readable) for column in batch.unread), rows)


def _cut_short(batch: Ingested) -> tuple[str, ...]:
    return (f"The source is cut short, so rows of it are missing: {batch.truncated}.",) if batch.truncated else ()


def _watched(verdicts: pa.Table) -> int:
    if WATCHED not in verdicts.column_names:
        return 0
    rows = pc.and_(pc.fill_null(verdicts[WATCHED], False), pc.equal(verdicts["verdict"], "clean"))
    return int(pc.sum(rows).as_py() or 0)


def _reasons(verdicts: pa.Table, verdict: str) -> dict[str, int]:
    """How many rows of a verdict have which first reason."""
    found = verdicts.filter(pc.equal(verdicts["verdict"], verdict))["reasons"].to_pylist()
    return dict(Counter(reasons[0] if reasons else "" for reasons in found).most_common(SHOWN))


def _points(verdicts: pa.Table) -> Points:
    scored = verdicts.filter(pc.invert(pc.is_nan(verdicts["entropy"])))
    return Points(
        scored["entropy"].to_numpy(),
        scored["supervised_tokens"].to_numpy(),
        pc.not_equal(scored["verdict"], "clean").to_numpy(zero_copy_only=False),
    )


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
