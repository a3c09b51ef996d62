"""A source held still: what is parsed, judged and handed out comes from bytes with the digest that names them.

Others may write to a source at any moment, also between a look at its digest and the reading of its rows. So nobody
reads rows from the source itself: its bytes are copied into the store once, into a folder of this process alone, the
copy's digest is taken, and the rows are read from that copy. Where the file system can share blocks between files the
copy costs nothing; else it takes the source's size in the store, until the rows are read.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradsentry_lib.errors import BadInput, SourceChanged, UnusableStore
from gradsentry_lib.files import workshop
from gradsentry_lib.samples.source import Kind, digest, source_files
from gradsentry_lib.store.paths import Store

try:
    from fcntl import ioctl
except ImportError:  # Windows: there every copy is one byte by byte
    ioctl = None  # type: ignore[assignment]

FICLONE = 0x40049409  # Linux: the new file shares the old one's blocks until either is written to


@contextmanager
def hold(path: Path, kind: Kind, sha256: str, store: Store) -> Iterator[Path]:
    """Yields a copy of a file or folder whose digest (`samples.source.digest`) is `sha256`; removes it at the end.

    Raises SourceChanged where the bytes are others by now, BadInput where they can't be had. What BadInput says of the
    copy inside the block is said of the source.
    """
    with workshop(_incoming(store)) as folder:
        copy = folder / path.name
        _copy(path, kind, copy, store)
        if (found := digest(copy, kind)) != sha256:
            raise SourceChanged(path, sha256, found)
        try:
            yield copy
        except BadInput as error:
            error.args = (str(error).replace(str(copy), str(path)),)
            raise


def _incoming(store: Store) -> Path:
    try:
        store.incoming.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableStore(f"can't write to {store.home}: {error.strerror}") from error
    return store.incoming


def _copy(path: Path, kind: Kind, copy: Path, store: Store) -> None:
    try:
        if path.is_dir():
            copy.mkdir()
        for file in source_files(path, kind):
            place = copy / file.relative_to(path) if path.is_dir() else copy
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(file, place)
    except FileNotFoundError:
        raise SourceChanged(path) from None
    except OSError as error:
        raise UnusableStore(f"can't copy {path} into the store {store.home}: {error.strerror or error}") from error


def _copy_file(file: Path, place: Path) -> None:
    with file.open("rb") as read, place.open("wb") as write:
        if ioctl is not None:
            with suppress(OSError):  # another file system, or one that can't
                ioctl(write.fileno(), FICLONE, read.fileno())
                return
        shutil.copyfileobj(read, write, 1 << 20)
