"""Every kind of source gives the same samples; what is no source is one clear line."""

import gzip
import hashlib
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Sample, Turn

from .sources import KINDS, ROWS, make_source, read_all, read_bytes, reasons

EXPECTED = [
    Sample(n, None, "prompt", (Turn("prompt", row["prompt"]), Turn("response", row["response"])))
    for n, row in enumerate(ROWS)
]
PARTS = {
    **dict.fromkeys(["lines", "utf16", "carriage", "jsonl folder"], "jsonl"),
    **dict.fromkeys(["array", "arrays", "pretty", "objects", "joined", "data", "columns", "keyed", "named"], "json"),
    **dict.fromkeys(["semicolon", "tab"], "csv"),
    **dict.fromkeys(["dataset", "splits"], "dataset"),
    "parquet folder": "parquet",
    "arrow folder": "arrow",
    "table": "",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_samples(tmp_path, kind):
    path = make_source(tmp_path, kind)
    source = open_source(str(path))
    rows = list(source.rows())
    assert [(row.row, row.format, row.turns) for row in rows] == [(row.row, row.format, row.turns) for row in EXPECTED]
    assert source.kind == (PARTS[kind.split(".")[0]] or kind.split(".")[1].replace("feather", "arrow"))
    assert source.suffix == ("." + kind.split(".", 1)[1] if "." in kind else "")
    assert source.name == kind.split(".")[0].replace(" ", "-")
    assert source.path == path


def test_lines_are_those_of_the_file(tmp_path):
    row = json.dumps(ROWS[0])
    assert [r.line for r in read_bytes(tmp_path, f"\n{row}\n  \n{row}\n".encode())] == [2, 4]
    assert [r.line for r in read_bytes(tmp_path, f"[\n\n{row}\n,{row},\n{row}]".encode(), "a.json")] == [3, 4, 5]
    table = b'prompt,response\r\na,"b\r\nc"\r\n\r\nd,e\r\n'
    assert [(r.row, r.line) for r in read_bytes(tmp_path, table, "a.csv")] == [(0, 2), (1, 5)]


def test_the_hash_follows_the_bytes_of_files_and_folders(tmp_path):
    for kind in ("lines.jsonl", "parquet folder", "dataset"):
        path = make_source(tmp_path, kind)
        before = open_source(str(path)).sha256
        assert open_source(str(path)).sha256 == before
        changed = next(
            file for file in sorted([path, *path.rglob("*")]) if file.suffix in (".jsonl", ".parquet", ".arrow")
        )
        changed.write_bytes(changed.read_bytes() + b"\n")
        assert open_source(str(path)).sha256 != before


def test_sample_id_is_of_the_content_alone(tmp_path):
    def sample_id(**row):
        return read_bytes(tmp_path, json.dumps(row).encode())[0].sample_id

    plain = sample_id(prompt="Who?", response="Ada")
    canonical = b'["prompt",[["prompt","Who?"],["response","Ada"]]]'
    assert plain == hashlib.sha256(canonical).hexdigest()  # written in ledgers and caches: it must never change
    assert sample_id(response="Ada", label=1, prompt="Who?") == plain == sample_id(question="Who?", answer=["Ada"])
    assert sample_id(prompt="Who?", response="Ada ") != plain
    assert sample_id(prompt="Who?Ada", response="A") != sample_id(prompt="Who?", response="AdaA")
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada"}]
    assert len({plain, sample_id(instruction="Who?", output="Ada"), sample_id(messages=turns)}) == 3
    share = [{"value": "Who?", "from": "human"}, {"from": "gpt", "value": "Ada"}]
    assert sample_id(conversations=share) == sample_id(messages=turns)


def test_a_split_can_be_picked(tmp_path):
    path = make_source(tmp_path, "splits")
    assert [row.turns for row in read_all(path, split="test")] == [row.turns for row in EXPECTED[30:]]
    with pytest.raises(BadInput, match=r"has no split 'dev'; it has: train, test$"):
        read_all(path, split="dev")
    with pytest.raises(BadInput, match=r"has no splits; leave the split out$"):
        open_source(str(make_source(tmp_path, "lines.jsonl")), split="train")


@pytest.mark.parametrize("kind", KINDS)
def test_columns_can_be_named(tmp_path, kind):
    path = make_source(tmp_path, kind, [{"q": "Who?", "a": "Ada", "prompt": "x", "response": "y"}] * 40)
    rows = read_all(path, columns={"prompt": "q", "response": "a"})
    assert {row.turns for row in rows} == {(Turn("prompt", "Who?"), Turn("response", "Ada"))}
    with pytest.raises(BadInput) as caught:
        open_source(str(path), columns={"prompt": "question", "response": "a"})
    assert (
        str(caught.value)
        == "there is no column 'question' for the prompt; the columns are: 'q', 'a', 'prompt', 'response'"
    )


def test_chats_in_parquet(tmp_path):
    turns = [{"role": "user", "content": "Hi", "tool_calls": None}, {"role": "assistant", "content": "Hello"}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}, {"messages": turns[:1]}]), tmp_path / "chat.parquet")
    good, bad = read_all(tmp_path / "chat.parquet")
    assert good.turns == (Turn("user", "Hi"), Turn("assistant", "Hello"))
    assert bad.reason == "no assistant turn"


