"""Opening what somebody gave: regular files alone, never waiting for one, unpacked within limits.

What a file is packed with is told by its first bytes, never by its name. A packed file that ends before its packing
does gives what can be unpacked, and a sentence into `cut`.
"""

import bz2
import io
import lzma
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from gradsentry_lib.errors import UnusableInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK = 1 << 17  # bytes read or unpacked at a time
FREE = 100 << 20  # bytes that anything may unpack to
RATIO = 1000  # and beyond them no more than so many bytes for each packed one
HOLE, HOLES = 16 << 20, 1000  # bytes of a hole that no text has; holes that are looked at
XZ_MEMORY = 256 << 20  # bytes an xz file may ask for

SUFFIX_OF = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "zstd": ".zst", "zip": ".zip"}
MAGIC = {"gzip": b"\x1f\x8b\x08", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd", "zip": b"PK\x03\x04"}


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file. A pipe, a device or a socket raises `BadInput`, at once and without being read."""
    handle = -1
    if stat.S_ISREG(path.stat().st_mode):  # opening a device may do something already
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):  # it was another one a moment ago
            os.close(handle)
            handle = -1
    if handle < 0:
        raise UnusableInput(f"{path} is no regular file but a folder, a pipe, a device or a socket; it is not read")
    return cast(io.BufferedReader, os.fdopen(handle, "rb", BLOCK))


def find_compression(head: bytes) -> str | None:
    """What a file is packed with, by its first ten bytes or more."""
    for name, magic in MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bzip2"
    return "zip" if head.startswith(b"PK\x05\x06") else None  # an empty one


class Meter:
    """Counts what one reading of a source unpacks. Raises `BadInput` where it is too much, or a bomb."""

    def __init__(self, limit: int) -> None:
        self.limit, self.packed, self.unpacked = limit, 0, 0

    def count(self, packed: int, unpacked: int) -> None:
        self.packed += packed
        self.unpacked += unpacked
        if self.unpacked > self.limit:
            raise UnusableInput(too_large("what it unpacks to", self.unpacked, self.limit))
        if self.unpacked > max(FREE, RATIO * self.packed):
            raise UnusableInput(f"it unpacks to more than {RATIO} times its size, as no data does; it is not read on")


def too_large(what: str, size: int, limit: int) -> str:
    return f"{what} is larger than {limit:,} bytes ({size:,} or more); raise it with --max-bytes if that is right"


class _Gunzip:
    """zlib with the face of the other decompressors."""

    def __init__(self) -> None:
        self.inner = zlib.decompressobj(wbits=31)
        self.left = b""

    @property
    def eof(self) -> bool:
        return self.inner.eof

    @property
    def unused_data(self) -> bytes:
        return self.inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self.left

    def decompress(self, data: bytes, size: int) -> bytes:
        made = self.inner.decompress(self.left + data, size)
        self.left = self.inner.unconsumed_tail
        return made


DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": _Gunzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY),
    "zstd": zstd.ZstdDecompressor,
}


class _Unpacked(io.RawIOBase):
    """The bytes of a packed file, of all its streams one after the other."""

    def __init__(self, file: IO[bytes], compression: str, meter: Meter, cut: list[str]) -> None:
        self.file, self.compression, self.meter, self.cut = file, compression, meter, cut
        self.decoder = DECODERS[compression]()
        self.held = b""  # packed bytes that the decoder has not seen
        self.finished = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        made = b"" if self.finished else self._next(len(buffer))
        buffer[: len(made)] = made
        return len(made)

    def _next(self, size: int) -> bytes:
        while True:
            if self.decoder.eof:
                self.held = (self.decoder.unused_data or self._read()).lstrip(b"\0")  # some pad with zeros
                if not self.held:
                    if rest := self._read():
                        self.held = rest
                        continue
                    self.finished = True
                    return b""
                self.decoder = DECODERS[self.compression]()
            data, self.held = self.held, b""
            ended = False
            if not data and self.decoder.needs_input:
                data = self._read()
                ended = not data
            try:
                made = self.decoder.decompress(data, size)
            except (OSError, ValueError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
                raise ValueError(f"its {self.compression} packing is damaged: {error}") from None
            if made:
                self.meter.count(0, len(made))
                return cast(bytes, made)
            if ended and not self.decoder.eof:
                self.cut.append(f"ends before its {self.compression} packing does")
                self.finished = True
                return b""

    def _read(self) -> bytes:
        data = self.file.read(BLOCK)
        self.meter.count(len(data), 0)
        return data

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


def open_unpacked(path: Path, compression: str | None, meter: Meter, cut: list[str]) -> IO[bytes]:
    """The text in a file, unpacked."""
    if compression == "zip":
        return cast(IO[bytes], io.BufferedReader(_Member(path, meter), BLOCK))
    file = open_regular(path)
    if compression is None:
        if hole := large_hole(file):
            file.close()
            raise UnusableInput(f"{path} has a hole of {hole:,} bytes (a sparse file), as no text has; it is not read")
        return file
    return cast(IO[bytes], io.BufferedReader(_Unpacked(file, compression, meter, cut), BLOCK))


def large_hole(file: IO[bytes]) -> int:
    """Bytes of a hole that is too large for any row, 0 where there is none: a sparse file costs whoever makes it
    nothing, and whoever reads or copies it hours. The file is an open one, at its beginning."""
    handle = file.fileno()
    size, begin, end = os.fstat(handle).st_size, 0, 0
    if size < HOLE or not hasattr(os, "SEEK_HOLE"):
        return 0
    with suppress(OSError):  # a file system that does not tell, or no data behind the last hole
        for _ in range(HOLES):
            begin = end = os.lseek(handle, end, os.SEEK_HOLE)
            if begin >= size:
                break
            end = size
            end = os.lseek(handle, begin, os.SEEK_DATA)
            if end - begin >= HOLE:
                break
    os.lseek(handle, 0, os.SEEK_SET)
    return end - begin if end - begin >= HOLE else 0


class _Member(io.RawIOBase):
    """The file of an archive, counted."""

    def __init__(self, path: Path, meter: Meter) -> None:
        with archive_of(path) as archive:  # closed again: what is kept open below is the file alone
            only_member(archive, path)
        self.packed = open_regular(path)
        self.archive = zipfile.ZipFile(self.packed)
        member = only_member(self.archive, path)
        try:
            self.file = self.archive.open(member)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            self.packed.close()
            raise ValueError(f"its zip packing cannot be read: {error}") from None
        self.meter = meter
        meter.count(member.compress_size, 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            made = self.file.read(len(buffer))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"its zip packing is damaged: {error}") from None
        self.meter.count(0, len(made))
        buffer[: len(made)] = made
        return len(made)

    def close(self) -> None:
        if not self.closed and hasattr(self, "file"):
            self.file.close()
            self.packed.close()
        super().close()


@contextmanager
def archive_of(path: Path) -> Iterator[zipfile.ZipFile]:
    """A .zip file. Raises `BadInput` where it is none that can be read."""
    file = open_regular(path)
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, OverflowError, UnicodeDecodeError):
        raise UnusableInput(
            f"{path} is cut short (truncated) or damaged: a .zip cannot be read without its end"
        ) from None
    finally:
        file.close()


def only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file of an archive. Raises `BadInput` for more or fewer, a link, a name that leads out, a password."""
    members = [member for member in archive.infolist() if not member.is_dir() and not _is_litter(member.filename)]
    if len(members) != 1:
        raise UnusableInput(f"{path} holds {len(members)} files, where one can be read; unpack it and scan the folder")
    (member,) = members
    name = member.filename
    if name.startswith(("/", "\\")) or ":" in name[:2] or ".." in name.replace("\\", "/").split("/"):
        raise UnusableInput(f"{path} holds a file whose name leads out of it, {name[:80]!a}; it is not read")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise UnusableInput(f"{path} holds a link or a device, {name[:80]!a}; it is not read")
    if member.flag_bits & 1:
        raise UnusableInput(f"{path} is locked with a password; unpack it first")
    return member


def _is_litter(name: str) -> bool:
    """What a Mac leaves in archives."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] == ".DS_Store"
