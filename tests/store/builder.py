"""A small store made by the scan's own steps; only the scores are drawn at random instead of by a model."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.pipeline.decide import Decided, DecisionConfig, decide
from gradsentry_lib.pipeline.ingest import Ingested, ingest
from gradsentry_lib.pipeline.publish import Published, publish
from gradsentry_lib.pipeline.score import Scored
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.scoring.score import BATCH_SCORE_SCHEMA
from gradsentry_lib.store import Scan, current_run, file_ref, open_ledger
from gradsentry_lib.store.paths import Store

RUN = current_run("test")


def make_source(path: Path, rows: int = 60, start: int = 0) -> Path:
    """Prompt and response rows, each text its own, and one line that is no JSON."""
    lines = [json.dumps({"prompt": f"question {i}", "response": f"answer {i}"}) for i in range(start, start + rows)]
    path.write_text("\n".join([*lines, "not a row"]) + "\n", encoding="utf-8")
    return path


def read_in(store: Store, name: str, rows: int = 60, start: int = 0) -> Ingested:
    """First step, from a source that lies in the store, as Dagster's do."""
    path = store.home / "landing" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return ingest(open_source(str(make_source(path, rows, start))), store, RUN)


def score(store: Store, batch: Ingested, seed: int = 0, model: str = "toy") -> Scored:
    """Second step: entropies in two groups, one row without a score."""
    draw = np.random.default_rng(seed)
    samples = pq.read_table(store.batch(batch.batch_key) / "samples.parquet")
    high = draw.random(batch.readable) < 0.2
    entropy = np.where(high, draw.normal(0.85, 0.02, high.size), draw.normal(0.35, 0.05, high.size))
    entropy[3] = np.nan
    scores = pa.table(
        {
            "row": samples["row"],
            "sample_id": samples["sample_id"],
            "entropy": entropy,
            "turn_entropies": pa.array([[value] for value in entropy]),
            "supervised_tokens": pa.array(draw.integers(8, 40, high.size), pa.int32()),
            "nll": draw.random(high.size),
            "truncated": pa.array(np.zeros(high.size, bool)),
            "sketch": pa.array([b""] * high.size, pa.binary()),
            "failure": ["too long" if np.isnan(value) else "" for value in entropy],
            "control_tokens": [""] * high.size,
            "turn_tokens": pa.nulls(high.size, pa.list_(pa.int32())),
            "turn_nll": pa.nulls(high.size, pa.list_(pa.float64())),
        }
    ).cast(BATCH_SCORE_SCHEMA)
    return lay_in(store, batch, scores, f"{model}-{seed}", model)


def lay_in(store: Store, batch: Ingested, scores: pa.Table, key: str, model: str) -> Scored:
    """Scores that no model made, written and recorded as a scan records its own. scores: BATCH_SCORE_SCHEMA."""
    path = store.scores(batch.batch_key, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(scores, path)
    unscored = int(np.isnan(scores["entropy"].to_numpy()).sum())
    now = datetime.now(UTC)
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(RUN)
        number = ledger.record_scan(
            Scan(
                batch_key=batch.batch_key,
                source_sha256=batch.source_sha256,
                samples_sha256=batch.samples_sha256,
                model=model,
                model_fingerprint="f" * 64,
                tokenizer_fingerprint="e" * 64,
                scoring={"k": 16},
                score_key=key,
                scores=file_ref(path),
                scored=batch.readable - unscored,
                unscored=unscored,
                started_at=now,
                finished_at=now,
                run_id=RUN.run_id,
            )
        )
    return Scored(
        batch_key=batch.batch_key,
        score_key=key,
        scan=number,
        scores_sha256=file_ref(path).sha256,
        model=model,
        fingerprint="f" * 64,
        rows=batch.readable,
        unscored=unscored,
        computed=batch.readable,
        seconds=0.0,
        supervised_tokens=0,
    )


def decide_and_publish(store: Store, batch: Ingested, scored: Scored) -> tuple[Decided, Published]:
    """Third and last step, the attestation included."""
    decided = decide(batch, scored, store, RUN, DecisionConfig("paper"))
    return decided, publish(batch, decided, store, RUN)


STRICT = DecisionConfig("paper", limits=GateLimits(max_flagged=0.01))


def sample_ids(store: Store, batch: Ingested, verdict: str, decided: Decided) -> list[str]:
    """The samples of a batch that got this verdict."""
    path = store.batch(batch.batch_key) / "decisions" / decided.decision_key / "verdicts.parquet"
    return pq.read_table(path, filters=[("verdict", "=", verdict)])["sample_id"].to_pylist()
