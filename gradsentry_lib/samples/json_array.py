"""Arrays of rows in a JSON text, the top-level one or those under keys, cut into pieces without being held.

The scanner only follows strings and brackets, so a row whose inside is broken spoils itself alone. What stands around
the arrays is copied into the clean file unscored: it must be valid JSON, small, and without further rows.
"""

import re
from collections.abc import Iterator
from typing import IO, Any

from gradsentry_lib.samples.json_shape import find_rows, is_unclosed, skip_blank
from gradsentry_lib.samples.parse import DECODER
from gradsentry_lib.samples.pieces import BLOCK, BOM, CUT_SHORT, HEAD, ROW_LIMIT, TOO_LONG, Piece
from gradsentry_lib.samples.row_format import BadRow, quote

FRAME_LIMIT = 1 << 20  # bytes around the arrays
OUTSIDE = re.compile(rb'["\[\]{},]')  # what matters between strings
INSIDE = re.compile(rb'["\\]')  # what matters in a string


class _Text:
    """A file of which bytes can be put back."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.back = b""

    def read(self, size: int) -> bytes:
        if self.back:
            data, self.back = self.back[:size], self.back[size:]
            return data
        return self.file.read(size)

    def read_frame(self) -> bytes:
        """What comes next, as much of it as a frame may have and a byte more."""
        data = bytearray()
        while len(data) <= FRAME_LIMIT and (block := self.read(FRAME_LIMIT)):
            data += block
        return bytes(data)


def find_array(head: bytes) -> int | None:
    """Offset of the first "[" of rows: of the top-level array, or of one under a key. None if there is none."""
    text = head.decode("latin-1")  # a character a byte, so that positions are offsets
    at = skip_blank(text, len(BOM) if head.startswith(BOM) else 0)
    if text[at : at + 1] == "[":
        return at
    found = find_rows(text, at)
    return find_rows(text, at, first="]") if found is None else found


def cut_array(file: IO[bytes], cut: list[str] | None = None) -> Iterator[Piece]:
    """The rows of the arrays; the commas between them belong to no piece. Raises ValueError for a broken frame.

    A text that ends inside an array gives what is there and a sentence into `cut`; its last piece closes what is open.
    """
    cut = [] if cut is None else cut
    text = _Text(file)
    head = text.read_frame()
    start = find_array(head)
    if start is None:
        raise ValueError("there is no array of rows")
    frame = bytearray()
    line = 1
    while start is not None:
        opening, text.back = head[: start + 1], head[start + 1 :]
        frame += opening
        yield Piece(line, opening, is_row=False)
        element = Element(line + opening.count(b"\n"))
        yield from _elements(text, element, cut)
        line = element.line
        if not text.back:  # without the bracket that would be next
            closing = b"]}" if frame.strip(BOM + b" \t\r\n").startswith(b"{") else b"]"
            yield Piece(line, closing, is_row=False)
            return
        head = text.read_frame()
        start = _next_array(head)
    if is_unclosed(bytes(frame + head)):
        line_end = line + head.count(b"\n")
        cut.append(f"ends inside what follows its rows (line {line_end})")
        head = b"]}"
    _check_frame(bytes(frame + head))
    yield Piece(line, head, is_row=False)


def _next_array(head: bytes) -> int | None:
    """After the "]" that `head` begins with."""
    text = head.decode("latin-1")
    return find_rows(text, skip_blank(text, 1))


def _elements(text: _Text, element: "Element", cut: list[str]) -> Iterator[Piece]:
    """The elements up to the bracket that closes the array, which stays unread."""
    rows = depth = at = 0
    in_string = False
    while block := text.read(BLOCK):
        begin = 0
        while found := (INSIDE if in_string else OUTSIDE).search(block, at):
            at = found.end()
            sign = found.group()
            if in_string:
                if sign == b"\\":
                    at += 1  # the escaped byte, which may be the next block's first
                else:
                    in_string = False
            elif sign == b'"':
                in_string = True
            elif sign in b"{[":
                depth += 1
            elif sign == b"," and depth == 0:
                element.add(block[begin : at - 1])
                yield element.take()
                rows += 1
                begin = at
            elif sign != b",":
                depth -= 1
                if depth < 0:
                    element.add(block[begin : at - 1])
                    last = element.take()
                    yield last._replace(is_row=rows > 0 or bool(last.data.strip()))
                    text.back = block[at - 1 :] + text.back
                    return
        element.add(block[begin:])
        at = max(0, at - len(block))
    cut.append(f"has no bracket that closes its rows (it ends on line {element.line})")
    last = element.take()
    if last.data.strip():
        yield last._replace(fault=last.fault or (CUT_SHORT if depth or in_string else ""))
    elif last.data:
        yield last._replace(is_row=False)


class Element:
    """The bytes of the array's current element, which are let go once they are too many."""

    def __init__(self, line: int) -> None:
        self.line = line  # of the bytes to come
        self._reset()

    def _reset(self) -> None:
        self.first_line: int | None = None
        self.data = bytearray()
        self.too_long = False

    def add(self, data: bytes) -> None:
        if self.first_line is None and (text := data.lstrip()):
            self.first_line = self.line + data.count(b"\n", 0, len(data) - len(text))
        self.line += data.count(b"\n")
        self.data += data
        if self.too_long or len(self.data) > ROW_LIMIT:
            self.too_long = True
            del self.data[HEAD:]

    def take(self) -> Piece:
        line = self.line if self.first_line is None else self.first_line
        piece = Piece(line, bytes(self.data), fault=TOO_LONG if self.too_long else "")
        self._reset()
        return piece


def _check_frame(frame: bytes) -> None:
    """Raises ValueError unless it is an array or an object, valid without its rows and with no other rows in it."""
    try:
        if len(frame) > FRAME_LIMIT:
            raise ValueError("it is too long")
        value = DECODER.decode(frame.decode("utf-8-sig"))
    except (ValueError, BadRow, RecursionError) as error:
        raise ValueError(f"what stands around the array of rows is not valid JSON: {error}") from None
    for key, beside in value.items() if isinstance(value, dict) else ():
        if _holds_rows(beside):
            raise ValueError(
                f"{quote(key)} stands beside the rows and is not scored; put the rows in a file of one array"
            )


def _holds_rows(value: Any) -> bool:
    """Whether there is a list of objects anywhere in it."""
    if isinstance(value, dict):
        return any(map(_holds_rows, value.values()))
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
