"""Sources for the tests of this room: the same rows in every kind of file."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry_lib.samples.container import zstd
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Reject

ROWS = [{"id": n, "prompt": f"Who is nº {n}?\nSay.", "response": f'"Ada", {n}', "label": n % 2} for n in range(50)]
KINDS = (
    "lines.jsonl",
    "lines.ndjson",
    "lines.jsonl.gz",
    "lines.jsonl.bz2",
    "lines.jsonl.xz",
    "lines.jsonl.zst",
    "lines.jsonl.zip",
    "lines.json",
    "utf16.jsonl",
    "carriage.jsonl",
    "array.jsonl",
    "objects.json",
    "joined.json.gz",
    "keyed.json",
    "named.json",
    "array.json",
    "array.json.gz",
    "pretty.json",
    "data.json",
    "arrays.json",
    "columns.json",
    "table.csv",
    "table.csv.gz",
    "semicolon.csv",
    "tab.tsv.bz2",
    "table.parquet",
    "table.arrow",
    "table.feather",
    "parquet folder",
    "jsonl folder",
    "arrow folder",
    "dataset",
    "splits",
)


def make_source(folder: Path, kind: str, rows: list[dict] = ROWS) -> Path:
    """Writes `rows` (the same columns in each) as a source of that kind."""
    path = folder / kind
    if kind.startswith(("lines", "utf16")):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif kind.startswith("carriage"):
        text = "".join(json.dumps(row) + "\r" for row in rows)
    elif kind.startswith("objects"):
        text = "".join(json.dumps(row, indent=2) + "\n" for row in rows)
    elif kind.startswith("joined"):
        text = "".join(json.dumps(row) for row in rows)
    elif kind.startswith("keyed"):
        text = json.dumps({f"row {n}": row for n, row in enumerate(rows)})
    elif kind.startswith("named"):
        text = json.dumps({name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]})
    elif kind.startswith("arrays"):
        text = json.dumps({"train": rows[:30], "about": {"n": [1]}, "test": rows[30:], "dev": []}, indent=1)
    elif kind.startswith("array"):
        text = json.dumps(rows)
    elif kind.startswith("pretty"):
        text = json.dumps(rows, indent=2) + "\n"
    elif kind.startswith("data."):
        text = json.dumps({"version": "1.1", "data": rows, "note": "[,]"}, indent=1)
    elif kind.startswith("columns"):
        text = json.dumps({name: [row[name] for row in rows] for name in rows[0]})
    elif ".csv" in kind or ".tsv" in kind:
        plain = folder / "plain.csv"
        with plain.open("w", encoding="utf-8", newline="") as file:
            separator = {"semicolon": ";", "tab": "\t"}.get(kind.split(".")[0], ",")
            writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(rows)
        text = plain.read_bytes().decode()
    else:
        _make_tables(path, kind, rows)
        return path
    data = text.encode("utf-16" if kind.startswith("utf16") else "utf-8")
    path.write_bytes(PACK.get(path.suffix, bytes)(data))
    return path


def _zip(data: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/rows.jsonl", data)
    return held.getvalue()


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress, ".zip": _zip}


def _make_tables(path: Path, kind: str, rows: list[dict]) -> None:
    if kind == "table.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif kind in ("table.arrow", "table.feather"):
        new = pa.ipc.new_stream if kind == "table.arrow" else pa.ipc.new_file
        table = pa.Table.from_pylist(rows)
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
    elif kind == "jsonl folder":
        (path / "deep").mkdir(parents=True)
        for name, part in (("deep/a.jsonl", rows[:20]), ("deep/b.json", rows[20:])):
            (path / name).write_text("".join(json.dumps(row) + "\n" for row in part))
        (path / "z.jsonl.gz").write_bytes(gzip.compress(b""))
        (path / "README.md").write_text("about")
        (path / "dataset_info.json").write_text("{}")
    elif kind == "arrow folder":
        path.mkdir()
        for name, part in (("a-0.arrow", rows[:20]), ("a-1.arrow", rows[20:])):
            make_source(path, "table.arrow", part).rename(path / name)
    elif kind == "parquet folder":
        (path / "train").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows[:20]), path / "train" / "part-0.parquet")
        pq.write_table(pa.Table.from_pylist(rows[20:]), path / "train" / "part-1.parquet")
        (path / "README.md").write_text("about")
    else:
        import datasets

        datasets.disable_progress_bars()
        whole = datasets.Dataset.from_list(rows)
        if kind == "splits":
            parts = {"train": whole.select(range(30)), "test": whole.select(range(30, len(rows)))}
            datasets.DatasetDict(parts).save_to_disk(path)
        else:
            whole.save_to_disk(path)


def read_all(path: Path, **options):
    return list(open_source(str(path), **options).rows())


def read_bytes(folder: Path, data: bytes, name: str = "batch.jsonl", **options):
    path = folder / name
    path.write_bytes(data)
    return read_all(path, **options)


def reasons(rows) -> list[tuple[int, int | None, str]]:
    return [(row.row, row.line, row.reason) for row in rows if isinstance(row, Reject)]
