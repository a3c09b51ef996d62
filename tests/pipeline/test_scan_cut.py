"""Half a file through the whole scan: judged, refused, said everywhere; published only by a person's word."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gradsentry_lib.errors import GateFailed
from gradsentry_lib.pipeline.ingest import ingest, load
from gradsentry_lib.pipeline.publish import gate_of, publish
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.store import current_run, open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import decision_folder, lines, run, write
from tests.pipeline.test_scan_command import OPEN
from tests.typed import gradsentry

CUT = "rows.jsonl ends inside its last row (line 21)"


def cut(folder: Path) -> Path:
    source = write(folder / "rows.jsonl", lines(range(20)))
    with source.open("ab") as file:
        file.write(lines([20])[0].encode()[:30])
    return source


@pytest.mark.slow
def test_half_a_file_is_judged_refused_and_published_when_accepted(tmp_path: Path, model: Path, store: Store) -> None:
    source = cut(tmp_path)
    result = run(source, model, store)
    batch, decided = result.batch, result.decided
    assert result.published is None and batch.truncated == CUT
    assert (batch.read, batch.readable, batch.rejected) == (21, 20, 1)
    failed = [check.name for check in decided.gate_checks if not check.passed and check.severity == "error"]
    assert failed == ["whole_source"]
    assert CUT in (decision_folder(result, store) / "report.html").read_text()
    (rejected,) = (store.batch(batch.batch_key) / "rejected.jsonl").read_text().splitlines()
    assert json.loads(rejected)["line"] == 21 and json.loads(rejected)["reason"].startswith("cut short")
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert ledger.batch(batch.batch_key).truncated == CUT
    with pytest.raises(GateFailed, match="the source is cut short"):
        publish(batch, decided, store, current_run("test"))

    with open_ledger(store.ledger) as ledger:
        ledger.accept_gate(batch.batch_key, "ana", "the rest is lost for good")
    published = publish(batch, decided, store, current_run("test"))
    removed = {json.loads(line)["row"] for line in published.quarantine.read_text().splitlines()} | {20}
    kept = [line for number, line in enumerate(source.read_bytes().splitlines(keepends=True)) if number not in removed]
    assert published.clean.read_bytes() == b"".join(kept) and len(kept) == published.clean_rows > 0
    assert CUT in published.report.read_text() and CUT in published.attestation.read_text()


@pytest.mark.slow
def test_the_whole_file_does_not_let_its_half_pass(tmp_path: Path, model: Path, store: Store) -> None:
    """Both have the same verdicts on the same rows."""
    half = run(cut(tmp_path), model, store)
    (tmp_path / "whole").mkdir()
    whole = run(write(tmp_path / "whole" / "rows.jsonl", lines(range(20))), model, store)
    assert whole.published is not None
    assert whole.decided.verdicts_sha256 == half.decided.verdicts_sha256
    assert gate_of(half.decided, store).status == "failed"


@pytest.mark.slow
def test_the_terminal_says_that_the_file_is_cut_short(tmp_path: Path, model: Path) -> None:
    told = ("--out", tmp_path / "out", "--model", model, "--policy", "paper", *OPEN)
    done = gradsentry("scan", cut(tmp_path), *told)
    assert done.code == 3 and CUT in done.err.replace("\n", " ")
    assert not (tmp_path / "out" / "clean.jsonl").exists()
    text = "frage;antwort\n" + "".join(f"Où est {n};Là où était {n}\n" for n in range(30))
    (tmp_path / "b.csv").write_bytes(text.encode("cp850"))
    columns = ("--column", "prompt=frage", "--column", "response=antwort", "--separator", ";", "--encoding", "cp850")
    done = gradsentry("scan", tmp_path / "b.csv", *told, *columns, "--max-bytes", "1MB")
    assert done.code == 0, done.err
    clean = (tmp_path / "out" / "clean.csv").read_bytes()
    assert set(clean.decode("cp850").splitlines()) <= set(text.splitlines()) and clean.startswith(b"frage;antwort\n")
    done = gradsentry("scan", tmp_path / "b.csv", *told, *columns, "--max-bytes", "500")
    assert done.code == 2 and "raise it with --max-bytes" in done.err


def test_a_batch_that_was_read_before_anyone_looked_is_read_again(tmp_path: Path, store: Store) -> None:
    """As a store of an earlier version holds it."""
    source, done = cut(tmp_path), current_run("test")
    first = ingest(open_source(str(source)), store, done)
    with open_ledger(store.ledger) as ledger:
        ledger.record_batch(replace(ledger.batch(first.batch_key), truncated=None, reading=None))
    assert load(store, first.batch_key).truncated is None
    assert ingest(open_source(str(source)), store, done).truncated == CUT == load(store, first.batch_key).truncated
