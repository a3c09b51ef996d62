"""The samples table, and memory that does not depend on the number or the length of rows."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples import table
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import SAMPLES_SCHEMA, read_samples, write_samples

from .sources import read_all

GOOD = '{"prompt": "Who\\u0085?", "response": "Ada \U0001f600"}\n'
CHAT = '{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Hi"}]}\n'


def write(folder, text):
    path = folder / "batch.jsonl"
    path.write_text(text, encoding="utf-8", newline="")
    return path, write_samples(open_source(str(path)), folder / "samples.parquet", folder / "rejected.jsonl")


@pytest.mark.parametrize("good", [GOOD, CHAT])
@pytest.mark.parametrize("rows_per_chunk", [1, 3, 100])
def test_samples_come_back_as_they_were_read(tmp_path, monkeypatch, good, rows_per_chunk):
    monkeypatch.setattr(table, "CHUNK_ROWS", 4)
    path, counts = write(tmp_path, "bad\n" + good * 9 + "{}\n" + good)
    assert (counts.read, counts.readable, counts.rejected, counts.unread) == (12, 10, 2, ())
    chunks = list(read_samples(tmp_path / "samples.parquet", rows_per_chunk))
    assert max(map(len, chunks)) <= rows_per_chunk
    samples = [sample for chunk in chunks for sample in chunk]
    assert samples == [row for row in read_all(path) if isinstance(row, Sample)]
    stored = pq.read_table(tmp_path / "samples.parquet")
    assert stored.schema.equals(SAMPLES_SCHEMA)
    assert stored["sample_id"].to_pylist() == [sample.sample_id for sample in samples]
    assert stored["row"].to_pylist() == [*range(1, 10), 11]
    assert stored["line"].to_pylist() == [*range(2, 11), 12]


def test_rejects_are_lines_of_json(tmp_path):
    write(tmp_path, GOOD + '{"prompt": "\x1b[31m\\ud800", "response": 1}\r\n' + '"\\u2028' + "x" * 300 + '"\n')
    lines = (tmp_path / "rejected.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    first, second = map(json.loads, lines)
    assert first == {
        "row": 1,
        "line": 2,
        "reason": "invalid JSON: Invalid control character at character 13",
        "excerpt": '{"prompt": "\x1b[31m\\ud800", "response": 1}',
    }
    assert len(second["excerpt"]) == 200


def test_nothing_is_left_of_a_table_that_was_not_finished(tmp_path, monkeypatch):
    (tmp_path / "samples.parquet").write_bytes(b"old")
    monkeypatch.setattr(table, "to_table", lambda samples: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, GOOD)
    assert (tmp_path / "samples.parquet").read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["batch.jsonl", "samples.parquet"]


@pytest.mark.parametrize("name", ["batch.jsonl", "batch.json"])
def test_a_row_of_50_mb_is_skipped_without_being_held(tmp_path, name):
    path = tmp_path / name
    good = GOOD.encode().strip()
    with path.open("wb") as file:
        file.write(b"[" if name == "batch.json" else b"")
        file.write(good + (b",\n" if name == "batch.json" else b"\n") + b'{"prompt": "')
        for _ in range(50):
            file.write(b"x" * 1_000_000)
        file.write(b'"}' + (b",\n" if name == "batch.json" else b"\n") + good)
        file.write(b"]" if name == "batch.json" else b"")
    tracemalloc.start()
    try:
        rows = read_all(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [row.row for row in rows if isinstance(row, Sample)] == [0, 2]
    assert rows[1].reason == "row longer than 16 MiB" and len(rows[1].excerpt) == 200
    assert rows[2].line == 3
    assert peak < 48 << 20  # twice the limit of a row, while it grows, and some


MEASURE = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.table import read_samples, write_samples
from gradsentry_lib.samples.write import write_clean, write_quarantine
folder, kind = Path(sys.argv[1]), sys.argv[2]
source = open_source(str(folder / f"batch.{kind}"))
counts = write_samples(source, folder / "samples.parquet", folder / "rejected.jsonl")
ids = [sample.row for chunk in read_samples(folder / "samples.parquet") for sample in chunk][::10]
verdicts = pa.table({"row": ids, "sample_id": [""] * len(ids), "verdict": ["flagged"] * len(ids),
                     "reasons": [[]] * len(ids), "entropy": [1.0] * len(ids)})
rows = write_clean(source, np.array(ids), folder / f"clean.{kind}")
print(counts.read, rows + write_quarantine(source, verdicts, folder / "quarantine.jsonl"),
      next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
# The process's own peak: ru_maxrss begins with what the process held that it was forked from, this one's.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's own figure of a process's peak")
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, kind):
    peaks = {}
    for count in (1_000, 60_000):
        path = tmp_path / f"batch.{kind}"
        rows = [{"prompt": f"Question {n}? " * 20, "response": "An answer. " * 20} for n in range(count)]
        if kind == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))  # 29 MB
        else:
            pq.write_table(table.pa.Table.from_pylist(rows), path)
        done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path), kind], capture_output=True, text=True)
        read, conserved, peaks[count] = map(int, done.stdout.split())
        assert read == conserved == count
    assert peaks[60_000] - peaks[1_000] < 100, peaks


def test_an_unreadable_row_in_the_middle_of_a_stream_of_tables(tmp_path):
    path = tmp_path / "cut.parquet"
    pq.write_table(table.pa.table({"prompt": ["a"] * 5000, "response": [str(n) for n in range(5000)]}), path)
    data = bytearray(path.read_bytes())
    data[100:2000] = b"\0" * 1900
    path.write_bytes(data)
    with pytest.raises(BadInput, match=f"^cannot read {path}: "):
        write_samples(open_source(str(path)), tmp_path / "samples.parquet", tmp_path / "rejected.jsonl")
    assert not (tmp_path / "samples.parquet").exists()


def test_a_table_of_an_earlier_version_is_read(tmp_path):
    path, _ = write(tmp_path, GOOD * 3)
    table = pq.read_table(tmp_path / "samples.parquet")
    turns = [[{"role": turn["role"], "text": turn["text"]} for turn in row] for row in table["turns"].to_pylist()]
    index = table.schema.get_field_index("turns")
    earlier = table.drop_columns(["tools"]).set_column(index, "turns", pa.array(turns))
    pq.write_table(earlier, tmp_path / "earlier.parquet")
    (samples,) = read_samples(tmp_path / "earlier.parquet")
    assert samples == read_all(path)
