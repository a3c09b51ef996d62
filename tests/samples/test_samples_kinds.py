"""Files as people have them: any shape of JSON, any separator, any encoding, any type of table."""

import base64
import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.write import write_clean

from .sources import read_all, read_bytes, reasons

ROWS = [{"prompt": f"Où est n° {n}?", "response": f"Ça va, {n}"} for n in range(6)]
TURNS = [(row["prompt"], row["response"]) for row in ROWS]


def texts(rows):
    return [tuple(turn.text for turn in row.turns) for row in rows if isinstance(row, Sample)]


def clean(path, removed, **options):
    source = open_source(str(path), **options)
    target = path.parent / f"clean{source.suffix}"
    write_clean(source, np.array(removed, np.int64), target)
    return target


def dump(rows=ROWS, **options):
    return json.dumps(rows, ensure_ascii=False, **options)


LINES = "".join(dump(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", dump()),
        ("a.jsonl", "[\n" + LINES.replace("}\n", "},\n")[:-2] + "\n]\n"),
        ("a.txt", dump()),
        ("noname", LINES),
        ("a.csv", LINES),
        ("a.json", "".join(dump(row, indent=4) + "\n" for row in ROWS)),
        ("a.jsonl", "\n\n".join(dump(row, indent=1) for row in ROWS)),
        ("a.jsonl", "".join(map(dump, ROWS))),
        ("a.json", " ".join(map(dump, ROWS)) + "\n"),
        ("a.json", dump({"train": ROWS[:4], "test": [], "dev": ROWS[4:]})),
        ("a.json", dump({"version": "1", "data": ROWS, "meta": {"a": 1, "b": ["c"]}}, indent=2)),
        ("a.json", dump({"rows": ROWS})),
        ("a.json", dump({"tags": ["x"], "examples": ROWS})),
        ("a.json", dump({"conversations": ROWS})),
        ("a.json", dump({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]})),
        ("a.json", dump({str(n): row for n, row in enumerate(ROWS)})),
        ("a.jsonl", LINES.replace("\n", "\r")),
        ("a.jsonl", LINES.replace("\n", "\r\n")),
    ],
)
def test_json_lies_as_it_likes(tmp_path, name, text):
    rows = read_bytes(tmp_path, text.encode(), name)
    assert texts(rows) == TURNS
    assert texts(read_all(clean(tmp_path / name, [0, 5]))) == TURNS[1:5]


def test_objects_keep_their_bytes(tmp_path):
    path = tmp_path / "a.json"
    first, second, third = (dump(row, indent=2) + end for row, end in zip(ROWS, ("\n\n", "  \n", ""), strict=False))
    path.write_text("\ufeff\n" + first + second + third)
    assert [row.line for row in read_all(path)] == [2, 7, 11]
    assert clean(path, [1]).read_text() == "\ufeff\n" + first[:-1] + third  # a blank line belongs to what follows it


def test_what_stands_between_objects_is_a_row_that_cannot_be_read(tmp_path):
    rows = read_bytes(tmp_path, (dump(ROWS[0], indent=1) + "\n,\n" + dump(ROWS[1], indent=1) + "\n").encode(), "a.json")
    assert reasons(rows) == [(1, 5, "invalid JSON: Expecting value at character 1")]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_only_line_ends_end_lines(tmp_path, sign, name):
    sent = [{"prompt": f"a{sign}b", "response": f"c{sign}d"}] * 3
    held = io.StringIO()
    writer = csv.DictWriter(held, list(sent[0]))
    writer.writeheader()
    writer.writerows(sent)
    lines = "".join(json.dumps(row, ensure_ascii=sign < " ") + "\n" for row in sent)
    text = {"a.jsonl": lines, "a.csv": held.getvalue(), "a.json": json.dumps(sent, ensure_ascii=sign < " ")}[name]
    assert texts(read_bytes(tmp_path, text.encode(), name)) == [(f"a{sign}b", f"c{sign}d")] * 3


def test_what_is_no_number_in_json_is_one_here(tmp_path):
    text = b'{"prompt": "a", "response": "b", "x": [NaN, Infinity, -Infinity]}\n'
    assert texts(read_bytes(tmp_path, text)) == [("a", "b")]
    columns = b'{"prompt": ["a", "c"], "response": ["b", "d"], "x": [NaN, 1.5]}'
    assert texts(read_bytes(tmp_path, columns, "a.json")) == [("a", "b"), ("c", "d")]
    assert clean(tmp_path / "a.json", [1]).read_bytes() == b'{"prompt": ["a"], "response": ["b"], "x": [NaN]}\n'


