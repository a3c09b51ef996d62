"""Finds out what a source of samples is, by its name and its first bytes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples import arrow
from gradsentry_lib.samples.json_array import find_array
from gradsentry_lib.samples.parse import parse_json
from gradsentry_lib.samples.pieces import BOM, ROW_LIMIT, open_text
from gradsentry_lib.samples.row_format import BadRow, make_schema, quote, quote_all, read_row
from gradsentry_lib.samples.source import Kind, Source, digest, reading

SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?::([\w.-]+))?")  # owner/name, or owner/name:config
PEEK = 1000  # rows looked at for the columns of a JSON source


def open_source(
    source: str,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    marker: str | None = None,
    turns: Mapping[str, Any] | None = None,
    separator: str | None = None,
    identify: bool = True,
) -> Source:
    """Opens a file (`.jsonl`, `.json`, `.csv`, plain or `.gz`; `.parquet`), a folder of Parquet files, a data set saved
    by `datasets`, or a hub data set (`owner/name`, or `owner/name:config`).

    `columns` maps roles to column names where they are not found by themselves: {"prompt": "q", "response": "a"}.
    `split` picks one split of a data set; without it all are read, one after the other. `roles` maps the speakers of
    chats to roles ({"narrator": "assistant"}), `marker` is what stands before the answer in a text, `turns` what a
    trainer's configuration says of turns (columns.py). Without `identify` a file is not hashed: to look, not to scan.
    Raises `BadInput`.
    """
    if separator not in (None, ","):
        raise BadInput("only commas are read as separators of CSV")
    schema = make_schema(columns, roles, marker, turns)
    path = Path(source).expanduser()
    with reading(source):
        if path.is_dir():
            found = _open_folder(path, identify)
        elif path.is_file():
            found = _open_file(path, identify)
        elif path.exists():
            raise BadInput(f"{source} is neither a file nor a folder")
        elif (hub := HUB_NAME.fullmatch(source)) and not _known_suffix(path):
            found = _open_hub(hub[1], hub[2], split)
        else:
            raise BadInput(f"there is no file or folder {source}; check the path (a hub data set is owner/name)")
    if split is not None and found.kind not in ("dataset", "hub"):
        raise BadInput(f"{source} has no splits; leave the split out")
    found = replace(found, schema=schema, split=split)
    if columns:
        _check_columns(found, columns)
    return found


def open_as_told(source: str, options: Mapping[str, Any], identify: bool = True) -> Source:
    """Opens a source with the reading options of a scan, by the names under which they are kept."""
    return open_source(
        source,
        options.get("columns"),
        options.get("split"),
        roles=options.get("roles"),
        marker=options.get("marker"),
        turns=options.get("turns"),
        separator=options.get("separator"),
        identify=identify,
    )


def _open_file(path: Path, identify: bool) -> Source:
    suffix = _known_suffix(path)
    if not suffix:
        raise BadInput(f"{path} is of no known kind; its name is to end in {', '.join(SUFFIXES)}, or that and .gz")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty; there is nothing to scan")
    kind = SUFFIXES[suffix.removesuffix(".gz")]
    if kind != "parquet":
        with open_text(path) as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise BadInput(f"{path} is written in UTF-16; save it as UTF-8")
    if kind == "json" and _is_lines(path):
        kind = "jsonl"
    return Source(kind, _safe(path.name[: -len(suffix)]), path, suffix, digest(path, kind) if identify else "")


def _known_suffix(path: Path) -> str:
    """The end of the name that tells the kind of file, in small letters; "" if it tells none."""
    found = re.search(r"\.(?:(?:jsonl|ndjson|json|csv)(?:\.gz)?|parquet)$", path.name, re.IGNORECASE)
    return found[0].lower() if found else ""


def _is_lines(path: Path) -> bool:
    """Whether a `.json` file holds JSON Lines: its first line is an object, and more follows or it reads as a row."""
    with open_text(path) as file:
        if find_array(file) is not None:
            return False
        file.seek(0)
        lines = (line for line in iter(lambda: file.readline(ROW_LIMIT), b"") if line.strip(BOM + b" \t\r\n"))
        try:
            first = parse_json(next(lines, b"").removeprefix(BOM))
            if next(lines, None) is not None:
                return True
            return bool(read_row(first))
        except BadRow:
            return False


def _open_folder(path: Path, identify: bool) -> Source:
    name = _safe(path.absolute().name)
    if arrow.is_saved_dataset(path):
        return Source("dataset", name, path, "", digest(path, "dataset") if identify else "")
    if not arrow.parquet_files(path):
        raise BadInput(f"{path} holds no data: neither Parquet files nor a data set saved by `datasets`")
    return Source("parquet", name, path, "", digest(path, "parquet") if identify else "")


def _open_hub(name: str, config: str | None, split: str | None) -> Source:
    commit = arrow.hub_revision(name)
    identity = sha256_json(["hub", name, config, split, commit])
    return Source("hub", _safe(name), None, "", identity, split=split, hub=(name, config, commit))


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or "batch"


def _check_columns(source: Source, mapping: Mapping[str, str]) -> None:
    """Raises `BadInput` if a column that the user named is not there, saying which are."""
    if source.kind in ("parquet", "dataset", "hub"):
        existing = dict.fromkeys(source.column_names())
    elif source.kind == "csv":
        existing = dict.fromkeys(source.header())
    else:
        rows = (record.value for record in islice(source.records(), PEEK))
        existing = dict.fromkeys(name for row in rows if not isinstance(row, BadRow) for name in row)
    for role, column in mapping.items():
        if column and column not in existing:
            raise BadInput(
                f"there is no column {quote(column)} for the {role}; the columns are: {quote_all(list(existing))}"
            )
