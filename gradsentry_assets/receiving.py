"""Takes delivery of what landed: the bytes are copied into the store before anything else is said of them.

From then on the batch no longer depends on the landing folder: the file may be renamed, changed or deleted. Each
delivery leaves `arrival.json` beside the copy:

    batches/<batch key>/arrival.json        where it came from, its digest, or why it could not be received
    batches/<batch key>/source/<file name>  the bytes as they arrived (a saved data set: the folder)
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from upath import UPath

from gradsentry_assets.arrivals import ENDINGS, Landed, is_local, join_signatures, remote_signature, too_large
from gradsentry_assets.folder import Refused, open_regular, signature
from gradsentry_lib.errors import BadInput, DamagedStore, UnusableStore
from gradsentry_lib.files import read_json, sha256_json, workshop, write_json
from gradsentry_lib.pipeline.naming import DIGITS, NameTaken, batch_key, may_be, new_key
from gradsentry_lib.samples.container import large_hole
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.source import digest
from gradsentry_lib.store.paths import Store

LONGEST_NAME = 150  # bytes of a name in the store; a temporary file beside it has a longer one


class Changed(Exception):
    """The file was deleted or written to between the look at the folder and the delivery, or during it."""


class CannotKeep(UnusableStore):
    """The store takes nothing in: it is full or may not be written to. The files stay where they are until it does."""


@dataclass(frozen=True)
class Arrival:
    """One delivery. `path` is relative to the batch's folder; `failure` says why there is nothing at it; `told`: how it
    is to be read, where that was said.

    `usable`: at least one row reads as a sample. A batch that is not is scanned in a run of its own, so that its
    failure is nobody else's.
    """

    batch: str
    url: str
    sha256: str
    bytes: int
    path: str = ""
    usable: bool = False
    failure: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)


def receive(
    file: Landed,
    root: UPath,
    store: Path,
    present: Collection[str],
    batches: Iterable[str],
    limit: int | None = None,
    told: Mapping[str, Any] | None = None,
) -> Arrival:
    """Copies a landed file or folder into the store and says which batch it is. At most `limit` bytes. `told`: how it
    is to be read, by the names of `open_as_told`; the batch keeps it.

    Raises Refused where it may not be taken in, Changed where it is no longer what was listed, CannotKeep.

    `present`: the URLs that lie in the landing folder now; `batches`: the keys of all batches so far. A file with the
    content of a batch whose own file is gone is that batch under a new name. A file that cannot be copied gets a
    batch of its own as well, so that somebody sees it; it is tried again at every later look.
    """
    name = plain_name(PurePosixPath(file.url).name)
    with workshop(Store(store).incoming) as folder:
        copy = folder / name
        try:
            _copy(file, root, copy, limit)
        except FileNotFoundError:
            raise Changed(file.url) from None
        except OSError as error:
            reason = f"{file.url} could not be read: {error.strerror or error}"
            identity = sha256_json([file.url, file.signature])
            return _record(Arrival(_key(name, identity), file.url, "", file.bytes, failure=reason), store)
        source = None
        try:
            source = open_as_told(str(copy), told or {})
            sha256, usable = source.sha256, any(isinstance(row, Sample) for row in source.rows())
        except Exception:  # bad input most often; the reason is told by the batch's own run, which meets it again
            sha256, usable = source.sha256 if source else digest(copy, "dataset"), False
        try:
            key = batch_key(source, told or {}, Store(store)) if source else _key(name, sha256)
            if earlier := _renamed(key, sha256, set(present) - {file.url}, batches, store):
                return _record(replace(earlier, url=file.url), store)
            if (other := find_arrival(store, key)) and other.sha256 not in ("", sha256):
                raise NameTaken(key, other.sha256, sha256)
        except NameTaken as taken:  # a partition of its own, with all digits in its name, says so
            key = f"{_key(name, sha256).rpartition('-')[0]}-{sha256}"
            return _record(Arrival(key, file.url, sha256, file.bytes, failure=str(taken)), store)
        arrival = Arrival(key, file.url, sha256, file.bytes, f"source/{name}", usable, told=dict(told or {}))
        kept = Store(store).batch(key) / arrival.path
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            copy.replace(kept)
    return _record(arrival, store)


def find_arrival(store: Path, batch: str) -> Arrival | None:
    """The last delivery of a batch; None for one that did not come through the landing folder. Raises BadInput."""
    path = Store(store).arrival(batch)
    try:
        return Arrival(**read_json(path))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedStore(f"{path} is damaged: remove it and put the file into the landing folder again") from error


def _copy(file: Landed, root: UPath, target: Path, limit: int | None) -> None:
    """What is read is what was listed: the signatures are those of the opened files, once they were read."""
    left, signatures = limit, []
    for member in file.members:
        to = target if member == file.name else target / plain_path(member.removeprefix(f"{file.name}/"))
        with open_member(root, member) as (read, sign):
            if is_local(root) and (hole := large_hole(read)):
                raise Refused(f"has a hole of {hole:,} bytes (a sparse file), as no data has")
            left = _copy_file(read, to, left, limit)
            signatures.append(sign())
    if join_signatures(signatures) != file.signature:
        raise Changed(file.url)


@contextmanager
def open_member(root: UPath, name: str) -> Iterator[tuple[IO[bytes], Callable[[], str]]]:
    """A file below the root, for reading, and what gives its signature of the moment."""
    if is_local(root):
        with open_regular(Path(root.path), name) as file:
            yield file, lambda: signature(os.fstat(file.fileno()))
        return
    path = f"{root.path.rstrip('/')}/{name}"

    def sign() -> str:
        root.fs.invalidate_cache()
        return remote_signature(root.fs.info(path))

    with root.fs.open(path, "rb") as file:
        yield file, sign


def _copy_file(read: IO[bytes], to: Path, left: int | None, limit: int | None) -> int | None:
    """Copies; gives how many of the `left` bytes are left."""
    with _keeping():
        to.parent.mkdir(parents=True, exist_ok=True)
        write = to.open("xb")
    with write:
        while block := read.read(1 << 20):
            if left is not None and limit is not None:
                left -= len(block)
                if left < 0:
                    raise Refused(too_large(limit))
            with _keeping():
                write.write(block)
        with _keeping():
            write.flush()
    return left


@contextmanager
def _keeping() -> Iterator[None]:
    """What goes wrong with the store is not the file's fault."""
    try:
        yield
    except OSError as error:
        raise CannotKeep(f"the store cannot take in what arrives: {error.strerror or error}") from error


