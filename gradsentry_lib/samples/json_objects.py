"""JSON objects one after the other, pretty-printed or without a line end between them, cut into pieces.

A row is an object and the blanks behind it to the end of its line. What stands between objects and is none spoils the
row that follows.
"""

import re
from collections.abc import Iterator
from typing import IO

from gradsentry_lib.samples.json_array import INSIDE, Element
from gradsentry_lib.samples.json_shape import OUTSIDE
from gradsentry_lib.samples.pieces import BLOCK, BOM, CUT_SHORT, Piece

REST = re.compile(rb"[ \t\r]*\n?")  # of a line


def cut_objects(file: IO[bytes], cut: list[str] | None = None) -> Iterator[Piece]:
    """A text that ends inside an object gives what is there and a sentence into `cut`."""
    cut = [] if cut is None else cut
    element = Element(1)
    depth = at = 0
    in_string = closed = False  # closed: the object is whole, its line goes on
    first = True
    while block := file.read(BLOCK):
        begin = 0
        if first:
            first = False
            start = len(block) - len(block.removeprefix(BOM).lstrip())
            if start:
                yield Piece(1, block[:start], is_row=False)
                element = Element(1 + block.count(b"\n", 0, start))
                begin = at = start
        while True:
            if closed:
                rest = REST.match(block, begin)
                end = rest.end() if rest else begin
                element.add(block[begin:end])
                begin = at = end
                if end == len(block) and not block.endswith(b"\n"):
                    break
                yield element.take()
                closed = False
            found = (INSIDE if in_string else OUTSIDE).search(block, at)
            if not found:
                break
            at = found.end()
            sign = found.group()
            if in_string:
                at += sign == b"\\"  # the escaped byte, which may be the next block's first
                in_string = sign == b"\\"
            elif sign == b'"':
                in_string = True
            elif sign in b"{[":
                depth += 1
            else:
                depth = max(0, depth - 1)
                if depth == 0:
                    element.add(block[begin:at])
                    begin, closed = at, True
        element.add(block[begin:])
        at = max(0, at - len(block))
    last = element.take()
    if depth or in_string:
        cut.append(f"ends inside a row (line {last.line})")
        yield last._replace(fault=last.fault or CUT_SHORT)
    elif last.data:
        yield last._replace(is_row=bool(last.data.strip()))
