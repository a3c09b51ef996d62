"""Files of the store that were torn, emptied or edited: one clear line for readers, done again by a scan."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.errors import Damaged
from gradsentry_lib.pipeline.decided import load_evidence
from gradsentry_lib.pipeline.ingest import samples_of
from gradsentry_lib.pipeline.publish import gate_of
from gradsentry_lib.pipeline.run import ScanResult
from gradsentry_lib.pipeline.score import load_scored
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, run, same, verdicts, write
from tests.pipeline.test_scan_command import OPEN
from tests.typed import gradsentry

pytestmark = pytest.mark.slow

WRITTEN = ("threshold.json", "threshold.png", "groups.json")  # from the ledger, for others: nobody reads them back
READERS: dict[str, Callable[[Store, ScanResult], Any]] = {
    "samples.parquet": lambda store, found: samples_of(found.batch, store),
    "scores.parquet": lambda store, found: load_scored(store, found.batch.batch_key, found.scored.score_key),
}


def empty(data: bytes) -> bytes:
    return b""


def torn(data: bytes) -> bytes:
    return data[: len(data) // 2]


def other_json(data: bytes) -> bytes:
    return b"null"


def edited(data: bytes) -> bytes:
    return data.replace(b"1", b"2", 1) if b"1" in data else data + b" "


def other_types(data: bytes) -> bytes:
    """Whole numbers as text."""
    if not data.startswith(b"{"):
        return data + b"\n"
    made = json.loads(data)
    return json.dumps({name: str(value) if isinstance(value, int) else value for name, value in made.items()}).encode()


def damage(names: Iterable[str], harm: Callable[[bytes], bytes], result: ScanResult, store: Store) -> None:
    """Each of the files is found by a verification, and told by whoever reads it; nobody believes one that is not."""
    said = load_evidence(store, result.decided)
    for name in names:
        (path,) = store.batch(result.batch.batch_key).rglob(name)
        path.write_bytes(harm(path.read_bytes()))
    found = [problem.message for problem in verify(store.ledger).problems]
    for name in names:
        assert any(name in message for message in found)
        if name not in READERS:
            continue
        with pytest.raises(Damaged) as told:
            READERS[name](store, result)
        words = str(told.value)
        assert words.startswith(str(store.home)) and "scan the batch again" in words and "\n" not in words
    assert load_evidence(store, result.decided) == said


def test_each_torn_file_is_told_and_made_again(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", ["{broken", *lines(range(60))])
    first = run(source, model, store)
    for name in (*WRITTEN, *READERS):
        (path,) = store.batch(first.batch.batch_key).rglob(name)
        whole = path.read_bytes()
        damage([name], torn, first, store)
        again = run(source, model, store)
        assert again.published is not None and again.scored.computed == 0, name
        assert again.decided.number == first.decided.number, name  # nothing is judged again for it
        assert path.read_bytes() == whole, name
        same(verdicts(again, store), verdicts(first, store))
    assert verify(store.ledger).problems == ()


def test_files_damaged_in_every_way_are_made_again(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", ["{broken", *lines(range(60))])
    result = run(source, model, store)
    expected = verdicts(result, store)
    for harm in (empty, other_json, edited, other_types):
        damage([*WRITTEN, *READERS], harm, result, store)
        result = run(source, model, store)
        same(verdicts(result, store), expected)
    assert verify(store.ledger).problems == ()


def test_edited_verdicts_are_not_published_and_judged_again(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", lines(range(60)))
    first = run(source, model, store)
    path = store.decision(first.batch.batch_key, first.decided.decision_key).verdicts
    whole = path.read_bytes()
    path.write_bytes(edited(whole))
    assert gate_of(first.decided, store).status == "never run"
    assert run(source, model, store).published is not None
    assert path.read_bytes() == whole and verify(store.ledger).problems == ()


def test_no_file_of_the_store_says_what_the_ledger_says(tmp_path: Path, model: Path, store: Store) -> None:
    """A fact is recorded once: with the files for others gone, and the ledger alone, all is found again."""
    source = write(tmp_path / "rows.jsonl", lines(range(60)))
    first = run(source, model, store)
    kept = {path.name for path in store.batch(first.batch.batch_key).rglob("*.json")}
    assert kept <= {"threshold.json", "groups.json", "attestation.json"} | {
        path.name for path in store.kept_attestations()
    }
    for name in WRITTEN:
        (path,) = store.batch(first.batch.batch_key).rglob(name)
        path.unlink()
    second = run(source, model, store)
    assert (second.batch, second.decided) == (first.batch, first.decided)
    assert second.scored.scan == first.scored.scan and second.scored.computed == 0


def test_a_damaged_table_is_read_in_again(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", ["{broken", *lines(range(40))])
    first = run(source, model, store)
    for name in ("samples.parquet", "rejected.jsonl"):
        path = store.batch(first.batch.batch_key) / name
        whole = path.read_bytes()
        for harm in (empty, torn):
            path.write_bytes(harm(whole))
            assert run(source, model, store).published is not None, name
            assert path.read_bytes() == whole, name
    assert verify(store.ledger).problems == ()


def test_the_command_goes_on_where_all_of_them_are_torn(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", lines(range(40)))
    told = ("scan", source, "--out", tmp_path / "out", "--model", model, "--dtype", "float32", "--policy", "paper")
    assert gradsentry(*told, *OPEN).code == 0
    for name in (*WRITTEN, *READERS):
        (path,) = store.home.rglob(f"batches/**/{name}")
        path.write_bytes(path.read_bytes()[:7])
    again = gradsentry(*told, *OPEN)
    assert again.code == 0, again.err
    assert "all found in the store" in again.out and "Traceback" not in again.err
