"""What lies in the landing folder, and which of it is complete and new.

Nothing here looks at a clock. A file's signature is its size, modification time and, where the file system has them,
inode or etag, exactly as listed; a file is complete when two looks in a row find the same signature, or when its
`.done` marker lies beside it. The state of the landing is one JSON value (the sensor's cursor): for every file present
its signature and, once it was received, its batch. So a clock that jumps, a file that is touched, renamed, dropped
again or deleted between two looks changes what is known of that file and nothing else.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from upath import UPath

from gradsentry_assets.folder import Entry, entries
from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples.read import ENDINGS

DONE = ".done"
DATASET_MARKS = ("dataset_dict.json", "dataset_info.json")  # a folder with one of these is one batch, not many files


@dataclass(frozen=True)
class Landed:
    """One file (or data-set folder) as the listing shows it.

    `name` is its path below the root as the file system gives it, `url` the same for people, cursor and ledger: valid
    Unicode whatever the bytes of the name. `members`: the names of its files; a file has one, itself. `refusal` says
    why it is not taken in, "" where it may be.
    """

    url: str
    name: str
    signature: str
    bytes: int
    members: tuple[str, ...] = ()
    marked: bool = False  # its .done marker lies beside it
    refusal: str = ""


@dataclass(frozen=True)
class Known:
    """What is remembered of one file: its signature at the last look, its batch ("" until it was received), and why it
    was skipped ("" where it was not)."""

    signature: str
    batch: str = ""
    skipped: str = ""


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
        entries = ((url, (known.signature, known.batch, known.skipped)) for url, known in sorted(self.files.items()))
        files = {url: said if said[2] else said[:2] for url, said in entries}
        return json.dumps({"looks": self.looks, "files": files}, separators=(",", ":"))

    def look(self, landed: Mapping[str, Landed], need_marker: bool) -> list[Landed]:
        """Takes in a listing, forgets what is gone, and returns what is complete but not yet received, in order."""
        ready = []
        before, self.files, self.looks = self.files, {}, self.looks + 1
        for url, file in sorted(landed.items()):
            known = before.get(url)
            if file.refusal:
                told = known is not None and known.skipped == file.refusal
                self.files[url] = Known("", "", file.refusal if told else "")
                continue
            unchanged = known is not None and known.signature == file.signature
            self.files[url] = known if known is not None and unchanged else Known(file.signature)
            complete = file.marked if need_marker else unchanged
            if complete and not self.files[url].batch and not self.files[url].skipped:
                ready.append(file)
        return ready

    def received(self, file: Landed, batch: str) -> None:
        self.files[file.url] = Known(file.signature, batch)

    def skip(self, file: Landed, reason: str) -> None:
        """It is not asked for again until it is another file, or another thing is wrong with it."""
        self.files[file.url] = Known("" if file.refusal else file.signature, "", reason)

    def skipped(self) -> dict[str, str]:
        """What lies there and is not taken in, and why."""
        return {url: known.skipped for url, known in self.files.items() if known.skipped}

    def is_settled(self, url: str) -> bool:
        """Received, or skipped and told; or gone."""
        known = self.files.get(url)
        return known is None or bool(known.batch or known.skipped)

    def forget(self, file: Landed) -> None:
        """The file changed or went away under our hands."""
        self.files.pop(file.url, None)


def list_landing(root: UPath, pattern: str = "*", limit: int | None = None) -> dict[str, Landed]:
    """Everything below `root` that could be a batch, by URL; and links, FIFOs and the like, each with its refusal.

    Hidden files (a name or folder starting with a dot or underscore), markers and other file types are left out.
    `pattern` is matched against the path below the root and against the bare name. A folder that `datasets` saved
    counts as one. `limit`: bytes above which a file is refused. A root that does not exist is empty.
    """
    try:
        below = _on_this_machine(root) if is_local(root) else _remote(root)
    except FileNotFoundError:
        return {}
    folders = _dataset_folders(below)
    landed = {}
    for name, members in _units(below, folders):
        infos = [below[member] for member in members]
        refusal = _refusal(name, members, infos, limit)
        if _wanted(name, pattern, name in folders, special=len(members) == 1 and infos[0].refusal != ""):
            signature = join_signatures([info.signature for info in infos])
            size = sum(info.size for info in infos)
            url = f"{str(root).rstrip('/')}/{_readable(name)}"
            marked = f"{name}{DONE}" in below
            landed[url] = Landed(url, name, signature, size, tuple(members), marked, refusal)
    return landed


def is_local(root: UPath) -> bool:
    """Whether files can be opened relative to the root's descriptor: everywhere but on other machines and Windows."""
    return root.protocol in ("", "file", "local") and os.open in os.supports_dir_fd