def plain_path(name: str) -> str:
    return "/".join(plain_name(part) for part in name.split("/"))


def plain_name(name: str) -> str:
    """A file name that every file system takes and that ends as the given one does; most names as they are."""
    if len(name.encode("utf-8", "replace")) <= LONGEST_NAME and name.isprintable() and "\\" not in name:
        return name
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), "")
    stem = re.sub(r"[^\w.-]+", "-", name[: len(name) - len(ending)]).encode()[:80].decode(errors="ignore")
    return f"{stem}-{sha256_json(name)[:DIGITS]}{name[len(name) - len(ending) :]}"


def _renamed(key: str, sha256: str, present: Collection[str], batches: Iterable[str], store: Path) -> Arrival | None:
    for batch in batches:
        if may_be(batch, sha256) and batch != key:
            try:
                earlier = find_arrival(store, batch)
            except BadInput:
                continue
            if earlier and earlier.sha256 == sha256 and earlier.url not in present:
                return earlier
    return None


def _record(arrival: Arrival, store: Path) -> Arrival:
    write_json(Store(store).arrival(arrival.batch), asdict(arrival))
    return arrival


def _key(name: str, sha256: str) -> str:
    stem = re.sub(r"[^\w.-]+", "-", name.partition(".")[0]).strip(".-").encode()[:80].decode(errors="ignore") or "batch"
    return new_key(stem, sha256)
