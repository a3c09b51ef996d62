"""What one file is: kind, packing, encoding and how its rows lie in it, by what it holds first and by its name then."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gradsentry_lib.errors import UnusableInput
from gradsentry_lib.samples import arrow, ipc
from gradsentry_lib.samples.container import (
    BLOCK,
    SUFFIX_OF,
    Meter,
    archive_of,
    find_compression,
    only_member,
    open_regular,
    open_unpacked,
)
from gradsentry_lib.samples.csv_dialect import find_escape, find_separator, resolve_separator
from gradsentry_lib.samples.encoding import UTF8, find_encoding, is_western, resolve_encoding
from gradsentry_lib.samples.json_array import FRAME_LIMIT
from gradsentry_lib.samples.json_shape import DECODER, find_shape, skip_blank
from gradsentry_lib.samples.part import Part
from gradsentry_lib.samples.row_format import Schema
from gradsentry_lib.samples.shards import TABLES, TEXTS, known_suffix

NEVER = (".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".joblib", ".dill")  # may run code when they are opened
CARELESS = (b"\x93NUMPY", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
PACKED = re.compile(r"\.(?:gz|bz2|xz|zst|zip)$", re.IGNORECASE)
END = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,8}$")  # of a name that tells nothing
POINTER = b"version https://git-lfs.github.com/"
PAGE = re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE)
SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
ARCHIVES = {b"7z\xbc\xaf": "7z", b"Rar!": "RAR"}


@dataclass(frozen=True)
class Asked:
    """How the user wants a source to be read; None where it is to be found out."""

    schema: Schema
    encoding: str | None = None
    separator: str | None = None
    max_bytes: int = 0


def split_name(name: str) -> tuple[str, str]:
    """A file's name without its end, and that end if it tells the kind of data, else ""."""
    suffix = known_suffix(name)
    return (name[: -len(suffix)], suffix) if suffix else (END.sub("", PACKED.sub("", name)), "")


def find_part(path: Path, name: str, asked: Asked) -> tuple[Part, str]:
    """What a file is, and how a clean copy of it is to be named. Raises `BadInput` for what is not read."""
    with open_regular(path) as file:
        head = file.read(BLOCK)
    suffix = split_name(name)[1]
    _refuse(path, name, head)
    if head.startswith(arrow.PARQUET_MAGIC):
        if not arrow.has_footer(path):
            raise UnusableInput(
                f"{path} is cut short (truncated): a Parquet file cannot be read without its footer; fetch it again"
            )
        arrow.check_parquet_size(path, asked.max_bytes)
        return Part(path, name, "parquet"), ".parquet"
    if head.startswith(ipc.FILE_MAGIC) or suffix in (".arrow", ".feather") or head.startswith(ipc.STREAM_MAGIC):
        return Part(path, name, "arrow"), suffix or ".arrow"
    if suffix == ".parquet":
        raise UnusableInput(f"cannot read {path}: it is no Parquet file, whatever it is called")
    return _inspect_text(path, name, find_compression(head), asked)


def _refuse(path: Path, name: str, head: bytes) -> None:
    if head.startswith(CARELESS) or name.lower().endswith(NEVER):
        raise UnusableInput(
            f"{path} is of a kind that can run code when it is opened, and is never loaded; save JSON Lines"
        )
    if head.startswith(POINTER):
        raise UnusableInput(f"{path} is no data but a pointer of Git LFS to it; fetch the file itself: git lfs pull")
    if PAGE.match(head.removeprefix(codecs.BOM_UTF8)):
        raise UnusableInput(f"{path} is a web page and no data; download the file itself")
    if name.lower().endswith(SHEETS):
        raise UnusableInput(f"{path} is a spreadsheet; save it as CSV")
    if head.startswith(b"\x5d\0\0") and name.lower().endswith(".lzma"):
        raise UnusableInput(f"{path} is packed in the old .lzma way; pack it as .xz or .zst")
    if head.startswith(b"FEA1"):
        raise UnusableInput(f"{path} is a Feather file of version 1; save it again in version 2, or as Parquet")
    archive = next((kind for magic, kind in ARCHIVES.items() if head.startswith(magic)), None)
    if archive or head[257:262] == b"ustar":
        raise UnusableInput(f"{path} is a {archive or 'tar'} archive; unpack it and scan the folder")


