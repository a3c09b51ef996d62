"""Where a stage's rows come from: a folder in which files arrive, a file, or an asset of somebody else's.

Folder     every file that arrives is a batch and a partition of the stage's own; a sensor takes them in
File       one file, as it is when the stage runs; with somebody's partitions, one for each: `day={partition}.jsonl`
Upstream   what their asset hands over: a frame, a table, rows or a path, through their I/O manager; or the file
           that an entry of its metadata names
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import dagster as dg

from gradsentry_lib.errors import UnusableOption

PLACE = "{partition}"  # in the name of a file: the partition's key
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Reading:
    """How rows are read, where it can't be guessed; as the fields of the landing folder's resource."""

    columns: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    response_marker: str = ""
    mapping: str | None = None
    encoding: str = ""
    separator: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True)
class Folder:
    """A folder or fsspec URL where files arrive, and which of them are batches. `url` None: GRADSENTRY_LANDING, else
    `landing` in the store. `done_marker`: wait for `<file>.done`."""

    url: str | None = None
    pattern: str | None = None
    done_marker: bool | None = None

    @classmethod
    def matching(cls, url: str) -> "Folder":
        """Of a pattern, `s3://bucket/in/2026-*/*.jsonl`: the folder before the first wildcard, and what is below it."""
        parts = url.split("/")
        at = next((number for number, part in enumerate(parts) if _PATTERN.search(part)), len(parts))
        return cls("/".join(parts[:at]) or ("/" if url.startswith("/") else "."), "/".join(parts[at:]) or None)


@dataclass(frozen=True)
class File:
    """A file or URL. With `{partition}` in it, a file for each partition of `partitions_def`."""

    url: str


@dataclass(frozen=True)
class Upstream:
    """An asset of somebody else's. `file`: the entry of its metadata that names a path or URL; "": its value."""

    asset: dg.AssetKey
    file: str = ""


Source = Folder | File | Upstream


def source_of(given: Any) -> Source:
    """What a caller means by a source: one of the above, an asset or its key, a path, a URL or a pattern of either.

    Raises UnusableOption for anything else.
    """
    if given is None:
        return Folder()
    if isinstance(given, Folder | File | Upstream):
        return given
    if isinstance(given, dg.AssetKey):
        return Upstream(given)
    if isinstance(given, dg.AssetsDefinition | dg.AssetSpec | dg.SourceAsset):
        return Upstream(given.key)
    if not isinstance(given, str | Path):
        raise UnusableOption(
            f"source={given!r}: give an asset or its key, a path, a URL or a pattern such as s3://bucket/in/*.jsonl"
        )
    url = str(given)
    if PLACE in url:
        return File(url)
    if _PATTERN.search(url):
        return Folder.matching(url)
    if Path(url).is_dir() or not Path(url).suffix:
        return Folder(url)
    return File(url)


def partitions_of(given: Any) -> dg.PartitionsDefinition | None:
    """The partitions of an asset that was given as such; a key alone says nothing of them."""
    if isinstance(given, dg.AssetsDefinition | dg.AssetSpec | dg.SourceAsset):
        return given.partitions_def
    return None
