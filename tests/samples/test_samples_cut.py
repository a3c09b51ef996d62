"""Half a file never passes for a whole one: what is readable is read, the rest is said."""

import bz2
import gzip
import io
import json
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.container import zstd
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Reject
from gradsentry_lib.samples.shards import missing_shards
from gradsentry_lib.samples.table import write_samples
from gradsentry_lib.samples.write import write_clean

from .sources import ROWS, make_source

GOOD = b'{"prompt": "Who?", "response": "Ada"}'
CUT = "cut short: the file ends inside this row"
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress}
UNPACK = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress, "zst": zstd.decompress}
NAMES = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}


def scan(path, **options):
    """Counts, rejects and the clean copy of a source."""
    source = open_source(str(path), **options)
    room = path.parent / "room"
    room.mkdir(exist_ok=True)
    rows = list(source.rows())
    counts = write_samples(source, room / "samples.parquet", room / "rejected.jsonl")
    rejected = [row for row in rows if isinstance(row, Reject)]
    clean = room / f"clean{source.suffix}"
    kept = write_clean(source, np.array([row.row for row in rejected], np.int64), clean)
    assert counts.read == len(rows) == kept + len(rejected) and counts.rejected == len(rejected)
    return counts.truncated, rejected, clean


@pytest.mark.parametrize(
    ("name", "data", "truncated", "line", "reason", "clean"),
    [
        ("a.jsonl", GOOD + b"\n" + GOOD[:20], "a.jsonl ends inside its last row (line 2)", 2, CUT, GOOD + b"\n"),
        ("a.jsonl", GOOD + b"\n" + GOOD[:-1], "a.jsonl ends inside its last row (line 2)", 2, CUT, GOOD + b"\n"),
        ("a.jsonl", GOOD + b"\n\n{", "a.jsonl ends inside its last row (line 3)", 3, CUT, GOOD + b"\n\n"),
        ("a.jsonl", GOOD + b"\n" + GOOD[:9] + b"\0" * 99, "a.jsonl ends in zero bytes (line 2)", 2, CUT, GOOD + b"\n"),
        (
            "a.json",
            b"[" + GOOD + b",\n" + GOOD[:20],
            "a.json has no bracket that closes its rows (it ends on line 2)",
            2,
            CUT,
            b"[" + GOOD + b"]",
        ),
        (
            "a.json",
            b'{"data": [' + GOOD + b",",
            "a.json has no bracket that closes its rows (it ends on line 1)",
            None,
            None,
            b'{"data": [' + GOOD + b"]}",
        ),
        (
            "a.json",
            b"[" + GOOD,
            "a.json has no bracket that closes its rows (it ends on line 1)",
            None,
            None,
            b"[" + GOOD + b"]",
        ),
        (
            "a.json",
            b'{"data": [' + GOOD + b'], "not',
            "a.json ends inside what follows its rows (line 1)",
            None,
            None,
            b'{"data": [' + GOOD + b"]}",
        ),
        (
            "a.json",
            b'{\n"prompt": "a",\n"response": "b"}\n{\n"prompt": "c',
            "a.json ends inside a row (line 4)",
            4,
            CUT,
            b'{\n"prompt": "a",\n"response": "b"}\n',
        ),
        (
            "a.csv",
            b'prompt,response\na,b\nc,"d\ne,f',
            "a.csv ends inside a quoted field (of the row that begins on line 3)",
            3,
            "bad CSV: unexpected end of data (lines 3 to 4)",
            b"prompt,response\na,b\n",
        ),
        (
            "a.csv",
            b"prompt,response\na,b\nc",
            "a.csv ends inside its last row (line 3)",
            3,
            CUT,
            b"prompt,response\na,b\n",
        ),
    ],
)
def test_a_text_that_ends_too_early(tmp_path, name, data, truncated, line, reason, clean):
    (tmp_path / name).write_bytes(data)
    told, rejected, target = scan(tmp_path / name)
    assert told == truncated
    assert [(row.line, row.reason) for row in rejected] == ([(line, reason)] if reason else [])
    assert target.read_bytes() == clean


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", GOOD + b"\n" + GOOD),  # without its last line end a file is whole
        ("a.jsonl", GOOD + b"\nbroken"),
        ("a.jsonl", GOOD + b'\n{"prompt": "a", "prompt": "b"}'),
        ("a.jsonl", GOOD + b"\n{broken\n"),
        ("a.json", b"[" + GOOD + b"]"),
        ("a.csv", b"prompt,response\na,b"),
        ("a.csv", b'prompt,response\na,"b\nc"'),
        ("a.csv", b"prompt,response\na,b\nc\n"),
    ],
)
def test_a_whole_text_is_not_called_cut(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert scan(tmp_path / name)[0] == ""


@pytest.mark.parametrize("ending", PACK)
def test_a_packing_without_its_end(tmp_path, ending):
    lines = [json.dumps(row).encode() + b"\n" for row in ROWS]
    packed = b"".join(PACK[ending](b"".join(lines[n : n + 10])) for n in range(0, 50, 10))  # one stream after the other
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(packed)
    told, rejected, target = scan(path)
    assert (told, rejected) == ("", []) and UNPACK[ending](target.read_bytes()) == b"".join(lines)

    path.write_bytes(packed[:-3])
    told, rejected, target = scan(path)
    assert told.startswith(f"a.jsonl.{ending} ends before its {NAMES[ending]} packing does")
    kept = UNPACK[ending](target.read_bytes())
    assert b"".join(lines).startswith(kept) and kept.count(b"\n") >= 40  # all of the streams that are whole
    assert len(rejected) <= 1


def test_the_last_row_of_a_cut_packing_is_not_believed(tmp_path):
    table = b"prompt,response\n" + b"".join(b"question %d,answer %d\n" % (n, n) for n in range(3000))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(table)[:4000])
    told, rejected, target = scan(path)
    assert "ends before its gzip packing does" in told
    kept = gzip.decompress(target.read_bytes())
    assert table.startswith(kept) and kept.endswith(b"\n") and kept.count(b"\n") > 500
    assert [row.reason for row in rejected] in ([], [CUT])


