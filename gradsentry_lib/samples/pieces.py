"""Text sources cut into pieces: every byte of the file, in order, as the bytes of a row or as the frame around rows.

What a row says is not looked at here, so a piece can be copied as it is. A row is never held beyond `ROW_LIMIT`: the
rest of a longer one is skipped while it is read. The file is a buffered one, open for reading in binary mode. Where it
turns out to be cut short, a sentence without its subject goes into `cut`, and what is left of a row is a faulty piece.
"""

import csv
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from gradsentry_lib.samples.json_shape import is_unclosed

ROW_LIMIT = 16 << 20  # bytes of one row
HEAD = 1024  # bytes kept of a row that is too long
BLOCK = 1 << 18  # bytes read at a time where there are no lines
BOM = b"\xef\xbb\xbf"
TOO_LONG = f"row longer than {ROW_LIMIT >> 20} MiB"
CUT_SHORT = "cut short: the file ends inside this row"
OPEN_QUOTE = "bad CSV: unexpected end of data"
ENDS = (b"\n", b"\r")  # of lines; a lone CR only where all lines end so
SEPARATOR_LINE = re.compile(rb"sep=.\r?\n?")  # by which spreadsheets tell theirs


class Piece(NamedTuple):
    """`line`: 1-based line on which it begins. `fault`: why the row is already known to be bad ("" if it is not)."""

    line: int
    data: bytes
    is_row: bool = True
    fault: str = ""


def cut_lines(file: Any, cut: list[str] | None = None) -> Iterator[Piece]:
    """JSON Lines: a row a line, blank lines and a byte order mark are frame."""
    cut = [] if cut is None else cut
    line = 1
    while data := file.readline(ROW_LIMIT):
        if line == 1 and data.startswith(BOM):
            yield Piece(line, BOM, is_row=False)
            data = data[len(BOM) :]
        if data.endswith(ENDS):
            yield Piece(line, data, is_row=bool(data.strip()))
        elif len(data) >= ROW_LIMIT:
            _skip_line(file)
            yield Piece(line, data[:HEAD], fault=TOO_LONG)
        elif data.endswith(b"\0"):  # what a crash leaves of a file whose end was not written yet
            cut.append(f"ends in zero bytes (line {line})")
            yield Piece(line, data[:HEAD], fault=CUT_SHORT)
        elif is_unclosed(data):
            cut.append(f"ends inside its last row (line {line})")
            yield Piece(line, data, fault=CUT_SHORT)
        else:
            yield Piece(line, data, is_row=bool(data.strip()))
        line += 1


def _skip_line(file: Any) -> None:
    while (rest := file.readline(BLOCK)) and not rest.endswith(ENDS):
        pass


class CarriageReturns:
    """A file whose lines end with a carriage return alone, with the face that the cutters need."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.held, self.at = file, b"", 0

    def _fill(self) -> bool:
        block = self.file.read(BLOCK)
        self.held, self.at = self.held[self.at :] + block, 0
        return bool(block)

    def peek(self, size: int) -> bytes:
        while len(self.held) - self.at < size and self._fill():
            pass
        return self.held[self.at : self.at + size]

    def read(self, size: int) -> bytes:
        data = self.peek(size)
        self.at += len(data)
        return data

    def readline(self, limit: int) -> bytes:
        look = self.at
        while (end := self.held.find(b"\r", look)) < 0 and len(self.held) - self.at < limit:
            seen = len(self.held) - self.at
            if not self._fill():
                break
            look = seen
        stop = min(len(self.held) if end < 0 else end + 1, self.at + limit)
        data, self.at = self.held[self.at : stop], stop
        return data

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> "CarriageReturns":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _TooLong(Exception):
    pass


class _Lines:
    """The lines of a file as `csv.reader` wants them; `take` gives the bytes of those it took for a row."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.taken = bytearray()
        self.line = 0  # lines read so far

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        data = self.file.readline(ROW_LIMIT)
        if not data:
            raise StopIteration
        self.line += 1
        self.taken += data
        if len(self.taken) >= ROW_LIMIT:
            if not data.endswith(ENDS):
                _skip_line(self.file)
            raise _TooLong
        return data.decode("utf-8", "surrogateescape")  # bytes that are not UTF-8 are the parser's business

    def take(self) -> bytes:
        taken = bytes(self.taken)
        self.taken.clear()
        return taken


def cut_csv(
    file: Any, cut: list[str] | None = None, separator: str = ",", escape: str | None = None
) -> Iterator[Piece]:
    """CSV with a header line, which is frame as blank lines are. A row spans lines where a quoted field does."""
    cut = [] if cut is None else cut
    if file.peek(len(BOM)).startswith(BOM):
        yield Piece(1, file.read(len(BOM)), is_row=False)
    csv.field_size_limit(ROW_LIMIT)
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True, delimiter=separator, escapechar=escape)
    width = 0  # of the header, once it was seen
    while True:
        first = lines.line + 1
        fault = ""
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            break
        except _TooLong:
            fault = TOO_LONG
        except csv.Error as error:
            fault = f"bad CSV: {error}"
        data = lines.take()
        blank = not data.strip()
        if fault == OPEN_QUOTE:
            cut.append(f"ends inside a quoted field (of the row that begins on line {first})")
        elif not (fault or blank or data.endswith(ENDS)) and (cut or len(cells) < width):
            cut.append(f"ends inside its last row (line {first})")
            fault = CUT_SHORT
        if fault:
            if lines.line > first:
                fault += f" (lines {first} to {lines.line})"
            data = data[:HEAD]
        yield Piece(first, data, bool(width) and not blank, fault)
        if not width and not blank and not SEPARATOR_LINE.fullmatch(data):
            width = max(1, len(cells))
