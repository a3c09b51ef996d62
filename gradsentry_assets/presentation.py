"""What people see of a batch in the UI: figures that make time series, pictures, tables, paths.

Whole numbers and fractions go in as numbers, so that the UI draws them over time. Text from the data set goes through
`report.escape` and into table cells or code spans only, never into Markdown that would act on it.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib import settings
from gradsentry_lib.detection.entropy_threshold import Threshold
from gradsentry_lib.detection.verdict import NO_TRIGGER, Group
from gradsentry_lib.pipeline.decided import Decided, Evidence
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.pipeline.other_batches import released_in_others
from gradsentry_lib.pipeline.power import load_certificate
from gradsentry_lib.pipeline.publish import Published
from gradsentry_lib.pipeline.score import Scored
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.review.batches import all_batches
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.store import GateState
from gradsentry_lib.store.paths import Store

Metadata = dict[str, Any]
TOP_ROWS = 15  # the UI shows tables up to 20 rows
EXCERPT = 160  # characters of a prompt or a response
LARGEST_PICTURE = 50_000  # bytes of PNG that metadata should hold


def of_batch(batch: Ingested, store: Store) -> Metadata:
    return {
        "batch": batch.batch_key,
        "rows_read": batch.read,
        "rows_readable": batch.readable,
        "rows_rejected": batch.rejected,
        "format": batch.kind,
        "source_sha256": batch.source_sha256,
        **({"truncated": one_line(batch.truncated, 400)} if batch.truncated else {}),
        "samples": dg.MetadataValue.path(store.samples(batch.batch_key)),
        **({"rejected": dg.MetadataValue.path(store.rejected(batch.batch_key))} if batch.rejected else {}),
        **({"layout": one_line(batch.layout, 300)} if batch.layout else {}),
        **({"how_rows_were_read": one_line("; ".join(batch.notes), 1000)} if batch.notes else {}),
        **({"text_not_read": _unread(batch)} if batch.unread else {}),
        "preview": rows_table(_first_samples(store.samples(batch.batch_key), 3), {}),
    }


def _unread(batch: Ingested) -> str:
    """The columns with text that no layout used, the most frequent first."""
    return one_line("; ".join(column.share(batch.readable) for column in batch.unread), 1000)


def of_scores(scored: Scored, store: Store) -> Metadata:
    """`computed` rows were scored in this run, the rest were known; rates are those of the computed ones."""
    path = store.scores(scored.batch_key, scored.score_key)
    entropy = pq.read_table(path, columns=["entropy"])["entropy"]
    known = pc.drop_null(pc.if_else(pc.is_nan(entropy), None, entropy))
    found = {
        "score_key": scored.score_key,
        "model": scored.model,
        "model_fingerprint": scored.fingerprint,
        "rows": scored.rows,
        "unscored": scored.unscored,
        "computed": scored.computed,
        "from_cache": scored.rows - scored.computed,
        "supervised_tokens": scored.supervised_tokens,
        "scores": dg.MetadataValue.path(path),
    }
    if len(known):
        found |= {"mean_entropy": _figure(pc.mean(known).as_py()), "max_entropy": _figure(pc.max(known).as_py())}
    if scored.computed and scored.seconds:
        share = scored.computed / scored.rows
        found |= {
            "ms_per_sample": _figure(1000 * scored.seconds / scored.computed),
            "supervised_tokens_per_second": _figure(share * scored.supervised_tokens / scored.seconds),
        }
    return found


def of_decision(decided: Decided, evidence: Evidence, store: Store) -> Metadata:
    threshold = evidence.threshold
    files = store.decision(decided.batch_key, decided.decision_key)
    return {
        **review_links(decided.batch_key, store),
        "threshold": picture(files.plot, threshold),
        "tau": _figure(threshold.tau),
        "method": threshold.method,
        "why": one_line(threshold.reason),
        "score_can_be_trusted": one_line(f"{evidence.trust.verdict}: {evidence.trust.message}"),
        "policy": decided.policy,
        **({"remarks": " ".join(one_line(remark) for remark in decided.remarks)} if decided.remarks else {}),
        **_released(store, decided),
        "clean": decided.clean,
        "flagged": decided.flagged,
        "unscored": decided.unscored,
        "flagged_fraction": _figure(decided.flagged_fraction),
        **({"valley_ratio": _figure(threshold.valley_ratio)} if threshold.valley_ratio is not None else {}),
        **({"top_flagged": top_flagged(decided, store)} if decided.flagged else {}),
        **({"groups": groups_table(evidence.groups)} if evidence.groups else {}),
        **_power(decided, store),
        "decision_key": decided.decision_key,
        "verdicts": dg.MetadataValue.path(files.verdicts),
    }


def _power(decided: Decided, store: Store) -> Metadata:
    """What the scan would have found, where attacks were planted to see."""
    certificate = load_certificate(store, decided)
    if certificate is None:
        return {}
    return {"power": _figure(certificate.power), "would_have_been_found": " ".join(certificate.sentences())}


def review_link(batch_key: str) -> dg.MetadataValue:
    """The batch's page, as `gradsentry review` serves it on the reader's own machine. (A link to the file itself would
    not open: no browser follows one from a page of a server.)"""
    return dg.MetadataValue.url(f"http://127.0.0.1:{settings.review_port()}/batches/{quote(batch_key, safe='')}")


def review_links(batch_key: str, store: Store) -> Metadata:
    """The batch's page, and where the newest batches stand: first of all, since a run's page cuts off what is below."""
    columns = [dg.TableColumn(name) for name in ("batch", "state", "gate", "age", "decided by")]
    columns[3:3] = [dg.TableColumn(name, "int") for name in ("rows", "flagged", "waiting")]
    records = [
        dg.TableRecord(
            {
                "batch": one_line(each.batch, EXCERPT),
                "state": each.state,
                "gate": each.gate,
                "rows": each.rows,
                "flagged": each.flagged,
                "waiting": each.waiting,
                "age": each.age,
                "decided by": one_line(", ".join(f"{name} {words}" for name, words in each.deciders.items()), EXCERPT),
            }
        )
        for each in all_batches(store.ledger, TOP_ROWS)
    ]
    table = dg.MetadataValue.table(records, dg.TableSchema(columns))
    return {"review": review_link(batch_key), "batches_to_review": table}


def of_publication(batch: Ingested, decided: Decided, published: Published, state: GateState, store: Store) -> Metadata:
    found = {
        "review": review_link(batch.batch_key),
        "clean_file": dg.MetadataValue.path(published.clean),
        "quarantine_file": dg.MetadataValue.path(published.quarantine),
        "report": dg.MetadataValue.path(published.report),
        "attestation": dg.MetadataValue.path(published.attestation),
        "clean_rows": published.clean_rows,
        "quarantined_rows": published.quarantined_rows,
        "rejected_rows": batch.rejected,
        "kept_fraction": _figure(published.clean_rows / batch.read),
        "rows_add_up": f"{batch.read} read = {published.clean_rows} clean + {published.quarantined_rows} quarantined "
        f"+ {batch.rejected} rejected",
        "gate": state.status,
        **_released(store, decided),
        "decision_key": decided.decision_key,
    }
    if state.acceptance:
        found["gate_accepted_by"] = one_line(f"{state.acceptance.made_by}: {state.acceptance.reason}")
    return found


def _released(store: Store, decided: Decided) -> Metadata:
    """Rows of this batch that somebody put back in another one: a person may want to do so here, too."""
    found = released_in_others(store, decided.batch_key)
    return {"released_in_others": "; ".join(one_line(str(words), 400) for words in found)} if found else {}


def picture(path: Path, threshold: Threshold) -> dg.MetadataValue:
    """The threshold plot, as Markdown that needs no other file."""
    data = path.read_bytes() if path.exists() else b""
    if not 0 < len(data) <= LARGEST_PICTURE:
        return dg.MetadataValue.path(path)
    text = f"τ = {threshold.tau:.3f} ({threshold.method})"
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{base64.b64encode(data).decode()})")


def top_flagged(decided: Decided, store: Store) -> dg.MetadataValue:
    """The flagged rows of highest entropy, with reasons."""
    verdicts = pq.read_table(store.decision(decided.batch_key, decided.decision_key).verdicts)
    flagged = verdicts.filter(pc.equal(verdicts["verdict"], "flagged"))
    top = flagged.take(pc.sort_indices(flagged, [("entropy", "descending")])[:TOP_ROWS])
    wanted = {row["row"]: row for row in top.select(["row", "entropy", "reasons"]).to_pylist()}
    samples = {s.row: s for s in _samples(store.samples(decided.batch_key), wanted)}
    return rows_table([samples[row] for row in wanted], wanted)


def groups_table(groups: Sequence[Group]) -> dg.MetadataValue:
    """Rows that look like one attack: how many, and what their answers and prompts share."""
    columns = [dg.TableColumn("rows", "int"), dg.TableColumn("answers share"), dg.TableColumn("prompts share")]
    records = [
        dg.TableRecord(
            {
                "rows": len(group.rows),
                "answers share": one_line(group.payload, EXCERPT),
                "prompts share": one_line(_watched(group) + (group.trigger or NO_TRIGGER), EXCERPT),
            }
        )
        for group in groups[:TOP_ROWS]
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _watched(group: Group) -> str:
    return "watched, not flagged: " if group.watched else ""


def rows_table(samples: Sequence[Sample], verdicts: dict[int, dict[str, Any]]) -> dg.MetadataValue:
    """Samples as a table; with their entropy and reasons where given (row number to verdict)."""
    columns = [dg.TableColumn("row", "int"), dg.TableColumn("line", "int")]
    if verdicts:
        columns += [dg.TableColumn("entropy", "float"), dg.TableColumn("why")]
    columns += [dg.TableColumn("prompt"), dg.TableColumn("response")]
    records = []
    for sample in samples:
        verdict = verdicts.get(sample.row)
        said = {} if verdict is None else {"entropy": _rounded(verdict["entropy"]), "why": _text(verdict["reasons"])}
        prompt, response = _two_sides(sample)
        record = {"row": sample.row, "line": sample.line or 0, **said, "prompt": prompt, "response": response}
        records.append(dg.TableRecord(record))
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _two_sides(sample: Sample) -> tuple[str, str]:
    """What was asked and what is to be learned, as text that is safe to show."""
    # A prompt often begins with a template that all rows share; what it asks stands at its end.
    question = " / ".join(filter(None, sample.asked))
    start = "…" if len(question) > EXCERPT else ""
    return start + one_line(question[-EXCERPT:]), one_line(" / ".join(sample.answered), EXCERPT)


def _samples(path: Path, wanted: dict[int, Any]) -> list[Sample]:
    if not wanted:
        return []
    chunks = read_samples(path)
    return [sample for chunk in chunks for sample in chunk if sample.row in wanted]


def _first_samples(path: Path, count: int) -> list[Sample]:
    return next(read_samples(path, count), [])[:count]


def _text(reasons: Sequence[str]) -> str:
    return "; ".join(one_line(reason, 2 * EXCERPT) for reason in reasons)


def _figure(value: float) -> float:
    """Four decimals are what a person reads; the files keep the rest."""
    return round(float(value), 4)


def _rounded(entropy: float | None) -> float | str:
    return "not scored" if entropy is None or entropy != entropy else round(entropy, 4)