@pytest.mark.parametrize("name", ["a.arrow", "a.feather"])
def test_an_arrow_file_without_its_end(tmp_path, name):
    table = pa.Table.from_pylist(ROWS)
    sink = io.BytesIO()
    new = pa.ipc.new_stream if name == "a.arrow" else pa.ipc.new_file
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    whole = sink.getvalue()
    path = tmp_path / name
    path.write_bytes(whole)
    assert scan(path)[0] == ""
    how = "ends without its end mark" if name == "a.arrow" else "ends without its footer"
    for cut in (4, len(whole) // 2):
        path.write_bytes(whole[:-cut])
        told, rejected, target = scan(path)
        assert told == f"{name} {how}" and not rejected
        left = list(open_source(str(target)).records(np.arange(50)))
        assert 0 < len(left) <= 50 and [row.value["id"] for row in left] == list(range(len(left)))
    path.write_bytes(whole[:30])
    with pytest.raises(BadInput, match=r"cut short \(truncated\)"):
        scan(path)


def test_a_parquet_file_without_its_footer_cannot_be_read(tmp_path):
    path = make_source(tmp_path, "table.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"cut short \(truncated\): a Parquet file cannot be read without its footer"):
        open_source(str(path))


def test_a_json_object_of_columns_cannot_be_read_without_its_end(tmp_path):
    path = make_source(tmp_path, "columns.json")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"it is cut short \(truncated\)"):
        list(open_source(str(path)).rows())


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_shard_that_is_missing_from_a_numbered_set(tmp_path, kind):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(4):
        rows = ROWS[number * 5 : number * 5 + 5]
        path = folder / f"train-{number:05}-of-00004.{kind}"
        if kind == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    assert scan(folder)[0] == ""
    (folder / f"train-00002-of-00004.{kind}").unlink()
    told, _, target = scan(folder)
    assert told == f"1 of 4 numbered files is missing: train-00002-of-00004.{kind}"
    left = [row.value["id"] for row in open_source(str(target)).records(np.arange(50))]
    assert left == [*range(10), *range(15, 20)]
    last = folder / f"train-00003-of-00004.{kind}"
    last.write_bytes(last.read_bytes()[:-30])
    told, _, target = scan(folder)
    if kind == "jsonl":
        assert told.endswith("train-00003-of-00004.jsonl ends inside its last row (line 5)")
    else:
        assert told.endswith("train-00003-of-00004.parquet ends without its footer, so that nothing of it can be read")


def test_sets_may_be_numbered_from_one_and_stand_side_by_side(tmp_path):
    for name in ("a-1-of-2.jsonl", "a-2-of-2.jsonl", "b-0-of-3.jsonl"):
        (tmp_path / name).write_bytes(GOOD + b"\n")
    assert open_source(str(tmp_path)).truncated == ("2 of 3 numbered files are missing: b-1-of-3.jsonl, b-2-of-3.jsonl")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ("part-0001-of-0004 part-0002-of-0004 part-0004-of-0004", "part-0003-of-0004"),
        ("train-00000-of-00003-9f86d081884c7d65 train-00002-of-00003-60303ae22b998861", "train-00001-of-00003-*"),
        ("train-00000-of-00002-9f86d081884c7d65 train-00001-of-00002-60303ae22b998861", ""),
        ("a_1of3 a_3of3", "a_2of3"),
        ("part-0 part-1 part-3", "part-2"),
        ("part-0 part-1 part-2", ""),
        ("1 2 4", "3"),
        ("shard.00 shard.02", "shard.01"),
        (
            "part-00000-5b5ab0c8-c000.snappy part-00001-5b5ab0c8-c000.snappy part-00003-5b5ab0c8-c000.snappy",
            "part-00002",
        ),
        ("sub/part-1 sub/part-2 sub/part-4 other/part-3", "sub/part-3"),
        ("rows-2021 rows-2023 rows-2024", ""),
        ("2024-01-01 2024-01-03 2024-01-04", ""),
        ("2024_01 2024_03 2024_04", ""),
        ("01-2024 03-2024", ""),
        ("v1 v3", ""),
        ("train valid1", ""),
        ("a1 a2 a90", ""),
    ],
)
def test_numbered_sets(names, missing):
    told = missing_shards(f"{name}.jsonl" for name in names.split())
    assert len(told) == bool(missing) and all(f"missing: {missing}" in sentence for sentence in told)


