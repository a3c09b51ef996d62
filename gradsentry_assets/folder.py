"""A folder of this machine's own file system in which strangers may leave things: looked at and read by descriptor.

Everything is opened relative to the descriptor of its folder, without following links and without waiting, and what
was opened is asked what it is: so what was checked is what is read, whoever exchanges names meanwhile. A link could
lead to any file of the machine, a FIFO or a device could hold up the reader for ever; they are refused by name. The
folder itself is the operator's choice and may be a link. (A hard link cannot be told from its file; Linux does not
let anybody make one to a file that they may not write, see fs.protected_hardlinks.)
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DEEPEST = 32  # folders inside one another

# A system that lacks one of these, Windows, does not come here (arrivals.is_local).
_DIRECTORY, _NO_LINK, _CLOSED_ON_EXEC, _NO_WAIT, _NO_TERMINAL = (
    getattr(os, name, 0) for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY")
)
_ROOT = os.O_RDONLY | _DIRECTORY | _CLOSED_ON_EXEC
_FOLDER = _ROOT | _NO_LINK
_FILE = os.O_RDONLY | _NO_LINK | _NO_WAIT | _NO_TERMINAL | _CLOSED_ON_EXEC
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


class Refused(Exception):
    """This is nothing that may be taken in; the text says why, in a few words that fit behind the name."""


@dataclass(frozen=True)
class Entry:
    """What lies in the folder, other than folders. `name`: path below it, as the system gives it, surrogates too."""

    name: str
    size: int
    signature: str
    refusal: str = ""


def entries(root: Path) -> Iterator[Entry]:
    """Everything below `root`, sorted by folder. Raises OSError where the root itself cannot be listed."""
    handle = os.open(root, _ROOT)
    try:
        yield from _below(handle, "", 0)
    finally:
        os.close(handle)


def _below(folder: int, prefix: str, depth: int) -> Iterator[Entry]:
    with os.scandir(folder) as listing:
        found = sorted(entry.name for entry in listing)
    for name in found:
        path = prefix + name
        try:
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(about.st_mode):
                yield Entry(path, about.st_size, signature(about), refusal(about))
                continue
            if depth == DEEPEST:
                yield Entry(path, 0, signature(about), f"lies more than {DEEPEST} folders deep")
                continue
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            continue  # went away since
        except OSError as error:
            yield Entry(path, 0, str(error.errno), f"cannot be looked into: {error.strerror}")
            continue
        try:
            yield from _below(inner, f"{path}/", depth + 1)
        finally:
            os.close(inner)


def refusal(about: os.stat_result) -> str:
    """Why this is not to be read; "" for a regular file."""
    if stat.S_ISREG(about.st_mode):
        return ""
    kind = next((kind for test, kind in _KINDS if test(about.st_mode)), "something unknown")
    return f"is {kind}, not a regular file"


def signature(about: os.stat_result) -> str:
    """Size, time of the last change and inode, as text: another one where the content may be another."""
    return f"{about.st_size}:{about.st_mtime_ns}:{about.st_ino}"


@contextmanager
def open_regular(root: Path, name: str) -> Iterator[IO[bytes]]:
    """The file `name` below `root`, for reading. Raises Refused, and OSError where it cannot be opened."""
    *folders, last = name.split("/")
    if any(part in ("", ".", "..") for part in (*folders, last)):
        raise Refused("has a name that leads elsewhere")
    at = os.open(root, _ROOT)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = inner
        reason = refusal(os.stat(last, dir_fd=at, follow_symlinks=False))  # opening some devices does something
        if reason:
            raise Refused(reason)
        handle = os.open(last, _FILE, dir_fd=at)
    except NotADirectoryError:
        raise Refused("lies behind a link") from None
    finally:
        os.close(at)
    with open(handle, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
        if reason := refusal(os.fstat(handle)):
            raise Refused(reason)
        yield file