def join_signatures(signatures: list[str]) -> str:
    """The signature of a file, or of a folder's files together."""
    return signatures[0] if len(signatures) == 1 else sha256_json(signatures)


def _on_this_machine(root: UPath) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries(Path(root.path))}


def _remote(root: UPath) -> dict[str, Entry]:
    root.fs.invalidate_cache()  # this process may live for weeks
    found = root.fs.find(root.path, detail=True)
    base = root.path.rstrip("/") + "/"
    return {
        name.removeprefix(base): Entry(
            name.removeprefix(base), int(info.get("size") or 0), remote_signature(info), _remote_refusal(info)
        )
        for name, info in sorted(found.items())
    }


def _remote_refusal(info: Mapping[str, Any]) -> str:
    kind = info.get("type") or "file"
    return "" if kind == "file" and not info.get("islink") else "is a link or a special file, not a regular file"


def _refusal(name: str, members: list[str], infos: list[Entry], limit: int | None) -> str:
    for member, info in zip(members, infos, strict=True):
        if info.refusal:
            return info.refusal if member == name else f"holds {_readable(member)}, which {info.refusal}"
        if any(part in ("", ".", "..") for part in member.split("/")):
            return "has a name that leads elsewhere"
    if limit is not None and sum(info.size for info in infos) > limit:
        return too_large(limit)
    return ""


def too_large(limit: int) -> str:
    return f"is larger than {limit:,} bytes (GRADSENTRY_MAX_BYTES)"


def _readable(name: str) -> str:
    """A name as valid Unicode, and no two names alike: bytes that are no UTF-8 as `\\xff`, backslashes doubled."""
    doubled = name.replace("\\", "\\\\")
    return os.fsencode(doubled).decode("utf-8", "backslashreplace") if not _is_text(doubled) else doubled


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _units(below: Mapping[str, Any], folders: set[str]) -> Iterator[tuple[str, list[str]]]:
    """What is one batch: a folder with all that is in it, or a file."""
    inside: dict[str, list[str]] = {folder: [] for folder in sorted(folders)}
    alone: list[str] = []
    for name in below:
        parts = name.split("/")
        folder = next((at for at in ("/".join(parts[:i]) for i in range(1, len(parts))) if at in folders), None)
        (alone if folder is None else inside[folder]).append(name)
    yield from inside.items()
    yield from ((name, [name]) for name in alone)


def _dataset_folders(below: Mapping[str, Any]) -> set[str]:
    """Folders saved by `datasets`; a `DatasetDict` holds one such folder a split and counts as one itself."""
    marked = {name.rpartition("/")[0] for name in below if name.rpartition("/")[2] in DATASET_MARKS}
    marked.discard("")
    return {folder for folder in marked if not any(folder.startswith(f"{other}/") for other in marked)}


def _wanted(name: str, pattern: str, is_folder: bool, special: bool) -> bool:
    if any(part.startswith((".", "_")) for part in name.split("/")):
        return False
    if special and not name.lower().endswith(ENDINGS):  # a link to a folder, say: whoever left it expects something
        return not name.endswith(DONE)
    known = is_folder or name.lower().endswith(ENDINGS)
    return known and (fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern))


def remote_signature(info: Mapping[str, Any]) -> str:
    """Size and what the file system says of the content's age and identity, as text."""
    age = ("mtime", "ino") if info.get("mtime") is not None else ("LastModified", "last_modified", "updated", "created")
    said = [_moment(info[name]) for name in ("size", "ETag", "etag", "md5Hash", *age) if info.get(name) is not None]
    return ":".join(said)


def _moment(said: Any) -> str:
    """A file system may tell one moment as a date and as a number, depending on how it is asked."""
    if isinstance(said, datetime):
        said = said.timestamp()
    return f"{said:.3f}" if isinstance(said, float) else str(said)