UNICODE = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
WIDE = [{"prompt": f"数据 {n} 😀 ÿ", "response": f'"Ω", {n}\nή'} for n in range(40)]


@pytest.mark.parametrize("encoding", UNICODE)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz"])
def test_unicode_in_any_form(tmp_path, encoding, name):
    if name == "a.csv":
        held = io.StringIO(newline="")
        csv.writer(held).writerows([list(WIDE[0]), *(row.values() for row in WIDE)])
        pieces = [held.getvalue()]
    else:
        pieces = [json.dumps(row, ensure_ascii=False) for row in WIDE]
        pieces = ["[" + ",\n".join(pieces) + "]"] if name == "a.json" else [piece + "\r\n" for piece in pieces]
    data = "".join(pieces).encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    source = open_source(str(path))
    assert texts(source.rows()) == [tuple(row.values()) for row in WIDE]
    assert source.encoding == "utf-8" if encoding == "utf-8-sig" else source.encoding.startswith(encoding)
    unpack = gzip.decompress if name.endswith(".gz") else bytes
    assert unpack(clean(path, []).read_bytes()) == data
    assert texts(read_all(clean(path, range(5, 40)))) == [tuple(row.values()) for row in WIDE[:5]]


def test_half_a_surrogate_pair_in_utf_16_is_a_bad_row_that_can_be_left_out(tmp_path):
    good, bad = LINES.splitlines(keepends=True)[:2]
    path = tmp_path / "a.jsonl"
    path.write_bytes(good.encode("utf-16-le") + bad.replace("va", "\ud800").encode("utf-16-le", "surrogatepass"))
    assert reasons(read_all(path)) == [(1, 2, "invalid utf-16-le at byte 47")]
    assert clean(path, [1]).read_bytes() == good.encode("utf-16-le")
    path.write_bytes(good.encode("utf-16-le") + b"\0")
    source = open_source(str(path))
    assert texts(source.rows()) == TURNS[:1] and source.truncated == "a.jsonl ends inside a character"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_western_text_in_one_byte_a_letter(tmp_path, name):
    quoted = [{"prompt": f"Où est “{n}”…", "response": f"Ça va très bien, {n} €"} for n in range(6)]
    text = {
        "a.jsonl": "".join(dump(row) + "\n" for row in quoted),
        "a.json": dump(quoted, indent=1),
        "a.csv": "prompt,response\n" + "".join('{prompt},"{response}"\n'.format(**row) for row in quoted),
    }[name]
    path = tmp_path / name
    path.write_bytes(text.encode("cp1252"))
    source = open_source(str(path))
    assert source.encoding == "cp1252"
    assert texts(source.rows()) == [tuple(row.values()) for row in quoted]
    assert clean(path, []).read_bytes() == text.encode("cp1252")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Где находится музей? Он на площади", "cp1251"),
        ("Где находится музей? Он на площади", "koi8-r"),
        ("Kde je příliš žluťoučký kůň? Běží", "cp1250"),
        ("Gdzie są źdźbła trawy? Łąka śpi", "iso8859-2"),
        ("Şu ağaç nerede? İyi ki doğdun", "cp1254"),
        ("東京はどこですか", "shift_jis"),
        ("博物馆在哪里", "gb18030"),
        ("박물관이 어디 있습니까", "euc-kr"),
    ],
)
def test_other_encodings_are_read_when_named_and_rejected_otherwise(tmp_path, text, encoding):
    path = tmp_path / "a.jsonl"
    data = "".join(dump({"prompt": text, "response": f"{text} {n}"}) + "\n" for n in range(5)).encode(encoding)
    path.write_bytes(data)
    assert {reason.partition(" at ")[0] for _, _, reason in reasons(read_all(path))} == {"invalid UTF-8"}
    source = open_source(str(path), encoding=encoding)
    assert texts(source.rows()) == [(text, f"{text} {n}") for n in range(5)]
    assert clean(path, [], encoding=encoding).read_bytes() == data