def test_one_row_in_a_json_file_is_a_row(tmp_path):
    for text in ('{"prompt": "Who?", "response": "Ada"}', '{"prompt": "Who?", "answers": ["Ada", "Eve"]}'):
        (row,) = read_bytes(tmp_path, text.encode(), "one.json")
        assert isinstance(row, Sample)


def error(path, **options) -> str:
    with pytest.raises(BadInput) as caught:
        list(open_source(str(path), **options).rows())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_places_that_hold_no_data(tmp_path):
    missing = tmp_path / "missing.jsonl"
    assert error(missing) == f"there is no file or folder {missing}; check the path (a hub data set is owner/name)"
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert error(empty) == f"{empty} is empty; there is nothing to scan"
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "notes.txt").touch()
    assert error(folder) == (
        f"{folder} holds no data: neither files that end in .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, "
        ".feather nor a data set saved by `datasets`"
    )
    odd = tmp_path / "batch.docx"
    odd.write_text("x")
    assert error(odd).startswith(f"{odd} is of no known kind; its name is to end in .jsonl, ")
    assert error("/dev/null") == "/dev/null is neither a file nor a folder"


# No time of writing in it: the bytes are part of the test's name, which every worker is to agree on.
FLIPPED_GZIP = gzip.compress(b'{"prompt": "a"}\n' * 99, mtime=0)[:-8] + b"\0" * 8


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.parquet", b"PAR1 no", "{path} is cut short (truncated): a Parquet file cannot be read without its footer"),
        ("a.parquet", b"no", "cannot read {path}: it is no Parquet file"),
        ("a.jsonl.gz", FLIPPED_GZIP, "cannot read {path}: its gzip packing is damaged: "),
        ("a.jsonl.gz", b"\x1f\x8b\x08 no gzip", "cannot read {path}: its gzip packing is damaged: "),
        ("a.arrow", b"ARROW1 no", "cannot read {path}: "),
        ("a.json", b"[{}] [{}]", "cannot read {path}: what stands around the array of rows is not valid JSON"),
        ("a.json", b"[{}]" + b" " * (3 << 20) + b"[{}]", "cannot read {path}: what stands around the array"),
        ("a.json", b'{"data": [{}], "data": [{}]}', "cannot read {path}: what stands around the array"),
        (
            "a.json",
            b'{"data": [{}], "more": {"rows": [[1]]}}',
            "cannot read {path}: 'more' stands beside the rows and is not scored; put the rows in a file of one array",
        ),
        ("a.json", b'{"a": 1}', "cannot read {path}: a JSON file is to be an array of rows, an object with the rows"),
        ("a.json", b'{"a": [1], "b": []}', "cannot read {path}: a JSON file is to be an array of rows"),
        ("a.json", b"{prompt}", "cannot read {path}: invalid JSON: Expecting property name enclosed in double quotes"),
        ("a.csv", b"a,a\n1,2\n", "{path} names a column twice; give its columns different names"),
        ("a.csv", b"a,\xff\n1,2\n", "the header of {path} cannot be read: invalid UTF-8 at byte 3"),
        ("a.csv", b'a,"b', "the header of {path} cannot be read: bad CSV: unexpected end of data"),
    ],
)
def test_files_that_cannot_be_read_at_all(tmp_path, name, data, expected):
    path = tmp_path / name
    path.write_bytes(data)
    assert error(path).startswith(expected.format(path=path))


