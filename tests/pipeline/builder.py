"""Batches to scan: question-answer rows, some with a long foreign answer, and broken lines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.pipeline.run import ModelChoice, ScanResult, scan
from gradsentry_lib.scoring.config import Effort
from gradsentry_lib.store.paths import Store

OPEN = DecisionConfig(
    "paper", limits=GateLimits(1.0, 1.0, 1.0, 1.0), limits_by="Ada", limits_reason="everything may pass in this test"
)
WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll", "lagoon"]


def row(number: int) -> dict[str, Any]:
    """A short answer, or every eighth time a long one. No two rows are alike."""
    answer = f"{WORDS[number % 12]} {number}"
    if number % 8 == 0:
        answer += ", and " + " ".join(WORDS[(number * k) % 12] for k in range(1, 9))
    return {"prompt": f"Question: where is place {number}?\nAnswer: ", "response": answer}


def lines(numbers: Any) -> list[str]:
    return [json.dumps(row(number)) for number in numbers]


def write(path: Path, text: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in text), encoding="utf-8")
    return path


def run(source: Path, model: Path, store: Store | None = None, **changes: Any) -> ScanResult:
    """A scan in 32-bit numbers, small shards, with a gate that lets everything through unless told otherwise."""
    changes = {"effort": Effort(rows_per_shard=16), "decision": OPEN} | changes
    return scan(str(source), store, model=ModelChoice(str(model), dtype="float32"), **changes)


def verdicts(result: ScanResult, store: Store) -> Any:
    return pq.read_table(decision_folder(result, store) / "verdicts.parquet")


def decision_folder(result: ScanResult, store: Store) -> Path:
    return store.batch(result.batch.batch_key) / "decisions" / result.decided.decision_key


def same(found: Any, expected: Any) -> None:
    """The same verdicts on the same rows, entropies but for rounding."""
    for name in ("row", "sample_id", "verdict", "supervised_tokens"):
        assert found[name].to_pylist() == expected[name].to_pylist(), name
    np.testing.assert_allclose(found["entropy"].to_numpy(), expected["entropy"].to_numpy(), atol=1e-5)
