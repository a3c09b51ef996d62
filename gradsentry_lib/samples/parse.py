"""The bytes of one row as an object of columns, strictly: what two parsers may read differently is refused."""

import csv
import io
import json
from typing import Any

from gradsentry_lib.samples.reasons import NO_TEXT, BadRow, kind, quote

DEPTH_LIMIT = 64  # of brackets; a chat needs three
TOO_DEEP = f"nested deeper than {DEPTH_LIMIT} levels"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadRow(f"duplicate key {quote(twice)}")
    return row


DECODER = json.JSONDecoder(object_pairs_hook=_object)


def decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadRow(f"{NO_TEXT} at byte {error.start + 1}") from None


def parse_json(data: bytes) -> dict[str, Any]:
    """One JSON object. Raises `BadRow` for anything else, a key given twice, deep nesting.

    NaN and infinities are numbers, as they are to the libraries that write and read them.
    """
    text = decode_text(data.strip(b" \t\r\n"))
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        message = error.msg.removesuffix(" at").rstrip(":")
        raise BadRow(f"invalid JSON: {message} at character {error.pos + 1}{_hint(text, error.pos)}") from None
    except ValueError:
        raise BadRow("invalid JSON: a number with too many digits") from None
    except RecursionError:
        raise BadRow(TOO_DEEP) from None
    if not isinstance(value, dict):
        raise BadRow(f"the row is {kind(value)}, not an object{_meant(value)}")
    if text.count("[") + text.count("{") > DEPTH_LIMIT and _is_deep(value):
        raise BadRow(TOO_DEEP)
    return value


def _hint(text: str, at: int) -> str:
    """What was probably meant by a text that is no JSON."""
    if not text:
        return "; nothing stands between two commas, or behind the last one"
    if text.startswith("{'"):
        return "; it is in Python's own notation: write it with json.dumps"
    if text[at:].strip() == ",":
        return "; leave out the comma behind the row"
    return ""


def _meant(value: Any) -> str:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return "; it was put into JSON twice"
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return '; a chat is to be an object, {"messages": [...]}'
    return "; a row is to have named columns (pandas: orient='records')" if isinstance(value, list) else ""


def _is_deep(value: Any) -> bool:
    level = [value]  # the lists and objects at one depth
    for _ in range(DEPTH_LIMIT):
        inner = (item for value in level for item in (value.values() if isinstance(value, dict) else value))
        level = [item for item in inner if isinstance(item, list | dict)]
    return bool(level)


def parse_csv(data: bytes, header: list[str], separator: str = ",", escape: str | None = None) -> dict[str, str]:
    """One CSV row. Raises `BadRow` where it has more or fewer cells than the header."""
    cells = csv_cells(data, separator, escape)
    if len(cells) != len(header):
        raise BadRow(f"ragged row: {len(cells)} cells under {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def csv_cells(data: bytes, separator: str = ",", escape: str | None = None) -> list[str]:
    """The cells of one row, which `pieces.cut_csv` has found to be well formed."""
    text = io.StringIO(decode_text(data), newline="")
    return next(csv.reader(text, strict=True, delimiter=separator, escapechar=escape))
