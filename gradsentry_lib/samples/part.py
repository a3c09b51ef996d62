"""One file of a source: how it is packed and written, and where its rows lie in it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, cast

from gradsentry_lib.errors import UnusableInput
from gradsentry_lib.samples.container import Meter, open_unpacked
from gradsentry_lib.samples.encoding import UTF8, as_utf8
from gradsentry_lib.samples.json_array import cut_array
from gradsentry_lib.samples.json_objects import cut_objects
from gradsentry_lib.samples.json_shape import Shape
from gradsentry_lib.samples.parse import csv_cells, parse_csv, parse_json
from gradsentry_lib.samples.pieces import BOM, SEPARATOR_LINE, CarriageReturns, Piece, cut_csv, cut_lines
from gradsentry_lib.samples.reasons import NO_TEXT, BadRow

Kind = Literal["jsonl", "json", "csv", "parquet", "arrow", "dataset", "hub"]


@dataclass(frozen=True)
class Part:
    """`name`: its path within the folder, or the file's name. `shape`: how the rows of JSON lie. `separator`: of CSV,
    `escape`: the sign that spares the next one there. `carriage`: its lines end with a carriage return alone."""

    path: Path
    name: str
    kind: Kind
    shape: Shape = "lines"
    compression: str | None = None
    encoding: str = UTF8
    separator: str = ","
    escape: str | None = None
    carriage: bool = False

    def open(self, meter: Meter, cut: list[str]) -> IO[bytes]:
        """Its text as UTF-8."""
        text = as_utf8(open_unpacked(self.path, self.compression, meter, cut), self.encoding, cut)
        return cast(IO[bytes], CarriageReturns(text)) if self.carriage else text

    def pieces(self, meter: Meter, cut: list[str]) -> Iterator[Piece]:
        """Its bytes, as UTF-8, row by row with the frame around them. Where it is cut short, `cut` says how."""
        cutter: Callable[[Any, list[str]], Iterator[Piece]]
        if self.kind == "csv":
            cutter = partial(cut_csv, separator=self.separator, escape=self.escape)
        else:
            cutter = {"lines": cut_lines, "array": cut_array, "objects": cut_objects}[self.shape]
        with self.open(meter, cut) as file:
            yield from cutter(file, cut)

    def parser(self, limit: int) -> Callable[[bytes], Mapping[str, Any]]:
        """What makes a row's bytes an object of columns."""
        parse: Callable[[bytes], Mapping[str, Any]] = parse_json
        if self.kind == "csv":
            header = self.header(limit)
            parse = lambda data: parse_csv(data, header, self.separator, self.escape)  # noqa: E731
        if self.encoding == UTF8:
            return parse

        def parse_recoded(data: bytes) -> Mapping[str, Any]:
            try:
                return parse(data)
            except BadRow as reason:
                raise BadRow(str(reason).replace(NO_TEXT, f"invalid {self.encoding}")) from None

        return parse_recoded

    def header(self, limit: int) -> list[str]:
        """The column names of a CSV file. Raises `BadInput` where they are unusable."""
        pieces = (piece for piece in self.pieces(Meter(limit), []) if piece.data.strip(BOM + b" \t\r\n"))
        header = next((piece for piece in pieces if not SEPARATOR_LINE.fullmatch(piece.data)), None)
        if header is None:
            return []
        try:
            if header.fault:
                raise BadRow(header.fault)
            names = [name.strip() for name in csv_cells(header.data, self.separator, self.escape)]
        except BadRow as reason:
            raise UnusableInput(f"the header of {self.path} cannot be read: {reason}") from None
        if len(set(names)) < len(names):
            raise UnusableInput(f"{self.path} names a column twice; give its columns different names")
        return names