def test_a_stray_byte_does_not_make_a_text_western(tmp_path):
    lines = [dump(row).encode() + b"\n" for row in ROWS]
    rows = read_bytes(tmp_path, b"".join(lines) + b'{"prompt": "caf\xe9", "response": "\xe9\xe8\xe0\xe9"}\n')
    assert len(texts(rows)) == 6 and reasons(rows)[0][2].startswith("invalid UTF-8 at byte 16")
    plain = [b'{"prompt": "a", "response": "b"}\n'] * 6
    assert len(texts(read_bytes(tmp_path, b"".join(plain) + b'{"prompt": "caf\xe9", "response": "c"}\n'))) == 6


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("klingon", "there is no encoding 'klingon'"),
        ("base64", "there is no encoding 'base64'"),
        ("iso2022_jp", "a text in iso2022_jp cannot be cut into rows"),
        ("utf-7", "a text in utf-7 cannot be cut into rows"),
    ],
)
def test_encodings_that_are_none(tmp_path, asked, reason):
    with pytest.raises(BadInput, match=reason):
        read_bytes(tmp_path, LINES.encode(), encoding=asked)


def test_an_option_that_does_not_fit(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match="is no text; leave the encoding out"):
        open_source(str(tmp_path / "a.parquet"), encoding="utf-8")
    with pytest.raises(BadInput, match="is no CSV; leave the separator out"):
        read_bytes(tmp_path, LINES.encode(), separator=";")
    with pytest.raises(BadInput, match="a separator is one sign"):
        read_bytes(tmp_path, b"prompt,response\na,b\n", "a.csv", separator="||")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_separator_is_found_in_the_header(tmp_path, separator, name):
    sent = [("a, b; c", 'said "so"\tand | more\nagain'), ("x;y,z", "1|2"), (" d ", "e")]
    held = io.StringIO(newline="")
    csv.writer(held, delimiter=separator).writerows(
        [("", "prompt", " response"), *((n, *row) for n, row in enumerate(sent))]
    )
    source = open_source(str(write(tmp_path / name, held.getvalue())))
    assert source.separator == separator
    assert texts(source.rows()) == sent
    assert clean(tmp_path / name, []).read_bytes() == held.getvalue().encode()
    assert texts(read_all(clean(tmp_path / name, [0, 1]))) == sent[2:]


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_a_separator_can_be_told(tmp_path):
    assert texts(read_all(write(tmp_path / "a.csv", "prompt#response\na,b#c\n"), separator="#")) == [("a,b", "c")]
    assert texts(read_all(write(tmp_path / "a.dat", "prompt\tresponse\na,b\tc\n"), separator="tab")) == [("a,b", "c")]
    assert texts(read_all(write(tmp_path / "b.csv", "sep=;\r\nprompt;response\r\na,b;c\r\n"))) == [("a,b", "c")]


