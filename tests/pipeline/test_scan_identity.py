"""A batch is its content by all digits: another content never comes to its name, and old stores keep theirs."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gradsentry_lib import cli
from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import sha256_file
from gradsentry_lib.pipeline import ingest as ingest_step
from gradsentry_lib.pipeline import naming
from gradsentry_lib.pipeline.ingest import ingest
from gradsentry_lib.pipeline.naming import NameTaken, batch_key
from gradsentry_lib.samples import table
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.store import Batch, Override, Scan, current_run, open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, run, verdicts, write

RUN = current_run("test")


def clash(folder: Path, digits: int) -> tuple[Path, Path]:
    """Two files of one name whose SHA-256 begin alike."""
    seen: dict[str, Path] = {}
    for number in range(10_000):
        place = folder / str(number)
        place.mkdir(parents=True)
        path = write(place / "rows.jsonl", lines([number]))
        other = seen.setdefault(sha256_file(path)[:digits], path)
        if other != path:
            return other, path
    raise AssertionError


def test_a_name_shows_sixteen_digits_and_other_options_are_another_batch(tmp_path: Path, store: Store) -> None:
    source = open_source(str(write(tmp_path / "rows.jsonl", lines(range(4)))))
    key = batch_key(source, {}, store)
    assert key == f"rows-{source.sha256[:16]}"
    limited = batch_key(source, {"limit": 2}, store)
    assert limited.startswith(f"{key}-") and len(limited) == len(key) + 9
    assert batch_key(source, {"limit": None, "columns": {}}, store) == key


def test_a_clash_of_names_is_refused(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "DIGITS", 2)
    first, second = clash(tmp_path / "files", 2)
    batch = ingest(open_source(str(first)), store, RUN)
    with pytest.raises(NameTaken, match=f"{sha256_file(first)}.*{sha256_file(second)}.*another name"):
        ingest(open_source(str(second)), store, RUN)
    with pytest.raises(NameTaken):  # nor under a key that somebody hands over
        ingest(open_source(str(second)), store, RUN, key=batch.batch_key)
    renamed = ingest(open_source(str(second.rename(second.with_name("other.jsonl")))), store, RUN)
    assert renamed.batch_key.startswith("other-")
    with open_ledger(store.ledger) as ledger:
        assert len(ledger.find(Batch)) == 2
        known = ledger.batch(batch.batch_key)
        with pytest.raises(BadInput, match="and of no other"):
            ledger.record_batch(Batch(**vars(known) | {"source": ledger.batch(renamed.batch_key).source, "seq": 0}))


def test_the_same_bytes_read_as_another_kind_are_another_batch(tmp_path: Path, store: Store) -> None:
    rows = ['"prompt","response"', '"a question","an answer"']
    ingest(open_source(str(write(tmp_path / "rows.csv", rows))), store, RUN)
    with pytest.raises(NameTaken):
        ingest(open_source(str(write(tmp_path / "rows.jsonl", rows))), store, RUN)


def as_by_0_3_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of 8 digits, samples of role and text only, and no word on the reader."""
    turns = pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))
    real = ingest_step.write_samples

    def write_samples(source: Any, samples: Path, *told: Any, **options: Any) -> Any:
        counts = real(source, samples, *told, **options)
        made = pq.read_table(samples).drop_columns(["tools"])
        plain = [[{"role": turn["role"], "text": turn["text"]} for turn in line] for line in made["turns"].to_pylist()]
        pq.write_table(made.set_column(4, "turns", pa.array(plain, turns)), samples)
        return counts

    monkeypatch.setattr(naming, "DIGITS", 8)
    monkeypatch.setattr(naming, "OPTION_DIGITS", 4)
    monkeypatch.setattr(ingest_step, "write_samples", write_samples)
    monkeypatch.setattr(ingest_step, "READER", 1)
    monkeypatch.setattr("gradsentry_lib.pipeline.score.READER", 1)


@pytest.mark.slow
def test_a_batch_of_an_old_store_keeps_its_name_and_what_was_said_of_it(
    tmp_path: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "rows.jsonl", lines(range(8)))
    with monkeypatch.context() as before:
        as_by_0_3_0(before)
        old = run(source, model, store)
        samples_path = store.samples(old.batch.batch_key)
        assert pq.read_schema(samples_path).names[-1] == "turns"
    key = old.batch.batch_key
    assert key == f"rows-{old.batch.source_sha256[:8]}"
    told = verdicts(old, store)
    with open_ledger(store.ledger) as ledger:
        word = Override(
            sample_id=told["sample_id"][3].as_py(), action="flag", made_by="ana", reason="no", batch_key=key
        )
        ledger.record_overrides([word])

    samples = [sample for part in table.read_samples(samples_path) for sample in part]
    assert [sample.sample_id for sample in samples] == told["sample_id"].to_pylist()

    new = run(source, model, store)
    assert new.batch.batch_key == key and new.batch.reader == ingest_step.READER == 2
    assert pq.read_schema(samples_path).names[-1] == "tools"
    assert new.scored.computed == 0  # scores are kept by content
    assert verdicts(new, store)["verdict"][3].as_py() == "flagged"
    with open_ledger(store.ledger, read_only=True) as ledger:
        batch, scan = ledger.batch(key), ledger.scan(key)
        assert (scan.source_sha256, scan.samples_sha256) == (batch.source.sha256, batch.samples.sha256)
        assert len(ledger.find(Scan)) == 2
    assert run(source, model, store).batch == new.batch


def test_new_content_whose_digest_begins_like_an_old_batch_s_is_its_own(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = clash(tmp_path / "files", 2)
    monkeypatch.setattr(naming, "DIGITS", 2)
    old = ingest(open_source(str(first)), store, RUN)
    monkeypatch.setattr(naming, "DIGITS", 16)
    new = ingest(open_source(str(second)), store, RUN)
    assert len({old.batch_key, new.batch_key}) == 2
    assert ingest(open_source(str(first)), store, RUN).batch_key == old.batch_key


def test_one_command_reads_an_old_store_anew(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [write(tmp_path / f"{name}.jsonl", lines(range(4))) for name in ("kept", "gone", "changed")]
    with monkeypatch.context() as before:
        as_by_0_3_0(before)
        keys = [ingest(open_source(str(source)), store, RUN).batch_key for source in sources]
    sources[1].unlink()
    write(sources[2], lines(range(5)))
    monkeypatch.setenv("GRADSENTRY_HOME", str(store.home))
    done = CliRunner().invoke(cli.app, ["store", "upgrade"])
    told = " ".join(done.output.split())
    assert done.exit_code == 0 and f"read again {keys[0]}: 4 rows, 0 rejected" in told
    assert f"left as it is {keys[1]}: there is no file" in told
    assert f"left as it is {keys[2]}: {sources[2]} has changed" in told
    read = ingest_step.load(store, keys[0])
    assert read is not None and read.reader == ingest_step.READER
    sources[1].write_bytes(sources[0].read_bytes())
    write(sources[2], lines(range(4)))
    assert "2 batches read again, 0 left" in CliRunner().invoke(cli.app, ["store", "upgrade"]).output
    assert "nothing to do" in CliRunner().invoke(cli.app, ["store", "upgrade"]).output
