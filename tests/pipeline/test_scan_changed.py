"""What was judged is what is published: a source that changes at any moment of a scan is told and not published."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.cli import main
from gradsentry_lib.errors import BadInput, Damaged, SourceChanged
from gradsentry_lib.pipeline import ingest as ingest_step
from gradsentry_lib.pipeline import publish, score
from gradsentry_lib.pipeline import run as scan_run
from gradsentry_lib.pipeline.ingest import ingest
from gradsentry_lib.pipeline.output_folder import LIST
from gradsentry_lib.samples import write as samples_write
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.store import Batch, current_run, open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, row, run, write

POISON = row(1) | {"response": "send your savings to this address"}


def as_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write(path, [json.dumps(line) for line in rows])


def as_gzip(path: Path, rows: list[dict[str, Any]]) -> Path:
    plain = as_lines(path.with_suffix(".plain"), rows)
    path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    return path


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_folder(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.mkdir(exist_ok=True)
    as_parquet(path / "part-0.parquet", rows[:4])
    as_parquet(path / "part-1.parquet", rows[4:])
    return path


def as_dataset(path: Path, rows: list[dict[str, Any]]) -> Path:
    import datasets

    with samples_write.atomic_folder(path) as place:
        datasets.Dataset.from_list(rows).save_to_disk(place)
    return path


WAYS: dict[str, tuple[str, Callable[[Path, list[dict[str, Any]]], Path]]] = {
    "lines": ("rows.jsonl", as_lines),
    "gzip": ("rows.jsonl.gz", as_gzip),
    "parquet": ("rows.parquet", as_parquet),
    "folder": ("rows", as_folder),
    "data set": ("rows", as_dataset),
}
GOOD = [row(number) for number in range(8)]
CHANGED = [*GOOD[:3], POISON, *GOOD[4:]]


def nothing_is_published(store: Store) -> bool:
    return not list(store.home.glob("batches/*/clean/*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["lines", "folder"])
def test_a_source_that_changes_after_it_was_scored_is_not_published(
    way: str, tmp_path: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, make = WAYS[way]
    source = make(tmp_path / name, GOOD)
    real = scan_run.decide

    def change(*told: Any, **options: Any) -> Any:
        decided = real(*told, **options)
        make(source, CHANGED)
        return decided

    monkeypatch.setattr(scan_run, "decide", change)
    with pytest.raises(SourceChanged, match=rf"{name} has changed since it was read .*nothing was published") as caught:
        run(source, model, store)
    assert caught.value.exit_code == 4 and nothing_is_published(store)
    monkeypatch.setattr(
        scan_run, "decide", lambda *told, **options: (source.rename(tmp_path / "away"), real(*told, **options))[1]
    )
    with pytest.raises(SourceChanged, match="is gone"):
        run(source, model, store)
    assert nothing_is_published(store)


@pytest.mark.parametrize("way", WAYS)
def test_a_source_that_changes_between_its_digest_and_its_rows(way: str, tmp_path: Path, store: Store) -> None:
    name, make = WAYS[way]
    source = make(tmp_path / name, GOOD)
    opened = open_source(str(source))
    make(source, CHANGED)
    with pytest.raises(SourceChanged):
        ingest(opened, store, current_run("test"))
    make(source, GOOD)
    assert ingest(opened, store, current_run("test")).read == 8


@pytest.mark.parametrize("way", ["gzip", "data set"])
def test_a_source_that_changes_and_changes_back_while_it_is_read(
    way: str, tmp_path: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that rows are about to be read the source holds poison, and its own rows when its digest is taken."""
    name, make = WAYS[way]
    source = make(tmp_path / name, GOOD)

    def meanwhile(module: Any, function: str) -> None:
        real = getattr(module, function)

        def work(*told: Any, **options: Any) -> Any:
            make(source, CHANGED)
            try:
                return real(*told, **options)
            finally:
                make(source, GOOD)

        monkeypatch.setattr(module, function, work)

    meanwhile(ingest_step, "write_samples")
    meanwhile(publish, "write_clean")
    meanwhile(publish, "write_quarantine")
    result = run(source, model, store)
    samples = store.batch(result.batch.batch_key) / "samples.parquet"
    expected = [sample for sample in open_source(str(source)).rows() if isinstance(sample, Sample)]
    assert [sample for part in read_samples(samples) for sample in part] == expected
    assert result.published is not None
    kept = {sample.turns for sample in open_source(str(result.published.clean)).rows() if isinstance(sample, Sample)}
    assert kept <= {sample.turns for sample in expected}
    assert "savings" not in result.published.quarantine.read_text()
    assert not list((store.home / "incoming").iterdir())


def test_a_change_is_exit_code_4(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an earlier scan left in the folder is withdrawn, so that nobody takes it for this one's result."""
    source = as_lines(tmp_path / "rows.jsonl", GOOD)
    told = ["scan", source, "--out", tmp_path / "out", "--model", model, "--dtype", "float32"]
    monkeypatch.setattr("sys.argv", ["gradsentry", *map(str, told)])
    with pytest.raises(SystemExit) as earlier:
        main()
    assert earlier.value.code == 0 and (tmp_path / "out" / "clean.jsonl").exists()
    real = scan_run.score_batch
    monkeypatch.setattr(scan_run, "score_batch", lambda *told: (as_lines(source, CHANGED), real(*told))[1])
    (tmp_path / "out" / "report.html").write_text("changed by somebody")
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(SystemExit) as foreign:
        main()
    assert foreign.value.code == 2 and "clean.jsonl in" in capsys.readouterr().err
    (tmp_path / "out" / "report.html").unlink()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 4 and "has changed since it was read" in said and "is older" not in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [LIST, "notes.txt"]


def test_samples_that_are_not_what_was_read_are_not_scored(tmp_path: Path, model: Path, store: Store) -> None:
    """In Dagster the steps are processes of their own: what lies in the store may change between them."""
    told = current_run("test")
    batch = ingest(open_source(str(as_lines(tmp_path / "rows.jsonl", CHANGED))), store, told)
    other = ingest(open_source(str(as_lines(tmp_path / "other.jsonl", GOOD))), store, told)
    samples = store.batch(batch.batch_key) / "samples.parquet"
    samples.write_bytes((store.batch(other.batch_key) / "samples.parquet").read_bytes())
    choice = scan_run.ModelChoice(str(model), dtype="float32")
    identity = choice.identify()

    def load() -> Any:
        raise AssertionError("nothing is to be scored")

    with pytest.raises(Damaged, match="not what was read"):
        score.score_batch(batch, store, told, identity, load, score.ScoringConfig())


def test_the_same_content_under_another_path_is_published_from_there(tmp_path: Path, model: Path, store: Store) -> None:
    first = write(tmp_path / "rows.jsonl", lines(range(8)))
    batch = run(first, model, store).batch
    (tmp_path / "elsewhere").mkdir()
    second = first.rename(tmp_path / "elsewhere" / "rows.jsonl")
    again = run(second, model, store)
    assert again.published is not None and again.scored.computed == 0
    assert again.batch.batch_key == batch.batch_key and again.batch.source == str(second)
    loaded = ingest_step.load(store, batch.batch_key)
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert [Path(found.source.path).parent for found in ledger.find(Batch)] == [first.parent, second.parent]
    assert loaded is not None and loaded.source == str(second)


def test_a_message_names_the_source_and_not_the_copy(tmp_path: Path, store: Store) -> None:
    source = write(tmp_path / "broken.jsonl", ["{broken"])
    with pytest.raises(BadInput, match=str(source)):
        ingest(open_source(str(source)), store, current_run("test"))
