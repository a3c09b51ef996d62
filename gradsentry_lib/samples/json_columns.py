"""A JSON object of columns, or of rows by their names, as data frames are saved. Held whole: it has no rows to cut."""

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from gradsentry_lib.samples.columns import COLUMNS, ROLE_NAMES
from gradsentry_lib.samples.json_shape import is_unclosed
from gradsentry_lib.samples.parse import parse_json
from gradsentry_lib.samples.pieces import BOM
from gradsentry_lib.samples.reasons import BadRow

Table = dict[str, Any]
KNOWN = frozenset(name for role in ROLE_NAMES for name in COLUMNS[role])


def load_columns(file: IO[bytes]) -> Table:
    """{column: [value, ...]}, {column: {row name: value}} or {row name: {column: value}}.

    Raises ValueError if the text is anything else.
    """
    data = file.read()
    try:
        columns = parse_json(data.removeprefix(BOM))
    except BadRow as error:
        if is_unclosed(data.removeprefix(BOM)):
            raise ValueError("it is cut short (truncated), and a JSON object cannot be read without its end") from None
        raise ValueError(f"{error}; a file of one JSON object a line is to be named .jsonl") from None
    values = list(columns.values())
    lists = all(isinstance(column, list) for column in values)
    if lists and len({len(column) for column in values}) <= 1:
        return columns
    objects = bool(values) and all(isinstance(column, dict) for column in values)
    if objects and (_by_row(columns) or len({tuple(column) for column in values}) == 1):
        return columns
    raise ValueError(
        'a JSON file is to be an array of rows, an object with the rows under "data", '
        "or an object of columns that are lists of one length"
    )


def _by_row(columns: Table) -> bool:
    """Whether the objects are the rows: they hold the known names, the outer one does not."""
    inner = next(iter(columns.values()), None)
    return isinstance(inner, dict) and bool(KNOWN & set(inner)) and not KNOWN & set(columns)


def column_rows(columns: Table) -> Iterator[dict[str, Any]]:
    if _by_row(columns):
        yield from columns.values()
        return
    held = [column.values() if isinstance(column, dict) else column for column in columns.values()]
    for values in zip(*held, strict=True):
        yield dict(zip(columns, values, strict=True))


def without(columns: Table, kept: Sequence[int]) -> bytes:
    """The table of some rows (ascending numbers) alone, as one line of JSON."""
    rest: Table
    if _by_row(columns):
        names = list(columns)
        rest = {names[row]: columns[names[row]] for row in kept}
    else:
        rest = {name: _some(column, kept) for name, column in columns.items()}
    return json.dumps(rest, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _some(column: Any, kept: Sequence[int]) -> Any:
    if isinstance(column, dict):
        items = list(column.items())
        return dict(items[row] for row in kept)
    return [column[row] for row in kept]
