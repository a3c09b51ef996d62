"""How the rows of a JSON text lie in it, told by its beginning, whatever the file is called."""

import json
import re
from typing import Any, Literal

from gradsentry_lib.samples.row_format import COLUMNS, BadRow, Schema, read_row

Shape = Literal["lines", "array", "objects", "columns"]
"""An object a line; an array, or arrays under the keys of an object; objects one after the other; lists of one length
under the keys of an object."""

CHATS = frozenset((*COLUMNS["messages"], *COLUMNS["other_messages"])) - {"data"}
LOOK = 64  # objects looked at
DECODER = json.JSONDecoder()
BLANK = re.compile("[ \t\r\n]*")
COLUMN = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\[\s*[^{\s]')  # an object that begins with a list of no objects
OUTSIDE = re.compile(rb'["\[\]{}]')  # what matters between strings
STRING = re.compile(rb'["\\]')  # and in one


def skip_blank(text: str, at: int) -> int:
    found = BLANK.match(text, at)
    return found.end() if found else at


def find_shape(head: str, whole: bool, schema: Schema, named_lines: bool) -> Shape:
    """`head`: the first characters of the text, all of them if `whole`. `named_lines`: its name says JSON Lines."""
    start = skip_blank(head, 0)
    if start == len(head):
        return "lines"
    if head[start : start + 1] == "[":
        return _array_or_lines(head, start)
    objects = _first_objects(head, start)
    if not objects:
        return _one_object(head, start, None, named_lines)
    (first, end), *_ = objects
    follows = skip_blank(head, end)
    if follows == len(head) and whole:
        if _is_row(first, schema):
            return "objects" if "\n" in head[start:end] else "lines"
        return _one_object(head, start, first, named_lines)
    at = start
    for _, end in objects:
        if "\n" in head[skip_blank(head, at) : end]:
            return "objects"
        at = end
    joined = head[follows : follows + 1] == "{" and not {"\n", "\r"} & set(head[objects[0][1] : follows])
    return "objects" if joined else "lines"


def _array_or_lines(head: str, start: int) -> Shape:
    """A list on the first line, with more after it, is a bad row of JSON Lines."""
    inside = skip_blank(head, start + 1)
    if inside < len(head) and head[inside] not in "{]":
        try:
            _, end = DECODER.raw_decode(head, start)
        except (ValueError, RecursionError):
            return "lines" if "\n" in head[start:inside] or "\n{" in head else "array"
        return "lines" if skip_blank(head, end) < len(head) else "array"
    try:
        _, end = DECODER.raw_decode(head, start)
    except (ValueError, RecursionError):
        return "array"
    return "lines" if re.match(r"[ \t\r]*\n[ \t\r\n]*[\[{]", head[end:]) else "array"


def _first_objects(head: str, at: int) -> list[tuple[dict[str, Any], int]]:
    """The objects that the text begins with, each with the place where it ends."""
    found: list[tuple[dict[str, Any], int]] = []
    while len(found) < LOOK and head[at : at + 1] == "{":
        try:
            value, at = DECODER.raw_decode(head, at)
        except (ValueError, RecursionError):
            break
        found.append((value, at))
        at = skip_blank(head, at)
    return found


def _one_object(head: str, start: int, value: dict[str, Any] | None, named_lines: bool) -> Shape:
    """What a single object is; `value` None where the head does not hold it whole, or it is broken."""
    if value and all(isinstance(column, list) for column in value.values()):
        lengths = {len(column) for column in value.values()}
        if len(lengths) == 1 and any(column and not isinstance(column[0], dict) for column in value.values()):
            return "columns"
    lists = [held for held in (value or {}).values() if isinstance(held, list)]
    if find_rows(head, start) is not None or (lists and not any(lists)):
        return "array"
    if value is not None:
        return "lines" if named_lines else "columns"
    if "\n{" in head[start:]:  # the first of many lines is broken
        return "lines"
    return "columns" if COLUMN.match(head, start) or not named_lines else "lines"


def find_rows(head: str, at: int, first: str = "{") -> int | None:
    """Where the next array of rows under a key of the object opens ("[" at that place); None where there is none.

    `at`: where the object opens, or behind one of its values. An array of rows is one whose first element is an object
    (or begins with another sign, `first`), or the one called "data"; the turns of a chat, a row's own, are none.
    """
    try:
        while head[at] in "{,":
            key, at = DECODER.raw_decode(head, skip_blank(head, at + 1))
            at = skip_blank(head, skip_blank(head, at) + 1)
            if head[at] == "[":
                inside = skip_blank(head, at + 1)
                is_rows = key == "data" or head[inside : inside + 1] == first
                if is_rows and not (key in CHATS and _is_turn(head, inside)):
                    return at
            at = skip_blank(head, DECODER.raw_decode(head, at)[1])
    except (ValueError, IndexError, RecursionError):
        return None
    return None


def _is_turn(head: str, at: int) -> bool:
    """Whether what stands there is a turn of a chat, and no row; where that cannot be seen it is."""
    try:
        value, _ = DECODER.raw_decode(head, at)
    except (ValueError, RecursionError):
        return True
    return isinstance(value, dict) and bool({"role", "from"} & set(value))


def _is_row(value: dict[str, Any], schema: Schema) -> bool:
    try:
        return bool(read_row(value, schema))
    except BadRow:
        return False


def is_unclosed(data: bytes) -> bool:
    """Whether an object, a list or a string that begins a text is still open at its end."""
    if data.lstrip()[:1] not in (b"{", b"[", b'"'):
        return False
    depth, in_string, at = 0, False, 0
    while found := (STRING if in_string else OUTSIDE).search(data, at):
        at = found.end()
        sign = found.group()
        if in_string:
            at += sign == b"\\"
            in_string = sign == b"\\"
        elif sign == b'"':
            in_string = True
        else:
            depth += 1 if sign in b"{[" else -1
    return depth > 0 or in_string
