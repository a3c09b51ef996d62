"""How long the ledger takes to answer: `audit SAMPLE` over ten million verdicts, `audit verify` over a million.

    python benchmarks/audit.py [--rows 10000] [--batches 1000] [--verified 100] [--json FILE]

Two stores are generated. The first is only large: `--batches` batches of `--rows` verdicts each, every id random. The
second is sound down to the last byte: `--verified` batches of `--rows` rows go through the scan's own steps, only the
scores are drawn instead of computed; policy `paper`. The commands run as a user runs them, each in its own process;
memory is that process's peak. Nothing is known of the machine's page cache, so the first call is shown by itself.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib.detection.verdict import VERDICT_SCHEMA
from gradsentry_lib.pipeline.decide import DecisionConfig, decide
from gradsentry_lib.pipeline.ingest import Ingested, ingest
from gradsentry_lib.pipeline.publish import publish
from gradsentry_lib.pipeline.score import Scored
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.table import SAMPLES_SCHEMA
from gradsentry_lib.scoring.score import BATCH_SCORE_SCHEMA
from gradsentry_lib.store import Batch, Decision, FileRef, Scan, ThresholdRecord, current_run, file_ref, open_ledger
from gradsentry_lib.store.paths import Store

RUN = current_run("benchmark")
CALLS = 6


def random_ids(draw: np.random.Generator, rows: int) -> pa.Array:
    """`rows` random sample ids: 64 hex digits each."""
    digits = draw.bytes(32 * rows).hex().encode()
    offsets = np.arange(0, 64 * (rows + 1), 64, dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(digits))


def entropies(draw: np.random.Generator, rows: int) -> np.ndarray:
    """(rows,) in two groups, a tenth of them high."""
    high = draw.random(rows) < 0.1
    return np.clip(np.where(high, draw.normal(0.85, 0.02, rows), draw.normal(0.4, 0.06, rows)), 0, 1)


def score_table(samples: pa.Table, values: np.ndarray, draw: np.random.Generator) -> pa.Table:
    rows = values.size
    return pa.table(
        {
            "row": samples["row"],
            "sample_id": samples["sample_id"],
            "entropy": values,
            "turn_entropies": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), values),
            "supervised_tokens": draw.integers(8, 60, rows).astype(np.int32),
            "nll": draw.random(rows),
            "truncated": np.zeros(rows, bool),
            "sketch": pa.array([b""] * rows, pa.binary()),
            "failure": pa.array([""] * rows),
            "control_tokens": pa.array([""] * rows),
            "turn_tokens": pa.nulls(rows, pa.list_(pa.int32())),
            "turn_nll": pa.nulls(rows, pa.list_(pa.float64())),
        }
    ).cast(BATCH_SCORE_SCHEMA)


def record_scores(store: Store, batch: Ingested, table: pa.Table) -> tuple[int, FileRef]:
    path = store.scores(batch.batch_key, "drawn")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")
    now, file = datetime.now(UTC), file_ref(path)
    with open_ledger(store.ledger) as ledger:
        scan = Scan(
            batch_key=batch.batch_key, source_sha256=batch.source_sha256, samples_sha256=batch.samples_sha256,
            model="drawn",
            model_fingerprint="0" * 64, tokenizer_fingerprint="0" * 64, scoring={}, score_key="drawn", scores=file,
            scored=table.num_rows, unscored=0, started_at=now, finished_at=now, run_id=RUN.run_id,
        )  # fmt: skip
        return ledger.record_scan(scan), file


def large_store(home: Path, batches: int, rows: int) -> str:
    """Verdicts in number; gives one of the ids."""
    store, draw = Store(home), np.random.default_rng(0)
    turns = pa.array([[{"role": "prompt", "text": "question"}, {"role": "response", "text": "answer"}]] * rows)
    wanted = ""
    for number in range(batches):
        key = f"batch{number:05d}-00000000"
        ids, row = random_ids(draw, rows), pa.array(np.arange(rows))
        wanted = ids[rows // 2].as_py() if number == batches // 2 else wanted
        samples = pa.table(
            {"row": row, "line": row, "sample_id": ids, "format": pa.array(["prompt"] * rows), "turns": turns}
        ).cast(SAMPLES_SCHEMA)
        values = entropies(draw, rows)
        flagged = values > 0.65
        verdicts = pa.table(
            {
                "row": row, "sample_id": ids, "entropy": values, "supervised_tokens": np.full(rows, 20, np.int32),
                "nll": draw.random(rows), "verdict": np.where(flagged, "flagged", "clean"),
                "reasons": pa.array([["entropy above threshold"] if high else [] for high in flagged]),
            }
        ).cast(VERDICT_SCHEMA)  # fmt: skip
        places = store.samples(key), store.decision(key, "drawn").verdicts
        for path, table in zip(places, (samples, verdicts), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, compression="zstd")
        zeros = "0" * 64
        with open_ledger(store.ledger) as ledger:
            ledger.record_run(RUN)
            ledger.record_batch(
                Batch(
                    batch_key=key, name=key, kind="jsonl", source=FileRef(home / "none", zeros),
                    samples=FileRef(store.samples(key), zeros),
                    rows_read=rows, readable=rows, rejected_rows=0, run_id=RUN.run_id,
                )
            )  # fmt: skip
            now = datetime.now(UTC)
            scan = ledger.record_scan(
                Scan(
                    batch_key=key, source_sha256=zeros, samples_sha256=zeros, model="drawn", model_fingerprint=zeros,
                    tokenizer_fingerprint=zeros, scoring={}, score_key="drawn",
                    scores=FileRef(store.scores(key, "drawn"), zeros), scored=rows, unscored=0,
                    started_at=now, finished_at=now, run_id=RUN.run_id,
                )
            )  # fmt: skip
            curve = tuple(np.linspace(0, 1, 1000).tolist())
            threshold = ledger.record_threshold(
                ThresholdRecord(
                    scan=scan, batch_key=key, config={}, tau=0.65, method="valley", reason="drawn", n=rows,
                    suspects=int(flagged.sum()), grid=curve, density=curve, run_id=RUN.run_id,
                )
            )  # fmt: skip
            ledger.record_verdicts(
                Decision(
                    scan=scan, threshold=threshold, batch_key=key, decision_key="drawn", policy="paper",
                    verdicts=FileRef(store.decision(key, "drawn").verdicts, zeros),
                    clean=int((~flagged).sum()), flagged=int(flagged.sum()), unscored=0, run_id=RUN.run_id,
                )
            )  # fmt: skip
        say(f"large store: {number + 1}/{batches} batches", end=number + 1 == batches)
    return wanted


def sound_store(home: Path, batches: int, rows: int) -> None:
    """Every step a real one, but for the scores."""
    store, draw = Store(home), np.random.default_rng(1)
    for number in range(batches):
        path = store.landing / f"batch{number:04d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for row in range(rows):
                file.write(json.dumps({"prompt": f"question {number} {row}?", "response": f"answer {row}"}) + "\n")
        batch = ingest(open_source(str(path)), store, RUN)
        samples = pq.read_table(store.samples(batch.batch_key), columns=["row", "sample_id"])
        scan, file = record_scores(store, batch, score_table(samples, entropies(draw, rows), draw))
        decided = decide(batch, scored(batch, scan, file), store, RUN, DecisionConfig("paper"))
        publish(batch, decided, store, RUN)
        say(f"sound store: {number + 1}/{batches} batches", end=number + 1 == batches)


def scored(batch: Ingested, scan: int, file: FileRef) -> Scored:
    return Scored(
        batch_key=batch.batch_key, score_key="drawn", scan=scan, scores_sha256=file.sha256, model="drawn",
        fingerprint="0" * 64, rows=batch.readable, unscored=0, computed=0, seconds=0.0, supervised_tokens=0,
    )  # fmt: skip


def measure(home: Path, *arguments: str) -> dict[str, float]:
    """One call of the command: seconds on the clock, seconds of CPU, peak memory in MB."""
    command = [sys.executable, "-c", "from gradsentry_lib.cli import main; main()", "audit", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | {"GRADSENTRY_HOME": str(home)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}


def say(text: str, *, end: bool) -> None:
    print(f"\r{text}", end="\n" if end else "", file=sys.stderr, flush=True)  # a counter that stays on its line


def size_mb(path: Path) -> float:
    return path.stat().st_size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="rows a batch")
    parser.add_argument("--batches", type=int, default=1000, help="batches of the large store")
    parser.add_argument("--verified", type=int, default=100, help="batches of the sound store")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    asked = parser.parse_args()
    figures: dict[str, Any] = {"cpus": os.cpu_count(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        wanted = large_store(home / "large", asked.batches, asked.rows)
        for name, subject in (("full id", wanted), ("12 digits", wanted[:12])):
            calls = [measure(home / "large", subject) for _ in range(CALLS)]
            figures[f"audit SAMPLE, {name}"] = {
                "verdicts": asked.batches * asked.rows,
                "files": asked.batches,
                "ledger_mb": size_mb(Store(home / "large").ledger),
                "first_seconds": calls[0]["seconds"],
                "median_seconds": median(call["seconds"] for call in calls[1:]),
                "median_cpu_seconds": median(call["cpu_seconds"] for call in calls[1:]),
                "peak_mb": max(call["peak_mb"] for call in calls),
            }
        sound_store(home / "sound", asked.verified, asked.rows)
        figures["audit verify"] = {
            "batches": asked.verified,
            "rows": asked.verified * asked.rows,
            "ledger_mb": size_mb(Store(home / "sound").ledger),
            **measure(home / "sound", "verify"),
        }
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, told in figures.items():
        pairs = told.items() if isinstance(told, dict) else [("", told)]
        print(name, *(f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in pairs))


if __name__ == "__main__":
    main()
