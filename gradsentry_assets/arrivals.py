"""What lies in the landing folder, and which of it is complete and new.

Nothing here looks at a clock. A file's signature is its size, modification time and, where the file system has them,
inode or etag, exactly as listed; a file is complete when two looks in a row find the same signature, or when its
`.done` marker lies beside it. The state of the landing is one JSON value (the sensor's cursor): for every file present
its signature and, once it was received, its batch. So a clock that jumps, a file that is touched, renamed, dropped
again or deleted between two looks changes what is known of that file and nothing else.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from upath import UPath

from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples.read import ENDINGS

DONE = ".done"
DATASET_MARKS = ("dataset_dict.json", "dataset_info.json")  # a folder with one of these is one batch, not many files


@dataclass(frozen=True)
class Landed:
    """One file (or data-set folder) as the listing shows it."""

    url: str
    signature: str
    bytes: int
    marked: bool  # its .done marker lies beside it


@dataclass(frozen=True)
class Known:
    """What is remembered of one file: its signature at the last look, and its batch ("" until it was received)."""

    signature: str
    batch: str = ""


@dataclass
class Landing:
    """The remembered state, by URL. `looks` counts the listings, for people who read the cursor."""

    files: dict[str, Known] = field(default_factory=dict)
    looks: int = 0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Landing":
        """An empty or unreadable cursor starts afresh: files received before are recognised by their content."""
        try:
            value = json.loads(cursor or "{}")
            return cls({url: Known(*entry) for url, entry in value["files"].items()}, int(value["looks"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def to_cursor(self) -> str:
        files = {url: [known.signature, known.batch] for url, known in sorted(self.files.items())}
        return json.dumps({"looks": self.looks, "files": files}, separators=(",", ":"))

    def look(self, landed: Mapping[str, Landed], need_marker: bool) -> list[Landed]:
        """Takes in a listing, forgets what is gone, and returns what is complete but not yet received, in order."""
        ready = []
        before, self.files, self.looks = self.files, {}, self.looks + 1
        for url, file in sorted(landed.items()):
            known = before.get(url)
            unchanged = known is not None and known.signature == file.signature
            self.files[url] = known if known is not None and unchanged else Known(file.signature)
            complete = file.marked if need_marker else unchanged
            if complete and not self.files[url].batch:
                ready.append(file)
        return ready

    def received(self, file: Landed, batch: str) -> None:
        self.files[file.url] = Known(file.signature, batch)

    def forget(self, file: Landed) -> None:
        """The file went away under our hands."""
        self.files.pop(file.url, None)


def list_landing(root: UPath, pattern: str = "*") -> dict[str, Landed]:
    """Everything below `root` that could be a batch, by URL.

    Hidden files (a name or folder starting with a dot or underscore), markers and other file types are left out.
    `pattern` is matched against the path below the root and against the bare name. A folder that `datasets` saved
    counts as one. A root that does not exist is empty.
    """
    try:
        found = root.fs.find(root.path, detail=True)
    except FileNotFoundError:
        return {}
    base = root.path.rstrip("/") + "/"
    below = {name.removeprefix(base): info for name, info in sorted(found.items())}
    folders = _dataset_folders(below)
    landed = {}
    for name, infos in _units(below, folders):
        if _wanted(name, pattern, name in folders):
            signature = _signature(infos[0]) if len(infos) == 1 else sha256_json([_signature(info) for info in infos])
            size = sum(int(info.get("size") or 0) for info in infos)
            url = str(root / name)
            landed[url] = Landed(url, signature, size, marked=f"{name}{DONE}" in below)
    return landed


def _units(below: Mapping[str, Any], folders: set[str]) -> Iterator[tuple[str, list[Any]]]:
    for folder in sorted(folders):
        yield folder, [info for name, info in below.items() if name.startswith(f"{folder}/")]
    for name, info in below.items():
        if not any(name.startswith(f"{folder}/") for folder in folders):
            yield name, [info]


def _dataset_folders(below: Mapping[str, Any]) -> set[str]:
    """Folders saved by `datasets`; a `DatasetDict` holds one such folder a split and counts as one itself."""
    marked = {name.rpartition("/")[0] for name in below if name.rpartition("/")[2] in DATASET_MARKS}
    marked.discard("")
    return {folder for folder in marked if not any(folder.startswith(f"{other}/") for other in marked)}


def _wanted(name: str, pattern: str, is_folder: bool) -> bool:
    if any(part.startswith((".", "_")) for part in name.split("/")):
        return False
    known = is_folder or name.lower().endswith(ENDINGS)
    return known and (fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern))


def _signature(info: Mapping[str, Any]) -> str:
    """Size and what the file system says of the content's age and identity, as text."""
    age = ("mtime", "ino") if info.get("mtime") is not None else ("LastModified", "last_modified", "updated", "created")
    said = [str(info[name]) for name in ("size", "ETag", "etag", "md5Hash", *age) if info.get(name) is not None]
    return ":".join(said)
