"""What separates the cells of a CSV text."""

import csv
import io

from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.samples.columns import Columns, fold
from gradsentry_lib.samples.pieces import OPEN_QUOTE

SEPARATORS = (",", "\t", ";", "|")
NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


def find_separator(head: str, columns: Columns, usual: str) -> str:
    """By the header alone: the separator that gives most of the known column names, else the most columns.

    A line `sep=;` before the header says it. `usual` is the one of files named so, and the answer where nothing shows.
    """
    lines = [line for line in io.StringIO(head.removeprefix("\ufeff"), newline=None) if line.strip()][:1000]
    if lines and len(lines[0].rstrip("\n")) == 5 and lines[0].startswith("sep="):
        return lines[0][4]
    known = {fold(name) for names in columns.values() for name in names}

    def header(separator: str) -> list[str]:
        try:
            return [fold(name) for name in next(csv.reader(iter(lines), delimiter=separator), [])]
        except csv.Error:
            return []

    headers = {separator: header(separator) for separator in (usual, *SEPARATORS)}
    return max(
        headers,
        key=lambda sign: (
            (len(known.intersection(headers[sign])) if len(headers[sign]) > 1 else 0, sign == usual)
            if any(known.intersection(names) for names in headers.values() if len(names) > 1)
            else (len(headers[sign]), sign == usual)
        ),
    )


def find_escape(head: str, separator: str, whole: bool) -> str | None:
    """A backslash, where the text is well formed if one before a quotation mark spares it, and is not otherwise."""
    lines = io.StringIO(head, newline="").readlines()[:1000]
    whole = whole and len(lines) < 1000

    def well_formed(escape: str | None) -> bool:
        widths = []
        try:
            widths = [len(row) for row in csv.reader(iter(lines), strict=True, delimiter=separator, escapechar=escape)]
        except csv.Error as error:
            return not whole and OPEN_QUOTE.endswith(str(error))
        return len({width for width in (widths if whole else widths[:-1]) if width}) == 1

    return "\\" if '\\"' in head and not well_formed(None) and well_formed("\\") else None


def resolve_separator(asked: str) -> str:
    """One character, or its name. Raises `BadInput`."""
    separator = NAMES.get(asked.lower(), asked)
    if len(separator) != 1 or separator in '"\r\n\0' or separator.isalnum():
        raise UnusableOption(f"a separator is one sign, such as ; or tab, not {asked!a}")
    return separator
