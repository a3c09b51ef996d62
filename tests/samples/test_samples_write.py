"""The clean part of every kind of source is the source minus rows; the quarantine carries each original."""

import bz2
import datetime as dt
import decimal
import gzip
import io
import json
import lzma
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.errors import SourceChanged
from gradsentry_lib.samples.container import zstd
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.write import write_clean, write_quarantine

from .sources import KINDS, ROWS, make_source, read_all

REMOVED = np.array([0, 3, 19, 20, 21, 49])
KEPT = [row for row in range(len(ROWS)) if row not in REMOVED]
NONE = np.array([], np.int64)
HELD_WHOLE = ("columns.json", "keyed.json", "named.json")
UNPACK = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": zstd.decompress,
    ".zip": lambda data: zipfile.ZipFile(io.BytesIO(data)).read("inner/rows.jsonl"),
}


def clean(path, removed, **options):
    source = open_source(str(path), **options)
    target = path.parent / f"clean{source.suffix}"
    return target, write_clean(source, np.array(removed, np.int64), target)


def originals(path):
    """The rows of a source with all their columns, through its own library."""
    source = open_source(str(path))
    return [dict(record.value) for record in source.records(np.arange(10_000))]


def verdict_table(rows):
    ids = [f"{row:064d}" for row in rows]
    return pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "sample_id": ids,
            "entropy": [float("nan")] * len(rows),
            "nll": [1.0] * len(rows),
            "verdict": ["unscored"] * len(rows),
            "reasons": [["too long", "no score"]] * len(rows),
        }
    )


@pytest.mark.parametrize("kind", KINDS)
def test_clean_is_the_source_minus_rows(tmp_path, kind):
    path = make_source(tmp_path, kind)
    target, written = clean(path, REMOVED)
    before, after = originals(path), originals(target)
    assert len(before) == 50 and written == len(KEPT)
    assert after == [before[row] for row in KEPT]
    assert open_source(str(target)).kind == open_source(str(path)).kind
    assert not list(tmp_path.glob(".*"))  # nothing is left beside it


@pytest.mark.parametrize("kind", KINDS)
def test_clean_can_be_the_whole_source_or_none_of_it(tmp_path, kind):
    path = make_source(tmp_path, kind)
    target, written = clean(path, NONE)
    assert written == len(ROWS)
    assert originals(target) == originals(path)
    if path.is_file() and kind not in ("table.parquet", "table.arrow", "table.feather", *HELD_WHOLE):
        unpack = UNPACK.get(path.suffix, bytes)
        assert unpack(target.read_bytes()) == unpack(path.read_bytes())
    target, written = clean(path, range(50))  # a folder is replaced as a file is
    assert written == 0
    if not kind.endswith((".gz", ".jsonl", ".ndjson", "lines.json", "objects.json")):
        assert originals(target) == []


def test_lines_are_kept_byte_for_byte(tmp_path):
    lines = [
        b'\xef\xbb\xbf{"prompt":"a","response":"b"}\n',
        b'{ "response" : "c\\u00e9" , "n": 1.50e3, "prompt": "d" }  \r\n',
        b"\n",
        b"broken\n",
        '{"prompt": "é\u2028", "response": "f"}\n'.encode(),
        b'{"prompt": "g", "response": "h"}',
    ]
    path = tmp_path / "batch.jsonl"
    path.write_bytes(b"".join(lines))
    target, written = clean(path, [2])
    assert target.read_bytes() == b"".join(lines[:3] + lines[4:]) and written == 4
    target, written = clean(path, [0, 2, 3])
    assert target.read_bytes() == lines[0][:3] + lines[1] + lines[2] + lines[5] and written == 2


def test_csv_keeps_header_quotes_and_line_ends(tmp_path):
    path = tmp_path / "batch.csv"
    path.write_bytes(b'\xef\xbb\xbf"prompt",response,n\r\n"a",b,01\r\nc,"d\r\n""e""",2\r\nf,g,3')
    target, _ = clean(path, [0])
    assert target.read_bytes() == b'\xef\xbb\xbf"prompt",response,n\r\nc,"d\r\n""e""",2\r\nf,g,3'