def test_quotes_that_a_backslash_spares(tmp_path):
    text = 'prompt,response\n"say \\"hi\\", now","b"\n"c","d"\n'
    path = write(tmp_path / "a.csv", text)
    assert texts(read_all(path)) == [('say "hi", now', "b"), ("c", "d")]
    assert clean(path, [1]).read_text() == 'prompt,response\n"say \\"hi\\", now","b"\n'
    rows = read_all(write(tmp_path / "b.csv", 'prompt,response\n"path C:\\","b"\n"say ""\\"" x",d\n'))
    assert texts(rows) == [("path C:\\", "b"), ('say "\\" x', "d")]  # well formed as it is


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl", ".json.zst", ".bin", ".csv"])
def test_what_a_file_holds_goes_before_what_it_is_called(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    for data, suffix in (
        (LINES.encode(), ""),
        (gzip.compress(LINES.encode()), ".gz"),
    ):
        path.write_bytes(data)
        source = open_source(str(path))
        assert texts(source.rows()) == TURNS
        assert source.suffix == ending.removesuffix(".gz").removesuffix(".zst") + suffix and source.name == "a"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    source = open_source(str(path))
    assert (source.kind, source.suffix) == ("parquet", ".parquet") and texts(source.rows()) == TURNS


VIEWS = pa.table(
    {
        "prompt": pa.array([row["prompt"] for row in ROWS], pa.string_view()),
        "response": pa.array([row["response"] for row in ROWS]).dictionary_encode(),
        "raw": pa.array([b"\xff", None, b"a", b"b", b"c", b"d"], pa.binary_view()),
        "tags": pa.array([["x"], None, [], ["y"], ["z"], []], pa.large_list(pa.large_string())),
        "of": pa.array([{"k": "v", "m": [("a", 1)]}] * 6, pa.struct([("k", pa.string()), ("m", pa.map_("str", "i4"))])),
    }
).replace_schema_metadata({"owner": "us"})


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
def test_tables_of_any_type_keep_it(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(VIEWS, path)
    else:
        new = pa.ipc.new_stream if name == "a.arrow" else pa.ipc.new_file
        with new(str(path), VIEWS.schema) as writer:
            writer.write_table(VIEWS, max_chunksize=4)
    assert texts(read_all(path)) == TURNS
    target = clean(path, [0, 4])

    def load(file):
        if name == "a.parquet":
            return pq.read_table(file)
        return (pa.ipc.open_stream if name == "a.arrow" else pa.ipc.open_file)(pa.memory_map(str(file))).read_all()

    before, after = load(path), load(target)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.to_pylist() == [row for number, row in enumerate(before.to_pylist()) if number not in (0, 4)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bytes_that_are_text_are_read_as_text(tmp_path, kind):
    asked, said = ([text.encode() for text in column] for column in zip(*TURNS, strict=True))
    turns = [
        [{"role": b"user", "content": ask}, {"role": b"assistant", "content": answer}]
        for ask, answer in zip(asked, said, strict=True)
    ]
    chats = pa.table({"messages": pa.array(turns, pa.list_(pa.struct([("role", kind), ("content", kind)])))})
    with pa.ipc.new_file(str(tmp_path / "chat.arrow"), chats.schema) as writer:
        writer.write_table(chats)
    assert texts(read_all(tmp_path / "chat.arrow")) == TURNS
    columns = {"prompt": pa.array(asked, kind), "response": pa.array(said, kind)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert texts(read_all(tmp_path / "a.parquet")) == TURNS
    columns["response"] = pa.array([b"\xff", *said[1:]], kind)
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert reasons(read_all(tmp_path / "a.parquet"))[0] == (0, None, "response is bytes, not text")


def test_chats_of_views_in_parquet(tmp_path):
    turns = [[{"role": "user", "content": ask}, {"role": "assistant", "content": said}] for ask, said in TURNS]
    plain = pa.list_(pa.field("element", pa.struct([("role", pa.string()), ("content", pa.string())])))
    views = pa.list_(pa.field("element", pa.struct([("role", pa.string_view()), ("content", pa.string_view())])))
    path = tmp_path / "a.parquet"
    schema = pa.schema([("messages", views), ("n", pa.int8())], metadata={"owner": "us"})
    with pq.ParquetWriter(path, pa.schema([("messages", plain), ("n", pa.int8())]), store_schema=False) as writer:
        writer.write_table(pa.table({"messages": pa.array(turns, plain), "n": pa.array(range(6), pa.int8())}))
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(schema.serialize().to_pybytes())})
    assert pq.read_schema(path).field("messages").type == views
    assert texts(read_all(path)) == TURNS
    target = clean(path, [1, 2])
    assert pq.read_schema(target).equals(pq.read_schema(path), check_metadata=True)
    assert texts(read_all(target)) == TURNS[:1] + TURNS[3:]


def test_compressed_arrow_files_stay_compressed(tmp_path):
    table = pa.table({"prompt": ["a" * 500] * 900, "response": ["b" * 500] * 900})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(tmp_path / "a.feather"), table.schema, options=options) as writer:
        writer.write_table(table)
    target = clean(tmp_path / "a.feather", [0])
    assert len(read_all(target)) == 899 and target.stat().st_size < 50_000


def test_a_folder_says_in_which_file_a_bad_row_stands(tmp_path):
    folder = tmp_path / "set"
    (folder / "b").mkdir(parents=True)
    (folder / "a.jsonl").write_text(LINES)
    (folder / "b" / "c.jsonl.gz").write_bytes(gzip.compress(b"\n{bad\n" + LINES.encode()))
    rows = read_all(folder)
    assert reasons(rows) == [
        (6, 2, "invalid JSON: Expecting property name enclosed in double quotes at character 2 (in 'b/c.jsonl.gz')")
    ]
    target = clean(folder, [6, 7])
    assert (target / "a.jsonl").read_text() == LINES
    assert gzip.decompress((target / "b" / "c.jsonl.gz").read_bytes()) == b"\n" + LINES.encode().partition(b"\n")[2]


def test_a_folder_of_csv_files_with_headers_of_their_own(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "a.csv", "prompt,response\na,b\n")
    write(folder / "b.csv", "response;prompt\nd;c\n")
    assert texts(read_all(folder)) == [("a", "b"), ("c", "d")]


def test_a_folder_of_several_kinds_is_refused_by_name(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.jsonl").write_text(LINES)
    write(folder / "b.csv", "prompt,response\na,b\n")
    with pytest.raises(BadInput, match=r"more than one kind: 'b.csv' \(csv\), 'a.jsonl' \(json\)"):
        open_source(str(folder))