def test_a_saved_data_set_that_lacks_a_file_or_the_end_of_one(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    path = tmp_path / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(path, num_shards=4)
    assert scan(path)[0] == ""
    (path / "data-00001-of-00004.arrow").unlink()
    told, rejected, target = scan(path)
    assert told == "data-00001-of-00004.arrow is missing" and not rejected
    left = datasets.load_from_disk(target)["id"][:]
    assert len(left) == 37 and left == [*range(13), *range(26, 50)]
    last = path / "data-00003-of-00004.arrow"
    last.write_bytes(last.read_bytes()[:-8])
    assert scan(path)[0].endswith("data-00003-of-00004.arrow ends without its end mark")
    for file in path.glob("*.arrow"):
        file.unlink()
    with pytest.raises(BadInput, match=r"cut short \(truncated\): none of its files are there"):
        scan(path)


def test_an_archive_without_its_end_cannot_be_read(tmp_path):
    path = make_source(tmp_path, "lines.jsonl.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BadInput, match=r"cut short \(truncated\) or damaged"):
        open_source(str(path))


def test_rows_that_cannot_be_read_at_all_say_that_the_file_is_cut(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(GOOD[:20])
    with pytest.raises(BadInput, match=r"it is cut short \(truncated\): a.jsonl ends inside its last row"):
        scan(tmp_path / "a.jsonl")


KINDS_CUT = [
    "lines.jsonl",
    "lines.jsonl.gz",
    "lines.jsonl.bz2",
    "lines.jsonl.xz",
    "lines.jsonl.zst",
    "lines.jsonl.zip",
    "utf16.jsonl",
    "array.jsonl",
    "array.json.gz",
    "pretty.json",
    "arrays.json",
    "data.json",
    "objects.json",
    "joined.json.gz",
    "columns.json",
    "table.arrow",
    "table.feather",
    "table.parquet",
]


@pytest.mark.parametrize("kind", KINDS_CUT)
def test_wherever_a_file_is_cut_it_shows_or_ends_with_a_row(tmp_path, kind):
    """Nothing is made up, nothing after the cut is missed silently, and the clean copy reads as what was readable."""
    path = make_source(tmp_path, kind)
    whole = path.read_bytes()
    rows = [row.turns for row in open_source(str(path)).rows()]
    for size in range(1, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:size])
        try:
            source = open_source(str(path))
            read = list(source.rows())
        except BadInput:
            continue
        good = [row for row in read if not isinstance(row, Reject)]
        if not good:  # "none of the rows can be read"
            continue
        assert [row.turns for row in good] == rows[: len(good)]
        assert len(read) - len(good) <= 1
        if not source.truncated:
            assert len(read) == len(good) < 50 and kind in ("lines.jsonl", "utf16.jsonl", "objects.json"), size
        rejected = [row.row for row in read if isinstance(row, Reject)]
        target = tmp_path / f"clean{source.suffix}"
        assert write_clean(source, np.array(rejected, np.int64), target) == len(good)
        assert [row.turns for row in open_source(str(target)).rows()] == rows[: len(good)]