def test_json_keeps_what_stands_around_the_rows(tmp_path):
    path = tmp_path / "batch.json"
    path.write_text('{"version": "1.1", "data": [\n {"a": 1.0},\n {"a": 2},\n {"a": 3}\n ], "about": "x"}\n')
    target, _ = clean(path, [0, 1])
    assert target.read_text() == '{"version": "1.1", "data": [\n {"a": 3}\n ], "about": "x"}\n'


def test_parquet_keeps_types_and_metadata(tmp_path):
    table = pa.table(
        {
            "prompt": pa.array(["a", "b", "c"], pa.large_string()),
            "response": pa.array(["d", "e", "f"]).dictionary_encode(),
            "when": pa.array([1, 2, 3], pa.timestamp("ns", "UTC")),
            "price": pa.array([decimal.Decimal("1.10")] * 3, pa.decimal128(9, 2)),
            "tags": pa.array([["x"], None, []], pa.list_(pa.string())),
            "raw": pa.array([b"\xff", None, b""], pa.binary()),
            "part": pa.array([{"k": 1}] * 3, pa.struct([pa.field("k", pa.int8(), metadata={"f": "g"})])),
        }
    ).replace_schema_metadata({"owner": "us", "pandas": "{}"})
    path = tmp_path / "batch.parquet"
    pq.write_table(table, path, compression="gzip", row_group_size=2)
    target, _ = clean(path, [1])
    stored = pq.read_table(target)
    assert stored.equals(table.take([0, 2])) and stored.schema.equals(pq.read_schema(path), check_metadata=True)
    assert pq.read_metadata(target).row_group(0).column(0).compression == "GZIP"


def test_a_data_set_keeps_features_and_description(tmp_path):
    import datasets

    features = datasets.Features(
        {
            "prompt": datasets.Value("string"),
            "response": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    info = datasets.DatasetInfo(description="ours", features=features)
    rows = [{"prompt": "a", "response": str(n), "label": n % 2} for n in range(5)]
    datasets.Dataset.from_list(rows, features=features, info=info).save_to_disk(tmp_path / "ds")
    target, _ = clean(tmp_path / "ds", [0, 4])
    loaded = datasets.load_from_disk(target)
    assert (
        loaded.features == features and loaded.info.description == "ours" and loaded["response"][:] == ["1", "2", "3"]
    )


def test_splits_stay_apart_and_a_picked_one_stands_alone(tmp_path):
    import datasets

    path = make_source(tmp_path, "splits")
    loaded = datasets.load_from_disk(clean(path, REMOVED)[0])
    assert {name: split["id"][:] for name, split in loaded.items()} == {"train": KEPT[:25], "test": KEPT[25:]}
    alone = datasets.load_from_disk(clean(path, [0], split="test")[0])
    assert alone["id"][:] == list(range(31, 50))


def test_a_hub_data_set_becomes_a_folder(tmp_path, monkeypatch):
    import datasets
    from huggingface_hub import HfApi

    path = make_source(tmp_path, "splits")
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: type("Info", (), {"sha": "c0ffee"}))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.load_from_disk(path))
    source = open_source("owner/name")
    assert write_clean(source, REMOVED, tmp_path / "clean") == len(KEPT)
    assert [row["id"] for row in originals(tmp_path / "clean")] == KEPT
    assert write_quarantine(source, verdict_table([0, 30]), tmp_path / "quarantine.jsonl") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_has_changed_is_refused(tmp_path, kind):
    path = make_source(tmp_path, kind)
    source = open_source(str(path))
    other = make_source(tmp_path, kind, ROWS[::-1]) if path.is_file() else path
    if path.is_dir():
        changed = next(file for file in sorted(path.rglob("*")) if file.suffix in (".parquet", ".arrow", ".jsonl"))
        changed.write_bytes(changed.read_bytes().replace(b"PAR1", b"PAR1", 1))
        (changed.parent / f"more{changed.suffix}").write_bytes(changed.read_bytes())
    assert other == path
    for write in (
        lambda target: write_clean(source, NONE, target),
        lambda target: write_quarantine(source, verdict_table([1]), target),
    ):
        with pytest.raises(SourceChanged) as caught:
            write(tmp_path / "target")
        assert str(caught.value).startswith(f"{path} has changed since it was read (SHA-256 {source.sha256[:16]}... ")
        assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_quarantine_carries_each_original(tmp_path, kind):
    path = make_source(tmp_path, kind)
    source = open_source(str(path))
    lines = {row.row: row.line for row in source.rows()}
    assert write_quarantine(source, verdict_table([42, 2, 7]), tmp_path / "quarantine.jsonl") == 3
    written = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_bytes().splitlines()]
    is_csv = open_source(str(path)).kind == "csv"
    text = (lambda row: {key: str(value) for key, value in row.items()}) if is_csv else dict
    assert written == [
        {
            "row": row,
            "line": lines[row],
            "sample_id": f"{row:064d}",
            "verdict": "unscored",
            "reasons": ["too long", "no score"],
            "entropy": None,
            "source": text(ROWS[row]),
        }
        for row in (2, 7, 42)
    ]


