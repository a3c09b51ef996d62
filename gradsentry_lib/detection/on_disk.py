"""Sequences of texts that lie on disk where they are many: eight bytes of memory an item, whatever it says.

The file is temporary and has no name: it goes when the sequence does, also where the process is killed.
"""

from array import array
from collections.abc import Callable, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any

IN_MEMORY = 4 << 20  # bytes: shorter ones never touch the disk


class OnDisk(Sequence[Any]):
    """Grows by `append`; read item by item. `write`, `read`: from an item to its bytes and back."""

    def __init__(self, write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> None:
        self._write, self._read = write, read
        self._file, self._ends = SpooledTemporaryFile(IN_MEMORY), array("q", [0])  # noqa: SIM115 - lives as long as this

    def append(self, item: Any) -> None:
        """Only before the first is read."""
        self._ends.append(self._ends[-1] + self._file.write(self._write(item)))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, at: Any) -> Any:
        at = range(len(self))[at]  # an IndexError beyond the last, where iteration ends
        self._file.seek(self._ends[at])
        return self._read(self._file.read(self._ends[at + 1] - self._ends[at]))


def texts() -> OnDisk:
    """Of strings, lone surrogates included."""
    return OnDisk(
        lambda text: text.encode("utf-8", "surrogatepass"), lambda data: data.decode("utf-8", "surrogatepass")
    )


def pieces() -> OnDisk:
    """Of bytes."""
    return OnDisk(bytes, bytes)
