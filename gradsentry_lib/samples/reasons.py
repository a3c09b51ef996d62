"""Why a row is refused, in words that are safe to show, and what to do about it."""

from collections.abc import Sequence
from typing import Any

NO_TEXT = "invalid UTF-8"


class BadRow(Exception):
    """A row cannot become a sample; the message is the reason, safe to show (the row's own words only as repr)."""


def quote(text: object, length: int = 40) -> str:
    """Untrusted text for a message: escaped, on one line, cut."""
    text = str(text)
    return ascii(text if len(text) <= length else text[:length] + "...")


def quote_all(names: Sequence[object]) -> str:
    """At most eight untrusted names for a message."""
    return ", ".join(quote(name) for name in names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"


def kind(value: Any) -> str:
    """The type of a value in the words of JSON."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


def checked(value: Any, where: str) -> str:
    """The value, if it is text that can be put into UTF-8 and tokens. Raises `BadRow`."""
    if not isinstance(value, str):
        raise BadRow(f"{where} is {kind(value)}, not text")
    if "\0" in value:
        raise BadRow(f"NUL character in {where}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadRow(f"lone surrogate in {where}") from None
    return value


def advice(kind: str, reason: str) -> str:
    """`kind`: how the rows lie; `reason`: why the first, or most, of them are refused."""
    if reason.startswith(NO_TEXT):
        return "the text is not UTF-8: say how it is written, such as --encoding gb18030 or --encoding cp1251"
    told = "say which columns are which: --column prompt=NAME --column response=NAME, or messages=NAME"
    if kind == "csv":
        return f"the first line is to name the columns; {told}; where another sign separates the cells: --separator"
    return told
