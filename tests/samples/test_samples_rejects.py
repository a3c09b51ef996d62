"""Hostile rows: each is rejected with its line and reason, and the rows around it are read."""

import csv
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.json_array import cut_array
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Reject, Sample
from gradsentry_lib.samples.table import write_samples
from gradsentry_lib.samples.write import write_clean, write_quarantine

from .sources import read_bytes, reasons

GOOD = b'{"prompt": "Who?", "response": "Ada"}'
LONG = b'{"prompt": "x", "response": "' + b"y" * (17 << 20) + b'"}'
TOO_LONG = "row longer than 16 MiB"
LISTED = "the row is a list, not an object; a row is to have named columns (pandas: orient='records')"


BAD = [
    (b"{", "invalid JSON: Expecting property name enclosed in double quotes at character 2"),
    (b'{"prompt": "a" "response": "b"}', "invalid JSON: Expecting ',' delimiter at character 16"),
    (GOOD + b" " + GOOD, "invalid JSON: Extra data at character 39"),
    (b"not JSON", "invalid JSON: Expecting value at character 1"),
    (b'["Who?", "Ada"]', LISTED),
    (b'"Ada"', "the row is text, not an object"),
    (b"null", "the row is null, not an object"),
    (b"12", "the row is a number, not an object"),
    (b'{"prompt": "\xff", "response": "Ada"}', "invalid UTF-8 at byte 13"),
    (b'{"prompt": "\xed\xa0\x80", "response": "Ada"}', "invalid UTF-8 at byte 13"),
    (b'{"prompt": "a", "response": "Ada", "response": "Eve"}', "duplicate key 'response'"),
    (b'{"prompt": "a", "response": "Ada", "respons\\u0065": "Eve"}', "duplicate key 'response'"),
    (b'{"messages": [{"role": "user", "role": "assistant", "content": "a"}]}', "duplicate key 'role'"),
    (b'{"prompt": "a", "response": NaN}', "response is a number, not text"),
    (b'{"prompt": "a", "response": ' + b"9" * 5000 + b"}", "invalid JSON: a number with too many digits"),
    (b'{"prompt": "a", "response": ' + b"[" * 100_000, "nested deeper than 64 levels"),
    (b'{"prompt": "a", "x": ' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64 levels"),
    (b'{"prompt": "a", "response": "A\0"}', "invalid JSON: Invalid control character at character 31"),
    (b'{"prompt": "a", "response": "A\\u0000"}', "NUL character in response"),
    (b'{"prompt": "a", "response": "A\\ud800"}', "lone surrogate in response"),
    (b'{"prompt": "a", "response": ""}', "empty response"),
    (b'{"prompt": "a", "response": 1}', "response is a number, not text"),
    (b'{"prompt": "a"}', "missing response; the columns with a value are: 'prompt'"),
    (
        b'{"instruction": "a", "output": "b"}',
        "mixed format: alpaca ('instruction', 'output') in a batch of prompt ('prompt', 'response')",
    ),
    (
        b'{"question": "a", "answer": "b"}',
        "mixed format: prompt ('question', 'answer') in a batch of prompt ('prompt', 'response')",
    ),
    (
        b'{"messages": [{"role": "assistant", "content": "a"}]}',
        "mixed format: chat ('messages') in a batch of prompt ('prompt', 'response')",
    ),
    (LONG, TOO_LONG),
]
# In an array a bracket too many ends the array and not the row, so there those rows are left out.
CLOSED = [row for row in BAD if all(row[0].count(a) == row[0].count(b) for a, b in (b"{}", b"[]"))]


def named(name, rows):
    return [pytest.param(name, *row, id=f"{name} {row[0][:40]!r}") for row in rows]


@pytest.mark.parametrize(("name", "line", "reason"), named("batch.jsonl", BAD) + named("batch.json", CLOSED))
def test_a_bad_row_is_rejected_alone(tmp_path, name, line, reason):
    rows = [GOOD, line, GOOD]
    data = b"\n".join(rows) if name == "batch.jsonl" else b"[\n" + b",\n".join(rows) + b"\n]"
    read = read_bytes(tmp_path, data, name)
    assert reasons(read) == [(1, 2 if name == "batch.jsonl" else 3, reason)]
    assert len(read) == 3
    assert line.decode(errors="replace").startswith(read[1].excerpt[:20]) and len(read[1].excerpt) <= 200


def test_line_ends_and_marks_are_no_part_of_a_row(tmp_path):
    for data in (GOOD, GOOD + b"\r\n" + GOOD + b"\r\n", b"\xef\xbb\xbf" + GOOD + b"\n", b"\n\r\n \n" + GOOD):
        rows = read_bytes(tmp_path, data)
        assert reasons(rows) == [] and len(rows) == data.count(GOOD)


def test_the_first_readable_row_sets_the_format(tmp_path):
    rows = read_bytes(tmp_path, b'nonsense\n{"question": "a", "answer": "b"}\n' + GOOD)
    assert [type(row) for row in rows] == [Reject, Sample, Reject]
    assert rows[2].reason.startswith("mixed format: prompt ('prompt', 'response') in a batch of prompt ('question', ")


@pytest.mark.parametrize(
    ("record", "reason", "line_after"),
    [
        (b"a\n", "ragged row: 1 cells under 2 columns", 4),
        (b"a,b,c\n", "ragged row: 3 cells under 2 columns", 4),
        (b'"a" b,c\n', "bad CSV: ',' expected after '\"'", 4),
        (b"a,\xff\n", "invalid UTF-8 at byte 3", 4),
        (b"a, \n", "empty response", 4),
        (b"a,b\0\n", "NUL character in response", 4),
        (b'"a\n\nb,",\n', "empty response", 6),
        (b"a," + b"y" * (17 << 20) + b"\n", TOO_LONG, 4),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_rows_of_csv(tmp_path, record, reason, line_after):
    rows = read_bytes(tmp_path, b"prompt,response\nWho?,Ada\n" + record + b"Who?,Ada\n", "batch.csv")
    assert reasons(rows) == [(1, 3, reason)]
    assert (rows[2].row, rows[2].line) == (2, line_after)


def test_a_quote_that_is_never_closed_takes_the_rest_of_the_file(tmp_path, monkeypatch):
    rows = read_bytes(tmp_path, b'prompt,response\na,b\nc,"d\ne,f\n', "batch.csv")
    assert reasons(rows) == [(1, 3, "bad CSV: unexpected end of data (lines 3 to 4)")]

    monkeypatch.setattr("gradsentry_lib.samples.pieces.ROW_LIMIT", 400)  # and no further than a row may be long
    rows = read_bytes(tmp_path, b'prompt,response\na,b\nc,"d\n' + b"e,f\n" * 200, "batch.csv")
    assert reasons(rows) == [(1, 3, f"{TOO_LONG} (lines 3 to 102)")]
    assert len(rows) == 103 and rows[-1].line == 203


def test_a_file_of_rejects_alone_is_an_error_that_keeps_the_rejects(tmp_path):
    path = tmp_path / "batch.jsonl"
    path.write_bytes(b"\n{\n" + b"[]\n")
    with pytest.raises(BadInput) as caught:
        write_samples(open_source(str(path)), tmp_path / "samples.parquet", tmp_path / "rejected.jsonl")
    assert str(caught.value) == (
        f"none of the 2 rows of {path} can be read; the first, line 2: invalid JSON: Expecting property name enclosed "
        f"in double quotes at character 2 (all of them: {tmp_path}/rejected.jsonl; `gradsentry formats` shows what can "
        "be read): say which columns are which: --column prompt=NAME --column response=NAME, or messages=NAME"
    )
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert lines[1] == {"row": 1, "line": 3, "reason": LISTED, "excerpt": "[]"}
    assert not (tmp_path / "samples.parquet").exists()


@pytest.mark.parametrize(
    ("name", "data"), [("a.jsonl", b"\n \n"), ("a.json", b"[ ]"), ("a.csv", b"prompt,response\n\n")]
)
def test_a_file_without_rows_is_an_error(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match="holds no rows; there is nothing to scan"):
        write_samples(open_source(str(tmp_path / name)), tmp_path / "samples.parquet", tmp_path / "rejected.jsonl")


TEXT = st.text(st.characters(exclude_categories=[]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["role", "content"]), inner),
    max_leaves=8,
)
COLUMN = st.sampled_from(["prompt", "response", "messages", "conversations", "instruction", "output", "answer"])
HOSTILE = (
    st.binary(max_size=40)
    | st.just(GOOD)
    | st.sampled_from([b'"', b'\\"', b"{", b"]", b"\r", b",", b'{"data": [', b"[", b"prompt,response\r\n", b"a,b"])
    | st.dictionaries(COLUMN | TEXT, VALUES, max_size=4).map(lambda row: json.dumps(row).encode())
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.lists(HOSTILE, max_size=8), st.sampled_from([b"\n", b",", b""]), st.sampled_from(["a.jsonl", "a.json", "a.csv"])
)
def test_no_bytes_stop_a_scan_and_none_are_lost(tmp_path_factory, parts, joint, name):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / name
    path.write_bytes(joint.join(parts))
    try:
        source = open_source(str(path))
        rows = list(source.rows())
        counts = write_samples(source, folder / "samples.parquet", folder / "rejected.jsonl")
    except BadInput as error:
        assert "\n" not in str(error)
        return
    assert [row.row for row in rows] == list(range(len(rows)))
    samples = [row for row in rows if isinstance(row, Sample)]
    rejected = [row.row for row in rows if isinstance(row, Reject)]
    assert (counts.read, counts.readable, counts.rejected) == (len(rows), len(samples), len(rejected))
    flagged = samples[::2]
    verdicts = pa.table(
        {
            "row": pa.array([sample.row for sample in flagged], pa.int64()),
            "sample_id": [sample.sample_id for sample in flagged],
            "verdict": ["flagged"] * len(flagged),
            "reasons": [["a reason"]] * len(flagged),
            "entropy": [0.9] * len(flagged),
        }
    )
    removed = sorted(rejected + [sample.row for sample in flagged])
    quarantined = write_quarantine(source, verdicts, folder / "quarantine.jsonl")
    clean = write_clean(source, pa.array(removed, pa.int64()).to_numpy(), folder / f"clean{source.suffix}")
    assert counts.read == clean + quarantined + counts.rejected
    kept = [sample.turns for number, sample in enumerate(samples) if number % 2]
    if kept:
        assert [row.turns for row in open_source(str(folder / f"clean{source.suffix}")).rows()] == kept
    if name == "a.jsonl":
        lines = (folder / "quarantine.jsonl").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == [sample.row for sample in flagged]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8) | st.sampled_from(
    ['"', "\r\n", ","]
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS.filter(str.strip)), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_any_well_formed_csv_is_read_as_the_standard_library_does(tmp_path_factory, table, end):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows([("prompt", "response"), *table])
    rows = read_bytes(tmp_path_factory.mktemp("csv"), text.getvalue().encode(), "a.csv")
    assert [tuple(turn.text for turn in row.turns) for row in rows] == table


ROW = st.dictionaries(TEXT, VALUES.filter(lambda value: not _has_float(value)), max_size=3)


def _has_float(value):
    if isinstance(value, dict | list):
        return any(map(_has_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, max_size=4), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 9))
def test_an_array_is_cut_where_a_json_parser_would_cut_it(rows, indent, under_data, block):
    data = json.dumps({"n": 1, "data": rows, "m": "]"} if under_data else rows, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradsentry_lib.samples.json_array.BLOCK", block)
        pieces = list(cut_array(io.BytesIO(data)))
    cut = [piece.data for piece in pieces if piece.is_row]
    assert [json.loads(row) for row in cut] == rows
    frame = [piece.data for piece in pieces if not piece.is_row]
    assert frame[0] + (b",".join(cut) or b"".join(frame[1:-1])) + frame[-1] == data
    at = len(frame[0])
    for piece in (piece for piece in pieces if piece.is_row):
        begin = at + len(piece.data) - len(piece.data.lstrip())
        assert piece.line == 1 + data.count(b"\n", 0, begin)
        at += len(piece.data) + len(b",")
