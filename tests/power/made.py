"""Scores without a model: rows of random words, each answer with windows of its own, and canaries whose answers share
what their kind would share."""

import hashlib

import numpy as np
import pyarrow as pa

from gradsentry_lib.power.canaries import Canary
from gradsentry_lib.power.mixtures import Rows
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.score import Score, to_table
from gradsentry_lib.windows import CODES
from tests.detection.planted import WORDS
from tests.detection.planted import sketch_of as sketch

SHARED = ("fixed text", "worded differently", "refusal", "label")


def samples(count: int, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    texts = [(" ".join(rng.choice(WORDS, 9)), " ".join(rng.choice(WORDS, 6))) for _ in range(count)]
    return [
        Sample(i, i + 1, "prompt", (Turn("prompt", asked), Turn("response", said)))
        for i, (asked, said) in enumerate(texts)
    ]


def scored(rows: list[Sample], payloads: list[np.ndarray | None] | None = None) -> Rows:
    """Every row with four windows drawn by its content, and one more near its payload where it has one."""
    scores = []
    for sample, payload in zip(rows, payloads or [None] * len(rows), strict=True):
        name = sample.sample_id
        rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
        spans = [rng.standard_normal(CODES) for _ in range(4)]
        if payload is not None:
            spans.append(payload + 0.35 * rng.standard_normal(CODES))
        nll = float(rng.uniform(1, 3))
        scores.append(Score(name, 0.5, (0.5,), int(rng.integers(10, 40)), nll, False, sketch(spans)))
    table = to_table(scores)
    return Rows(rows, table.add_column(0, "row", pa.array(range(len(rows)), pa.int64())))


def planted(canaries: list[Canary], shared: tuple[str, ...] = SHARED) -> Rows:
    """The canaries' scores: those of the kinds in `shared` with a window in common."""
    rng = np.random.default_rng(1)
    payload = {kind: rng.standard_normal(CODES) for kind in shared}
    return scored([canary.sample for canary in canaries], [payload.get(canary.kind) for canary in canaries])
