"""Takes delivery of what landed: the bytes are copied into the store before anything else is said of them.

From then on the batch no longer depends on the landing folder: the file may be renamed, changed or deleted. Each
delivery leaves `arrival.json` beside the copy:

    batches/<batch key>/arrival.json        where it came from, its digest, or why it could not be received
    batches/<batch key>/source/<file name>  the bytes as they arrived (a saved data set: the folder)
"""

import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from upath import UPath

from gradsentry_assets.arrivals import Landed
from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import read_json, sha256_json, workshop, write_json
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.source import digest
from gradsentry_lib.scan.naming import NameTaken, batch_key, may_be, new_key
from gradsentry_lib.scan.store import Store


class Vanished(Exception):
    """The file was deleted between the look at the folder and the delivery."""


@dataclass(frozen=True)
class Arrival:
    """One delivery. `path` is relative to the batch's folder; `failure` says why there is nothing at it.

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


def receive(file: Landed, root: UPath, store: Path, present: Collection[str], batches: Iterable[str]) -> Arrival:
    """Copies a landed file or folder into the store and says which batch it is. Raises Vanished.

    `present`: the URLs that lie in the landing folder now; `batches`: the keys of all batches so far. A file with the
    content of a batch whose own file is gone is that batch under a new name. A file that cannot be copied gets a
    batch of its own as well, so that somebody sees it; it is tried again at every later look.
    """
    name = PurePosixPath(file.url).name
    with workshop(store / "incoming") as folder:
        copy = folder / name
        try:
            _copy(UPath(file.url, **root.storage_options), copy)
        except FileNotFoundError:
            raise Vanished(file.url) from None
        except OSError as error:
            reason = f"{file.url} could not be read: {error.strerror or error}"
            identity = sha256_json([file.url, file.signature])
            return _record(Arrival(_key(name, identity), file.url, "", file.bytes, failure=reason), store)
        source = None
        try:
            source = open_source(str(copy))
            sha256, usable = source.sha256, any(isinstance(row, Sample) for row in source.rows())
        except BadInput:  # the reason is told by the batch's own run, which meets it again
            sha256, usable = source.sha256 if source else digest(copy, "dataset"), False
        try:
            key = batch_key(source, {}, Store(store)) if source else _key(name, sha256)
            if earlier := _renamed(key, sha256, set(present) - {file.url}, batches, store):
                return _record(replace(earlier, url=file.url), store)
            if (other := find_arrival(store, key)) and other.sha256 not in ("", sha256):
                raise NameTaken(key, other.sha256, sha256)
        except NameTaken as taken:  # a partition of its own, with all digits in its name, says so
            key = f"{_key(name, sha256).rpartition('-')[0]}-{sha256}"
            return _record(Arrival(key, file.url, sha256, file.bytes, failure=str(taken)), store)
        arrival = Arrival(key, file.url, sha256, file.bytes, f"source/{name}", usable)
        kept = store / "batches" / key / arrival.path
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            copy.replace(kept)
    return _record(arrival, store)


def find_arrival(store: Path, batch: str) -> Arrival | None:
    """The last delivery of a batch; None for one that did not come through the landing folder."""
    path = store / "batches" / batch / "arrival.json"
    return Arrival(**read_json(path)) if path.exists() else None


def _copy(source: UPath, target: Path) -> None:
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    for file in files:
        to = target / file.relative_to(source).as_posix() if file != source else target
        to.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as read, to.open("wb") as write:
            shutil.copyfileobj(read, write, 1 << 20)


def _renamed(key: str, sha256: str, present: Collection[str], batches: Iterable[str], store: Path) -> Arrival | None:
    for batch in batches:
        if may_be(batch, sha256) and batch != key:
            earlier = find_arrival(store, batch)
            if earlier and earlier.sha256 == sha256 and earlier.url not in present:
                return earlier
    return None


def _record(arrival: Arrival, store: Path) -> Arrival:
    write_json(store / "batches" / arrival.batch / "arrival.json", asdict(arrival))
    return arrival


def _key(name: str, sha256: str) -> str:
    stem = re.sub(r"[^\w.-]+", "-", name.partition(".")[0]).strip(".-")[:80] or "batch"
    return new_key(stem, sha256)
