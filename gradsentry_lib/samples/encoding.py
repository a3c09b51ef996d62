"""Texts that are not UTF-8: found out, read as UTF-8, and written back byte for byte.

UTF-16 and UTF-32 show themselves by a mark or by where their zeros stand. One byte a letter cannot be told from
another such code for certain: CP1252 (Latin-1 is part of it) is taken only where every byte beyond ASCII is a letter or
a quotation mark of Western Europe that its neighbours do not write otherwise, and nothing reads as UTF-8.
"""

import codecs
import io
import re
from collections.abc import Iterator
from typing import IO, Any, cast

from gradsentry_lib.errors import UnusableInput, UnusableOption

UTF8 = "utf-8"
MARKS = (  # a longer one first: the mark of UTF-16 begins that of UTF-32
    ("utf-32-le", codecs.BOM_UTF32_LE),
    ("utf-32-be", codecs.BOM_UTF32_BE),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
)
EITHER_END = {"utf-16": ("utf-16-le", "utf-16-be"), "utf-32": ("utf-32-le", "utf-32-be")}
LOOK = 4096  # bytes looked at for zeros
FEWEST = 4  # bytes beyond ASCII that CP1252 is told by

MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
BEYOND = re.compile(rb"[\x80-\xff]+")
WESTERN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÍÎÏÑÓÔÖØÙÚÛÜßàáâãäåæçèéêëíîïñóôöøùûúüœŒ¡¿«»°€£§…–—‘’“”•·©®™½".encode("cp1252"))


def find_encoding(head: bytes) -> str | None:
    """The encoding that the first bytes of a text show for certain; None where they show none."""
    for name, mark in MARKS:
        if head.startswith(mark):
            return name
    head = head[: LOOK - LOOK % 4]
    zeros = [head[at::4].count(0) for at in range(4)]
    quarter = max(1, len(head) // 4)
    if zeros[3] == quarter and zeros[2] > 0.9 * quarter and zeros[0] < 0.1 * quarter:
        return "utf-32-le"
    if zeros[0] == quarter and zeros[1] > 0.9 * quarter and zeros[3] < 0.1 * quarter:
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if odd > 0.2 * quarter and odd > 10 * even:
        return "utf-16-le"
    if even > 0.2 * quarter and even > 10 * odd:
        return "utf-16-be"
    return None


def is_western(blocks: Iterator[bytes]) -> bool:
    """Whether a text that is no UTF-8 is unmistakably CP1252. Stops at the first byte that says no."""
    found = lines = 0
    for block in blocks:
        if MULTIBYTE.search(block) or not WESTERN.issuperset(b"".join(runs := BEYOND.findall(block))):
            return False
        if any(len(run) > 3 for run in runs):  # words of another script
            return False
        found += sum(map(len, runs))
        lines += len([line for line in block.splitlines() if not line.isascii()])
    return found >= FEWEST and lines > 1


def resolve_encoding(asked: str, head: bytes) -> str:
    """The codec for an encoding as the user names it. Raises `BadInput` for one that cannot be read and undone."""
    try:
        name = codecs.lookup(asked).name
        "".encode(name)  # a LookupError for codecs that are not of text
    except (LookupError, TypeError, ValueError):
        raise UnusableOption(
            f"there is no encoding {asked!a}; write for example utf-8, utf-16, cp1252 or gb18030"
        ) from None
    if name in EITHER_END:
        little, big = EITHER_END[name]
        return big if find_encoding(head) == big else little
    if name == "utf-8-sig":
        return UTF8
    if name == "iso8859-1":
        return "latin-1"
    if name.startswith(("iso2022", "hz", "utf-7", "idna", "punycode", "unicode_escape", "raw_unicode")):
        raise UnusableInput(f"a text in {name} cannot be cut into rows; save it as UTF-8")
    return name


def errors_of(encoding: str) -> str:
    """How what is no text passes through: as half a surrogate pair, which no row may hold."""
    return "surrogatepass" if encoding.startswith("utf-") else "surrogateescape"


def encode(data: bytes, encoding: str) -> bytes:
    """UTF-8 from `as_utf8`, back in the encoding that it came in."""
    return data if encoding == UTF8 else data.decode(UTF8, "surrogatepass").encode(encoding, errors_of(encoding))


class _Recoded(io.RawIOBase):
    """A file's text as UTF-8. What could not be written back as it is raises ValueError."""

    def __init__(self, file: IO[bytes], encoding: str, cut: list[str]) -> None:
        self.file, self.encoding, self.cut = file, encoding, cut
        self.decoder = codecs.getincrementaldecoder(encoding)(errors_of(encoding))
        self.ready = b""
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready and not self.ended:
            self.ready = self._next()
        made, self.ready = self.ready[: len(buffer)], self.ready[len(buffer) :]
        buffer[: len(made)] = made
        return len(made)

    def _next(self) -> bytes:
        before = self.decoder.getstate()[0]
        data = self.file.read(1 << 17)
        self.ended = not data
        if self.ended:
            if before:
                self.cut.append("ends inside a character")
            return b""
        try:
            text = self.decoder.decode(data)
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not {self.encoding}: {error.reason}") from None
        left = len(self.decoder.getstate()[0])
        taken = before + data
        if text.encode(self.encoding, errors_of(self.encoding)) != taken[: len(taken) - left]:
            raise ValueError(f"it holds {self.encoding} that cannot be written back as it is; save it as UTF-8")
        return text.encode(UTF8, "surrogatepass")

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


def as_utf8(file: IO[bytes], encoding: str, cut: list[str]) -> IO[bytes]:
    """A text file's bytes in UTF-8."""
    return file if encoding == UTF8 else cast(IO[bytes], io.BufferedReader(_Recoded(file, encoding, cut), 1 << 17))
