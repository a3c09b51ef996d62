"""Finds out what a source of samples is, by its name and what it holds."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableInput, UnusableOption
from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples import arrow
from gradsentry_lib.samples.container import too_large
from gradsentry_lib.samples.detect import Asked, find_part, split_name
from gradsentry_lib.samples.part import Kind, Part
from gradsentry_lib.samples.row_format import BadRow, make_schema, quote, quote_all
from gradsentry_lib.samples.shards import files_below, missing_shards, shard_files
from gradsentry_lib.samples.source import TABLES, Source, digest, reading

SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
ENDINGS = (*SUFFIXES, *(f"{suffix}{end}" for suffix, kind in SUFFIXES.items() if kind not in TABLES for end in PACKED))
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
    encoding: str | None = None,
    separator: str | None = None,
    max_bytes: int | None = None,
    identify: bool = True,
) -> Source:
    """Opens a file of JSON or CSV, plain or packed (`.gz`, `.bz2`, `.xz`, `.zst`, a `.zip` of one file); a Parquet,
    Arrow or Feather file; a folder of such files; a data set saved by `datasets`; or a hub data set (`owner/name`, or
    `owner/name:config`).

    `columns` maps roles to column names where they are not found by themselves: {"prompt": "q", "response": "a"}.
    `split` picks one split of a data set; without it all are read, one after the other. `roles` maps the speakers of
    chats to roles ({"narrator": "assistant"}), `marker` is what stands before the answer in a text, `turns` what a
    trainer's configuration says of turns (columns.py). `encoding` and `separator` (of CSV) are found by themselves
    where they show. `max_bytes`: the most text that is unpacked, `settings.max_bytes()` if left out. Without `identify`
    a file is not hashed: to look, not to scan. Raises `BadInput`.
    """
    limit = settings.max_bytes() if max_bytes is None else max_bytes
    schema = make_schema(columns, roles, marker, turns)
    asked = Asked(schema, encoding, separator, limit)
    path = Path(source).expanduser()
    with reading(source):
        if path.is_dir():
            found = _open_folder(path, asked, identify)
        elif path.is_file():
            found = _open_file(path, asked, identify)
        elif path.exists():
            raise UnusableInput(f"{source} is neither a file nor a folder")
        elif (hub := HUB_NAME.fullmatch(source)) and not split_name(source)[1]:
            found = _open_hub(hub[1], hub[2], split)
        else:
            raise UnusableInput(f"there is no file or folder {source}; check the path (a hub data set is owner/name)")
    if split is not None and found.kind not in ("dataset", "hub"):
        raise UnusableOption(f"{source} has no splits; leave the split out")
    if encoding and found.kind in TABLES:
        raise UnusableOption(f"{source} is no text; leave the encoding out")
    if separator and found.kind != "csv":
        raise UnusableOption(f"{source} is no CSV; leave the separator out")
    found = replace(found, schema=schema, split=split, max_bytes=limit)
    if columns:
        _check_columns(found, columns)
    return found


READING = ("columns", "split", "roles", "marker", "turns", "encoding", "separator", "max_bytes")


def open_as_told(source: str, options: Mapping[str, Any], identify: bool = True) -> Source:
    """`open_source` with the reading options of a scan, by the names under which they are kept."""
    return open_source(source, **{name: options[name] for name in READING if options.get(name)}, identify=identify)


def _open_file(path: Path, asked: Asked, identify: bool) -> Source:
    size = path.stat().st_size
    if size == 0:
        raise UnusableInput(f"{path} is empty; there is nothing to scan")
    if size > asked.max_bytes:
        raise UnusableInput(too_large(str(path), size, asked.max_bytes))
    part, suffix = find_part(path, path.name, asked)
    return Source(
        part.kind, _safe(split_name(path.name)[0]), path, suffix, _identity(path, part.kind, identify), parts=(part,)
    )


def _open_folder(path: Path, asked: Asked, identify: bool) -> Source:
    name = _safe(path.absolute().name)
    below = files_below(path)
    size = sum(file.stat().st_size for file in below)
    if size > asked.max_bytes:
        raise UnusableInput(too_large(str(path), size, asked.max_bytes))
    if arrow.is_saved_dataset(path):
        lacks = arrow.saved_cuts(arrow.saved_files(path), path)
        return Source("dataset", name, path, "", _identity(path, "dataset", identify), lacks=tuple(lacks))
    shards = shard_files(path)
    if not shards:
        raise UnusableInput(
            f"{path} holds no data: neither files that end in {', '.join(SUFFIXES)} nor a data set saved by `datasets`"
        )
    names = [file.relative_to(path).as_posix() for file in shards]
    lacks = missing_shards(names)
    parts: list[Part] = []
    for file, told in zip(shards, names, strict=True):
        if split_name(told)[1] == ".parquet" and not arrow.has_footer(file):
            lacks.append(f"{told} ends without its footer, so that nothing of it can be read")
        else:
            with reading(file):
                parts.append(find_part(file, told, asked)[0])
    if not parts:
        raise UnusableInput(f"{path} is cut short (truncated): {'; '.join(lacks)}")
    families = {"json" if part.kind == "jsonl" else part.kind: part for part in reversed(parts)}
    if len(families) > 1:
        told = ", ".join(f"{quote(part.name, 80)} ({kind})" for kind, part in sorted(families.items()))
        raise UnusableInput(
            f"{path} holds files of more than one kind: {told}; put those to be scanned into one of their own"
        )
    kind = parts[0].kind
    return Source(kind, name, path, "", _identity(path, kind, identify), parts=tuple(parts), lacks=tuple(lacks))


def _identity(path: Path, kind: Kind, identify: bool) -> str:
    return digest(path, kind) if identify else ""


def _open_hub(name: str, config: str | None, split: str | None) -> Source:
    commit = arrow.hub_revision(name)
    identity = sha256_json(["hub", name, config, split, commit])
    return Source("hub", _safe(name), None, "", identity, split=split, hub=(name, config, commit))


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or "batch"


def _check_columns(source: Source, mapping: Mapping[str, str]) -> None:
    """Raises `BadInput` if a column that the user named is not there, saying which are."""
    if source.kind in TABLES or source.kind == "csv":
        existing = dict.fromkeys(source.column_names())
    else:
        rows = (record.value for record in islice(source.records(), PEEK))
        existing = dict.fromkeys(name for row in rows if not isinstance(row, BadRow) for name in row)
    for role, column in mapping.items():
        if column and column not in existing and column.partition(".")[0] not in existing:
            raise UnusableInput(
                f"there is no column {quote(column)} for the {role}; the columns are: {quote_all(list(existing))}"
            )
