"""Ingest, score, decide, publish through the real store and ledger, with a real small model."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.errors import BadInput, GateFailed
from gradsentry_lib.files import sha256_file
from gradsentry_lib.pipeline.decide import DecisionConfig, decide
from gradsentry_lib.pipeline.ingest import ingest
from gradsentry_lib.pipeline.publish import publish
from gradsentry_lib.pipeline.run import ModelChoice, lazy_model
from gradsentry_lib.pipeline.score import score_batch
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.store import current_run, open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import OPEN, decision_folder, lines, row, run, verdicts, write

ODD = json.dumps({"prompt": "Question: what is odd?\nAnswer: ", "response": "ODD"})
BROKEN = ['{"prompt": "half', "[1, 2]", '{"prompt": "q", "response": ""}']


def mixed(folder: Path) -> Path:
    """100 rows: 96 that can be scored, one that the `odd` fixture keeps from it, 3 broken lines."""
    good = lines(range(96))
    return write(folder / "mixed.jsonl", [BROKEN[0], *good[:40], ODD, BROKEN[1], *good[40:], BROKEN[2]])


def test_every_row_is_clean_quarantined_or_rejected(tmp_path: Path, model: Path, store: Store, odd: list[str]) -> None:
    source = mixed(tmp_path)
    result = run(source, model, store)
    batch, decided, published = result.batch, result.decided, result.published
    assert published is not None
    assert (batch.read, batch.readable, batch.rejected) == (100, 97, 3)
    assert decided.clean + decided.flagged + decided.unscored == batch.readable
    assert decided.unscored == 1 and decided.flagged > 0 and decided.clean > 0
    assert published.clean_rows == decided.clean
    assert published.quarantined_rows == decided.flagged + decided.unscored

    kept = published.clean.read_bytes().splitlines(keepends=True)
    quarantined = [json.loads(line) for line in published.quarantine.read_text().splitlines()]
    rejected = [json.loads(line) for line in (store.batch(batch.batch_key) / "rejected.jsonl").read_text().splitlines()]
    original = source.read_bytes().splitlines(keepends=True)
    removed = {line["row"] for line in quarantined} | {line["row"] for line in rejected}
    assert kept == [line for number, line in enumerate(original) if number not in removed]
    assert len(kept) + len(quarantined) + len(rejected) == 100
    assert [line["row"] for line in rejected] == [0, 42, 99]
    for line in quarantined:
        assert line["source"] == json.loads(original[line["row"]])
        assert line["reasons"] and line["verdict"] in ("flagged", "unscored")


def test_the_verdict_table_keeps_its_contract(tmp_path: Path, model: Path, store: Store, odd: list[str]) -> None:
    result = run(mixed(tmp_path), model, store)
    table = verdicts(result, store)
    expected = pa.schema(
        [
            ("row", pa.int64()),
            ("sample_id", pa.string()),
            ("entropy", pa.float64()),
            ("supervised_tokens", pa.int32()),
            ("nll", pa.float64()),
            ("verdict", pa.string()),
            ("reasons", pa.list_(pa.string())),
        ]
    )
    assert pa.schema(list(table.schema)[:7]) == expected
    assert table["row"].to_pylist() == [n for n in range(100) if n not in (0, 42, 99)]
    ids = {s.row: s.sample_id for s in open_source(str(tmp_path / "mixed.jsonl")).rows() if hasattr(s, "sample_id")}
    for line in table.to_pylist():
        assert line["sample_id"] == ids[line["row"]]
        if line["verdict"] == "unscored":
            assert math.isnan(line["entropy"]) and line["row"] == 41 and "not scored" in line["reasons"][0]
        else:
            assert (line["verdict"] == "flagged") == (line["entropy"] > result.decided.tau)
            assert 0 <= line["entropy"] <= 1 and line["supervised_tokens"] > 0 and line["nll"] > 0


@pytest.mark.slow
def test_rows_of_the_same_content_are_scored_once_and_all_kept(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "twice.jsonl", lines([*range(40), *range(40), 7]))
    result = run(source, model, store)
    assert result.scored.computed == 40 and result.scored.rows == 81
    entropy = verdicts(result, store)["entropy"].to_pylist()
    assert entropy[:40] == entropy[40:80] and entropy[80] == entropy[7]


def test_the_gate_refuses_and_nothing_is_written_as_clean(tmp_path: Path, model: Path, store: Store) -> None:
    strict = DecisionConfig("paper", limits=GateLimits(max_flagged=0.0, warn_flagged=0.0))
    result = run(mixed(tmp_path), model, store, decision=strict)
    assert result.published is None and not result.decided.gate_passed
    assert not list((store.batch(result.batch.batch_key)).rglob("clean*"))
    with pytest.raises(GateFailed, match="flagged"):
        publish(result.batch, result.decided, store, current_run("test"))
    with open_ledger(store.ledger) as ledger:
        ledger.accept_gate(result.batch.batch_key, "A. Person", "looked at every row")
    published = publish(result.batch, result.decided, store, current_run("test"))
    assert published.gate == "accepted" and published.clean_rows == result.decided.clean


def test_a_batch_that_cannot_be_scored_is_not_clean(tmp_path: Path, model: Path, store: Store, odd: list[str]) -> None:
    source = write(tmp_path / "odd.jsonl", [json.dumps({"prompt": str(n), "response": "ODD"}) for n in range(5)])
    result = run(source, model, store, decision=DecisionConfig())
    assert (result.decided.unscored, result.decided.clean) == (5, 0)
    assert result.published is None


@pytest.mark.slow
def test_limit_scans_the_first_rows(tmp_path: Path, model: Path, store: Store) -> None:
    source = mixed(tmp_path)
    whole = run(source, model, store)
    part = run(source, model, store, options={"limit": 30})
    assert part.batch.batch_key != whole.batch.batch_key
    assert (part.batch.read, part.batch.rejected, part.scored.computed) == (30, 1, 0)
    assert part.published is not None
    kept = part.published.clean.read_bytes().splitlines(keepends=True)
    assert len(kept) == part.decided.clean
    assert set(kept) <= set(source.read_bytes().splitlines(keepends=True)[:30])


def test_a_source_that_changes_between_steps_is_not_published(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "moving.jsonl", lines(range(40)))
    told = current_run("test")
    batch = ingest(open_source(str(source)), store, told)
    identity = ModelChoice(str(model), dtype="float32").identify()
    with lazy_model(identity) as load:
        scored = score_batch(batch, store, told, identity, load, ScoringConfig())
    decided = decide(batch, scored, store, told, OPEN)
    write(source, lines(range(1, 41)))
    with pytest.raises(BadInput, match="has changed since it was read"):
        publish(batch, decided, store, told)
    assert not list(store.batch(batch.batch_key).glob("clean/*/clean*"))


@pytest.mark.slow
def test_altered_verdicts_are_not_published(tmp_path: Path, model: Path, store: Store) -> None:
    result = run(write(tmp_path / "rows.jsonl", lines(range(40))), model, store)
    path = decision_folder(result, store) / "verdicts.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("verdict")
    pq.write_table(table.set_column(at, "verdict", pa.array(["clean"] * table.num_rows)), path)
    with pytest.raises(GateFailed, match="gate never run"):
        publish(result.batch, result.decided, store, current_run("test"))
    told = replace(result.decided, verdicts_sha256=sha256_file(path), gate_inputs="0" * 64, gate_passed=True)
    with pytest.raises(GateFailed, match="gate never run"):  # what a caller says of itself opens nothing
        publish(result.batch, told, store, current_run("test"))


def test_progress_ends_at_the_last_row(tmp_path: Path, model: Path, store: Store) -> None:
    seen = []
    source = write(tmp_path / "rows.jsonl", lines([*range(50), 3]))
    run(source, model, store, effort=Effort(rows_per_shard=16), on_progress=seen.append)
    assert [at.done for at in seen] == sorted(at.done for at in seen)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (1, 51, 51)  # the repeated row needs no scoring
    assert seen[-1].eta == 0


def test_long_rows_make_small_shards(tmp_path: Path) -> None:
    """Texts in memory are bounded however long the rows are."""
    import numpy as np

    from gradsentry_lib.pipeline.missing import SHARD_CHARACTERS, shards
    from gradsentry_lib.samples.table import write_samples

    length = SHARD_CHARACTERS // 4
    rows = [json.dumps({"prompt": f"{n} " + "x" * length, "response": "y"}) for n in range(10)]
    source = open_source(str(write(tmp_path / "long.jsonl", [*rows, json.dumps(row(1))])))
    write_samples(source, tmp_path / "samples.parquet", tmp_path / "rejected.jsonl")
    found = list(shards(tmp_path / "samples.parquet", np.array([0, 1, 2, 3, 4, 5, 6, 8, 10]), 1024))
    assert [sample.row for shard in found for sample in shard] == [0, 1, 2, 3, 4, 5, 6, 8, 10]
    assert max(map(len, found)) == 4


def test_rows_that_do_not_add_up_leave_no_clean_file(
    tmp_path: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gradsentry_lib.pipeline.publish.write_quarantine",
        lambda source, verdicts, path: path.write_text("no row of this batch"),
    )
    with pytest.raises(BadInput, match="do not add up"):
        run(write(tmp_path / "rows.jsonl", lines(range(16))), model, store)
    assert not list(store.home.glob("batches/*/clean/*/*"))
