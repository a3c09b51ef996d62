"""Layouts beyond prompt and answer, from the file to the ledger: read, scored on every answer, told."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gradsentry_lib.pipeline.decided import Decided
from gradsentry_lib.pipeline.ingest import load
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import WORDS, decision_folder, run, write
from tests.pipeline.test_scan_command import OPEN
from tests.typed import gradsentry


def pair(number: int) -> dict[str, Any]:
    """A pair with a column that no trainer of pairs reads."""
    return {
        "prompt": f"Where is place {number}?",
        "chosen": f"{WORDS[number % 12]} {number}",
        "rejected": f"{WORDS[number % 7]} and {number}",
        "note <b>": "unseen",
    }


def test_pairs_are_scored_on_both_answers_and_told(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "pairs.jsonl", [json.dumps(pair(number)) for number in range(30)])
    result = run(source, model, store)
    folder = store.batch(result.batch.batch_key)
    (scores,) = folder.glob("scores/*/scores.parquet")
    assert {len(turns) for turns in pq.read_table(scores)["turn_entropies"].to_pylist()} == {2}
    (samples,) = read_samples(folder / "samples.parquet")
    assert [turn.role for turn in samples[0].turns] == ["prompt", "response", "rejected"]

    assert [column.name for column in result.batch.unread] == ["note <b>"]
    assert load(store, result.batch.batch_key) == result.batch
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert ledger.batch(result.batch.batch_key).options["unread"] == ["note <b>"]
    assert isinstance(result.decided, Decided) and result.published is not None
    report = (result.published.folder / "report.html").read_text()
    assert "note &lt;b&gt; (every row, 6 characters in the first)" in report
    assert "rejected: turned down" in report and "preference pairs" in report
    assert decision_folder(result, store).is_dir()


def test_the_command_reads_as_it_is_told(tmp_path: Path, model: Path) -> None:
    """Speakers, a marker and a mapping file reach the reader, and the batch is opened again in the same way."""
    turns = [
        {
            "talk": [{"role": "user", "content": f"Hi {n}"}, {"role": "narrator", "content": WORDS[n % 12]}],
            "why": "unseen",
        }
        for n in range(12)
    ]
    source = write(tmp_path / "chats.jsonl", [json.dumps(row) for row in turns])
    out = tmp_path / "out"
    told = ("--model", model, "--policy", "paper", *OPEN, "--max-unscored", "1")
    done = gradsentry("scan", source, "--out", out, *told, "--column", "messages=talk", "--role", "narrator=assistant")
    assert done.code == 0, done.err
    assert "not read" in done.out and "why (every row" in done.out
    kept = (out / "clean.jsonl").read_bytes().splitlines() + (out / "quarantine.jsonl").read_bytes().splitlines()
    assert len(kept) == 12
