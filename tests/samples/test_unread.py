"""Text that no layout reads is named, wherever it stands, in every kind of file."""

import json

import pytest

from gradsentry_lib.samples import observed as module
from gradsentry_lib.samples.observed import Observed
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.table import write_samples

from .sources import make_source

ROWS = [
    {
        "id": n,
        "prompt": f"Who is {n}?",
        "response": "Ada",
        "notes": "payload" if n % 2 else "",
        "meta": {"tags": ["a", "bc"], "n": n},
        "blank": " ",
        "score": 0.5,
    }
    for n in range(20)
]


def unread(path, **options):
    seen = Observed()
    rows = list(open_source(str(path), **options).rows(seen))
    return {column.name: (column.rows, column.length) for column in seen.unread}, len(rows)


@pytest.mark.parametrize("kind", ["lines.jsonl", "array.json", "columns.json", "table.parquet", "dataset"])
def test_columns_with_text_are_counted(tmp_path, kind):
    found, rows = unread(make_source(tmp_path, kind, ROWS))
    assert rows == 20
    assert found["notes"] == (10, 7)
    assert found["meta"] == (20, 3)
    assert "id" not in found and "score" not in found and "prompt" not in found


def test_a_column_that_another_layout_would_read_counts_too(tmp_path):
    path = make_source(tmp_path, "lines.jsonl", [{"prompt": "p", "response": "r", "text": "t", "tools": "[x]"}])
    assert set(unread(path)[0]) == {"text", "tools"}


def test_named_columns_leave_the_others_unread(tmp_path):
    path = make_source(tmp_path, "lines.jsonl", [{"prompt": "p", "response": "r", "q": "q"}])
    assert set(unread(path, columns={"prompt": "q"})[0]) == {"prompt"}


def test_keys_inside_turns(tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "draft": "hidden", "n": 3}]
    path = make_source(tmp_path, "lines.jsonl", [{"messages": turns}] * 3)
    assert unread(path)[0] == {"messages[].draft": (3, 6)}


def test_many_names_take_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "NAMES", 5)
    rows = [{"prompt": "p", "response": "r", f"c{n}": "x" * n} for n in range(1, 30)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _ = unread(path)
    assert len(found) == 6 and found[module.OTHERS][0] == 24


def test_what_is_unread_is_kept_with_the_counts(tmp_path):
    path = make_source(tmp_path, "lines.jsonl", ROWS)
    counts = write_samples(open_source(str(path)), tmp_path / "samples.parquet", tmp_path / "rejected.jsonl")
    assert counts.layout == "prompt ('prompt', 'response')"
    assert [column.share(counts.read) for column in counts.unread] == [
        "meta (every row, 3 characters in the first)",
        "notes (50.0% of the rows, 7 characters in the first)",
    ]


def test_a_name_that_is_no_unicode(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "response": "r", "\\ud800": "x"}\n')
    assert list(unread(path)[0]) == ["\\ud800"]