def _inspect_text(path: Path, name: str, compression: str | None, asked: Asked) -> tuple[Part, str]:
    with open_unpacked(path, compression, Meter(asked.max_bytes), []) as file:
        head = file.read(FRAME_LIMIT)
    if compression:
        _refuse_inside(path, head)
    encoding = _encoding(path, compression, head, asked)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
    whole = len(head) < FRAME_LIMIT
    carriage = "\r" in text[:-1] and "\n" not in text
    if carriage:
        text = text.replace("\r", "\n")
    ending = _kind_by_name(path, name, compression)
    kind = ending or (".csv" if asked.separator else "")
    if kind not in (".csv", ".tsv") or _is_json(text):
        if not kind and text[skip_blank(text, 0) :][:1] not in ("{", "["):
            known = ", ".join(f".{ending}" for ending in (*TEXTS, *TABLES))
            raise UnusableInput(
                f"{path} is of no known kind; its name is to end in {known}, or that of a text and .gz, ..."
            )
        shape = find_shape(text, whole, asked.schema, named_lines=kind in (".jsonl", ".ndjson"))
        part = Part(path, name, "jsonl" if shape == "lines" else "json", shape, compression, encoding)
        default = ".jsonl" if shape == "lines" else ".json"
    else:
        separator = asked.separator and resolve_separator(asked.separator)
        separator = separator or find_separator(text, asked.schema.columns, "\t" if kind == ".tsv" else ",")
        escape = find_escape(text, separator, whole)
        part = Part(path, name, "csv", "lines", compression, encoding, separator, escape)
        default = ".csv"
    if carriage and part.shape == "lines":
        part = replace(part, carriage=True)
    return part, (_own_suffix(name) or default) + (SUFFIX_OF[compression] if compression else "")


def _refuse_inside(path: Path, head: bytes) -> None:
    if find_compression(head) or head[257:262] == b"ustar" or head.startswith(tuple(ARCHIVES)):
        raise UnusableInput(f"{path} holds another packed file or archive; unpack it first")
    if head.startswith((arrow.PARQUET_MAGIC, ipc.FILE_MAGIC, *CARELESS)):
        raise UnusableInput(f"{path} holds no text once unpacked; unpack it first")


def _encoding(path: Path, compression: str | None, head: bytes, asked: Asked) -> str:
    if asked.encoding:
        return resolve_encoding(asked.encoding, head)
    if found := find_encoding(head):
        return found
    try:
        codecs.getincrementaldecoder(UTF8)().decode(head)
        return UTF8
    except UnicodeDecodeError:
        return "cp1252" if is_western(_blocks(path, compression, asked)) else UTF8


def _blocks(path: Path, compression: str | None, asked: Asked) -> Iterator[bytes]:
    with open_unpacked(path, compression, Meter(asked.max_bytes), []) as file:
        while block := file.read(FRAME_LIMIT):
            yield block


def _kind_by_name(path: Path, name: str, compression: str | None) -> str:
    """The end of its name that says what the text is: of an archive's file, where that says it."""
    names = [name]
    if compression == "zip":
        with archive_of(path) as archive:
            names.insert(0, only_member(archive, path).filename)
    for told in names:
        if suffix := split_name(told)[1]:
            return re.sub(r"(?<=.)\..*", "", suffix)
    return ""


def _own_suffix(name: str) -> str:
    """The end of a file's name without that of its packing."""
    if suffix := split_name(name)[1]:
        return re.sub(r"(?<=.)\..*", "", suffix)
    found = END.search(PACKED.sub("", name))
    return found[0].lower() if found else ""


def _is_json(text: str) -> bool:
    """Whether a text begins with a whole JSON object or with an array of one: no header of CSV does."""
    at = skip_blank(text, 0)
    if text[at : at + 1] == "[":
        at = skip_blank(text, at + 1)
    try:
        return text[at : at + 1] == "{" and bool(DECODER.raw_decode(text, at)[0])
    except (ValueError, RecursionError):
        return False
