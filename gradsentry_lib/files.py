"""Files that are never half written: each is made beside its place and renamed into it.

Who is killed meanwhile leaves what it had begun. So every writer holds a lock (flock) on its temporary file, which the
kernel drops when the writer dies; what lies there unlocked is nobody's, and the next process that writes into the same
folder removes it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # no flock on Windows: there nothing is swept
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 20  # bytes read at a time when hashing
TEMPORARY = ".gradsentry.tmp"  # how names of unfinished files end; no other program's do


@contextmanager
def atomic_path(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it into place on success, removes it on failure."""
    with _temporary(path.parent, path.name, is_folder=False) as temporary:
        yield temporary
        temporary.chmod(mode)  # mkstemp makes 0600; an output is read by other users of the platform
        temporary.replace(path)


@contextmanager
def workshop(parent: Path, name: str = "") -> Iterator[Path]:
    """Yields a new folder inside `parent`, for this process alone; removes it with all that is left in it."""
    with _temporary(parent, name, is_folder=True) as folder:
        yield folder


@contextmanager
def _temporary(parent: Path, name: str, *, is_folder: bool) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    place, handle = _claim(parent, name, is_folder)
    try:
        yield place
    finally:
        if is_folder:
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)  # lets go


def _claim(parent: Path, name: str, is_folder: bool) -> tuple[Path, int | None]:
    """A new file or folder with a lock on it; again where a sweeper came between the making and the locking."""
    prefix = f".{name}."
    while True:
        if is_folder:
            place, handle = Path(tempfile.mkdtemp(TEMPORARY, prefix, parent)), None
        else:
            handle, made = tempfile.mkstemp(TEMPORARY, prefix, parent)
            place = Path(made)
        if fcntl is None:
            if handle is not None:
                os.close(handle)
            return place, None
        try:
            handle = os.open(place, os.O_RDONLY) if handle is None else handle
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):  # a sweeper has it, and removes it
            if handle is not None:
                os.close(handle)
            continue
        except OSError:  # a file system without flock: nobody can lock here, so nobody sweeps either
            return place, handle
        if place.exists():
            return place, handle
        os.close(handle)


@lru_cache(maxsize=4096)
def _sweep(folder: Path) -> None:
    """Removes what killed writers left in a folder; once a process, so that many files cost one look."""
    if fcntl is None:
        return
    for left in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):  # locked by its living writer, gone, or not ours to remove
            handle = os.open(left, (os.O_RDONLY if left.is_dir() else os.O_RDWR) | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Writes `value` as `json_text` has it, atomically."""
    with atomic_path(path, mode) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def json_text(value: Any) -> str:
    """Indented JSON with sorted keys. NaN is refused: it is not JSON."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def has_digest(path: Path, sha256: str) -> bool:
    """Whether there is such a file and its bytes have that digest."""
    return path.exists() and sha256_file(path) == sha256


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces, UTF-8), hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