def test_quarantine_writes_what_json_cannot_carry(tmp_path):
    when = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    row = {
        "prompt": "a",
        "response": "b",
        "t": when,
        "d": when.date(),
        "b": b"\xff",
        "x": float("inf"),
        "l": [decimal.Decimal("1.5")],
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "batch.parquet")
    source = open_source(str(tmp_path / "batch.parquet"))
    write_quarantine(source, verdict_table([0]), tmp_path / "quarantine.jsonl")
    original = json.loads((tmp_path / "quarantine.jsonl").read_text())["source"]
    assert original == {
        "prompt": "a",
        "response": "b",
        "t": "2024-05-06T07:08:09+00:00",
        "d": "2024-05-06",
        "b": "/w==",
        "x": None,
        "l": ["1.5"],
    }


def test_quarantine_keeps_a_row_whose_other_columns_are_broken(tmp_path):
    note = pa.array([b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"prompt": ["a"], "response": ["b"], "note": note}), tmp_path / "batch.parquet")
    source = open_source(str(tmp_path / "batch.parquet"))
    assert isinstance(next(source.rows()), Sample)
    write_quarantine(source, verdict_table([0]), tmp_path / "quarantine.jsonl")
    assert json.loads((tmp_path / "quarantine.jsonl").read_text())["source"] is None


def test_quarantine_escapes_a_lone_surrogate(tmp_path):
    path = tmp_path / "batch.jsonl"
    path.write_bytes(b'{"prompt": "a", "response": "b", "note": "\\ud800\\u001b"}\n')
    write_quarantine(open_source(str(path)), verdict_table([0]), tmp_path / "quarantine.jsonl")
    assert json.loads((tmp_path / "quarantine.jsonl").read_bytes())["source"]["note"] == "\ud800\x1b"


def test_a_rejected_row_cannot_be_written_as_clean(tmp_path):
    path = tmp_path / "batch.jsonl"
    path.write_bytes(b'{"prompt": "a", "response": "b"}\n' + b"x" * (17 << 20))
    with pytest.raises(ValueError, match="row 1 was rejected"):
        clean(path, [])
    assert not (tmp_path / "clean.jsonl").exists()


def test_a_quarantined_row_that_is_not_there_is_an_error(tmp_path):
    path = make_source(tmp_path, "lines.jsonl")
    with pytest.raises(ValueError):
        write_quarantine(open_source(str(path)), verdict_table([1, 50]), tmp_path / "quarantine.jsonl")
    assert not (tmp_path / "quarantine.jsonl").exists()


def test_clean_reads_back_as_the_samples_that_stayed(tmp_path):
    path = make_source(tmp_path, "array.json")
    target, _ = clean(path, REMOVED)
    before = read_all(path)
    assert [row.sample_id for row in read_all(target)] == [before[row].sample_id for row in KEPT]
