"""Files of the store that were torn, emptied or edited: one clear line for readers, done again by a scan."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from gradsentry_lib.audit.recompute import recompute
from gradsentry_lib.audit.verify import verify
from gradsentry_lib.pipeline.decided import load_decided, load_evidence
from gradsentry_lib.pipeline.ingest import load
from gradsentry_lib.pipeline.manifest import Damaged
from gradsentry_lib.pipeline.run import ScanResult
from gradsentry_lib.pipeline.score import load_scored
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, run, same, verdicts, write
from tests.pipeline.test_scan_command import OPEN, gradsentry

READERS: dict[str, Callable[[Store, ScanResult], Any]] = {
    "batch.json": lambda store, found: load(store, found.batch.batch_key),
    "scores.json": lambda store, found: load_scored(store, found.batch.batch_key, found.scored.score_key),
    "decision.json": lambda store, found: load_decided(store, found.batch.batch_key, found.decided.decision_key),
    "threshold.json": lambda store, found: load_evidence(store, found.decided),
    "threshold.png": lambda store, found: load_evidence(store, found.decided),
    "groups.json": lambda store, found: load_evidence(store, found.decided),
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
    """Each of the files is told by whoever reads it, and found by a verification."""
    for name in names:
        (path,) = store.batch(result.batch.batch_key).rglob(name)
        path.write_bytes(harm(path.read_bytes()))
    found = [problem.message for problem in verify(store.ledger).problems]
    for name in names:
        with pytest.raises(Damaged) as told:
            READERS[name](store, result)
        said = str(told.value)
        assert said.startswith(str(store.home)) and "scan the batch again" in said and "\n" not in said
        assert any(name in message for message in found)


@pytest.mark.parametrize("name", READERS)
def test_a_torn_file_is_told_and_made_again(name: str, tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", ["{broken", *lines(range(60))])
    first = run(source, model, store)
    damage([name], torn, first, store)
    second = run(source, model, store)
    assert second.published is not None and second.scored.computed == 0
    assert READERS[name](store, second)
    same(verdicts(second, store), verdicts(first, store))
    assert verify(store.ledger).problems == ()


def test_files_damaged_in_every_way_are_made_again(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", ["{broken", *lines(range(60))])
    result = run(source, model, store)
    expected = verdicts(result, store)
    for harm in (empty, other_json, edited, other_types):
        damage(READERS, harm, result, store)
        result = run(source, model, store)
        same(verdicts(result, store), expected)
    assert verify(store.ledger, recompute()).problems == ()


@pytest.mark.parametrize("name", ["batch.json", "scores.json", "decision.json", "threshold.json", "groups.json"])
def test_one_that_the_ledger_does_not_know_is_told_too(
    name: str, tmp_path: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a store of an earlier version: no digest shows the damage, the content must."""
    from gradsentry_lib.store import Ledger

    result = run(write(tmp_path / "rows.jsonl", lines(range(40))), model, store)
    monkeypatch.setattr(Ledger, "recorded", lambda *_: None)
    (path,) = store.batch(result.batch.batch_key).rglob(name)
    data = path.read_bytes()
    assert READERS[name](store, result)
    for harm in (data[: len(data) // 2], b"", b"{", b"null", b"[1]", b'{"rows": "many"}', b"\xff\xfe{}"):
        path.write_bytes(harm)
        with pytest.raises(Damaged, match="is damaged") as told:
            READERS[name](store, result)
        assert str(path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["samples.parquet", "rejected.jsonl"])
def test_a_damaged_table_is_read_in_again(name: str, tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", ["{broken", *lines(range(40))])
    first = run(source, model, store)
    path = store.batch(first.batch.batch_key) / name
    whole = path.read_bytes()
    for harm in (b"", whole[: len(whole) // 2]):
        path.write_bytes(harm)
        assert run(source, model, store).published is not None
        assert path.read_bytes() == whole
    assert verify(store.ledger, recompute()).problems == ()


def test_the_command_goes_on_where_all_of_them_are_torn(tmp_path: Path, model: Path, store: Store) -> None:
    source = write(tmp_path / "rows.jsonl", lines(range(40)))
    told = ("scan", source, "--out", tmp_path / "out", "--model", model, "--dtype", "float32", "--policy", "paper")
    assert gradsentry(*told, *OPEN).returncode == 0
    for name in READERS:
        (path,) = store.home.rglob(f"batches/**/{name}")
        path.write_bytes(path.read_bytes()[:7])
    again = gradsentry(*told, *OPEN)
    assert again.returncode == 0, again.stderr
    assert "all found in the store" in again.stdout and "Traceback" not in again.stderr
