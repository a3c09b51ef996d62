"""What a reading finds out beside the samples: how rows were laid out, and which text nobody looked at.

A trainer may read what a scan did not. So every column that holds text and was not used is counted, also keys inside
the turns of a chat. Memory is bounded: names beyond `NAMES` are counted together.
"""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.samples.chat import READ_KEYS, read_keys
from gradsentry_lib.samples.row_format import Layout, Read

NAMES = 100
LONGEST_NAME = 200  # characters
OTHERS = "(further columns)"


@dataclass(frozen=True)
class UnreadColumn:
    """A column with text in `rows` rows that no layout used; `length`: characters in the first of them. `name` is
    untrusted."""

    name: str
    rows: int
    length: int

    def share(self, read: int) -> str:
        """How it is named to people, before escaping."""
        part = "every row" if self.rows == read else f"{self.rows / max(read, 1):.1%} of the rows"
        return f"{self.name} ({part}, {self.length:,} characters in the first)"


class Observed:
    """Fills up while rows are read."""

    def __init__(self) -> None:
        self.layout = ""  # of the batch
        self.hows: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()  # types of parts that are no text
        self.with_parts = 0
        self.pairs = 0
        self.turn_keys: Set[str] = READ_KEYS  # of a chat, those that are read
        self._unread: dict[str, list[int]] = {}

    def row(self, row: Mapping[str, Any], read: Read) -> None:
        """A row that became a sample."""
        layout, sample, used, how = read
        if not self.layout:
            self.layout = str(layout)
        if how:
            self.hows[how] += 1
        if len(row) > len(used):
            for name, value in row.items():
                if name not in used and value and type(value) is not int and (length := text_length(value)):
                    self._note(name, 1, length)
        if sample.format == "chat":
            self._inside(row, layout)
            if any('"parts"' in turn.beside for turn in sample.turns if turn.beside):
                self.with_parts += 1
                self.parts.update(part["type"] for turn in sample.turns for part in turn.extras.get("parts", []))
        if layout.against is not None:
            self.pairs += 1

    def _inside(self, row: Mapping[str, Any], layout: Layout) -> None:
        """Keys of the turns that say more than the reader knows of."""
        for name in layout[1:]:
            if name is None or type(value := row.get(name)) is not list:
                continue
            seen: set[str] = set()
            for turn in value:
                if type(turn) is dict and not turn.keys() <= self.turn_keys:
                    for key in turn.keys() - self.turn_keys - seen - read_keys(turn):
                        if turn[key] and (length := text_length(turn[key])):
                            seen.add(key)
                            self._note(f"{name}[].{key}", 1, length)

    def batch(self, batch: pa.RecordBatch) -> None:
        """Columns of a table that no layout looks at; without making Python objects of them."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if (rows := _rows_with_text(column)) > 0:
                length = next((n for n in map(text_length, _first_values(column)) if n), 0)
                if length:
                    self._note(name, rows, length)

    def _note(self, name: str, rows: int, length: int) -> None:
        entry = self._unread.get(name)
        if entry is None:
            if len(name) > LONGEST_NAME or not name.isascii():
                name = name[:LONGEST_NAME].encode("utf-8", "backslashreplace").decode()
            if name not in self._unread and len(self._unread) >= NAMES:
                name = OTHERS
            entry = self._unread.setdefault(name, [0, length])
        entry[0] += rows

    @property
    def unread(self) -> tuple[UnreadColumn, ...]:
        """Those with text in most rows first."""
        found = [UnreadColumn(name, rows, length) for name, (rows, length) in self._unread.items()]
        return tuple(sorted(found, key=lambda column: -column.rows))

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of the reading, in sentences."""
        found = [f"{_rows(count)} read as: {how}" for how, count in self.hows.most_common()]
        if self.pairs:
            found.append(f"{_rows(self.pairs)} preference pairs: the chosen and the rejected answer are both scored")
        if self.with_parts:
            kinds = ", ".join(kind for kind, _ in self.parts.most_common(5))
            found.append(f"{_rows(self.with_parts)} with parts that are no text ({kinds}): kept, and not scored")
        return tuple(found)


def _rows(count: int) -> str:
    return f"{count:,} row" + ("s" if count != 1 else "")


def text_length(value: Any) -> int:
    """Characters of text in a value, nested ones too; blank text and numbers (an index in CSV) count as none."""
    if type(value) is str:
        return 0 if value.isdigit() or not value.strip() else len(value)
    if isinstance(value, dict):
        return sum(map(text_length, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(text_length, value))
    return 0


def holds_text(type: pa.DataType) -> bool:
    """Whether values of an Arrow type can hold text."""
    if pa.types.is_nested(type):
        return any(holds_text(type.field(i).type) for i in range(type.num_fields))
    if pa.types.is_dictionary(type):
        return holds_text(type.value_type)
    return pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)


def _rows_with_text(column: pa.Array) -> int:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pc.sum(pc.greater(pc.utf8_length(column), 0)).as_py() or 0
    return len(column) - column.null_count


def _first_values(column: pa.Array) -> list[Any]:
    """Some of the first values that are there."""
    try:
        return column.drop_null().slice(0, 20).to_pylist()
    except (UnicodeDecodeError, pa.ArrowException):
        return []