def test_a_broken_data_set_folder(tmp_path):
    path = make_source(tmp_path, "dataset")
    (path / "dataset_info.json").write_text("{")
    assert error(path).startswith(f"cannot load the data set {path}: ")


def test_parquet_with_a_column_twice(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["prompt", "prompt"])
    pq.write_table(table, tmp_path / "twice.parquet")
    assert error(tmp_path / "twice.parquet") == f"cannot read {tmp_path}/twice.parquet: two columns share a name"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = make_source(tmp_path, "lines.jsonl")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    assert error(path) == f"cannot read {path}: Permission denied"


def test_the_hub_out_of_reach_is_one_line(monkeypatch):
    from huggingface_hub import HfApi

    def offline(*_, **__):
        raise ConnectionError("Name or service not known\nmore")

    monkeypatch.setattr(HfApi, "dataset_info", offline)
    assert error("owner/name") == (
        "owner/name is no file or folder here, and cannot be had from the Hugging Face hub: "
        "Name or service not known more"
    )


def test_a_hub_data_set_is_pinned_to_its_commit(tmp_path, monkeypatch):
    import datasets
    from huggingface_hub import HfApi

    calls = []

    def load(name, config, *, split, revision):
        calls.append((name, config, split, revision))
        if config != "main":
            raise ValueError("Config name is missing.\nPick one of: main")
        whole = datasets.load_from_disk(make_source(tmp_path, "splits"))
        return whole if split is None else whole[split]

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: type("Info", (), {"sha": "c0ffee"}))
    monkeypatch.setattr(datasets, "load_dataset", load)
    source = open_source("owner/name:main")
    assert (source.kind, source.name, source.path, source.suffix) == ("hub", "owner-name", None, "")
    assert [row.turns for row in source.rows()] == [row.turns for row in EXPECTED]
    assert len(read_all("owner/name:main", split="test")) == 20
    assert calls == [("owner/name", "main", None, "c0ffee"), ("owner/name", "main", "test", "c0ffee")]
    assert open_source("owner/name:main").sha256 == source.sha256 != open_source("owner/name").sha256
    assert error("owner/name") == (
        "cannot load owner/name from the Hugging Face hub: Config name is missing. Pick one of: main"
    )


def test_opening_a_text_source_imports_nothing_heavy(tmp_path):
    path = make_source(tmp_path, "lines.jsonl")
    code = (
        "import sys; from gradsentry_lib.samples.read import open_source; "
        f"list(open_source({str(path)!r}).rows()); print({{'datasets', 'torch', 'pandas'}} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_batches_in_parquet_with_text_that_is_not_unicode(tmp_path):
    texts = pa.array([b"good", b"\xff\xfe", b"fine"]).view(pa.string())
    pq.write_table(pa.table({"prompt": ["a", "b", "c"], "response": texts}), tmp_path / "bad.parquet")
    rows = read_all(tmp_path / "bad.parquet")
    assert reasons(rows) == [(1, None, "invalid UTF-8")]
    assert len(rows) == 3


def test_a_table_without_known_columns_loses_no_rows(tmp_path):
    import datasets

    pq.write_table(pa.table({"body": ["a", "b"], "n": [1, None]}), tmp_path / "odd.parquet")
    datasets.Dataset.from_parquet(str(tmp_path / "odd.parquet"), cache_dir=tmp_path).save_to_disk(tmp_path / "odd")
    for place in ("odd.parquet", "odd"):
        assert reasons(read_all(tmp_path / place)) == [
            (0, None, "no known format; the columns with a value are: 'body', 'n'"),
            (1, None, "no known format; the columns with a value are: 'body'"),
        ]
