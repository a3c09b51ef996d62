"""Results at a URL, where nothing that is not a scan's own is touched: the same contract as for a folder.

An object store has no rename, and shows an object only when it is whole; on any other file system each file is written
beside its place and moved there. The clean copy comes last, so that who waits for it finds the rest there. Beside the
results lies the same list as in a folder; in it an object is known by what the server says of its content (ETag or the
like, and size), so that nothing has to be read back.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import InTheWay, UnusableFile
from gradsentry_lib.pipeline.fetch import remote
from gradsentry_lib.pipeline.output_folder import LIST, clean_last, expected, is_list, is_output, refuse

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"}
BEING_WRITTEN = "being written"  # who is killed meanwhile leaves nothing that looks foreign


@dataclass(frozen=True)
class OutputUrl:
    """A place for results. `source`: the URL that is scanned, if it is one."""

    url: str
    home: Path
    source: str | None = None
    overwrite: bool = False

    def check(self, suffix: str) -> None:
        """Raises BadInput where a scan of a source with this suffix could not hand out its results."""
        if self.source is not None and f"{self.url}/".startswith(f"{self.source.rstrip('/')}/"):
            raise InTheWay(f"{self.url} lies in the source {self.source}: name another place for the results")
        with remote(self.url, UnusableFile) as place:
            self._refuse_foreign(place, expected(suffix))
            self._list(place, self._listed(place))  # shows before an hour of scoring that it can be written

    def write(self, files: Mapping[str, Path]) -> None:
        """Copies files and folders under these names; what an earlier scan left here under others goes.

        Raises BadInput, before anything is changed, where something is in the way.
        """
        members = {below: path for name in clean_last(files) for path, below in _members(files[name], name)}
        with remote(self.url, UnusableFile) as place:
            self._refuse_foreign(place, set(files))
            old = self._listed(place)
            self._list(place, {**old, **{name: [*old.get(name, []), BEING_WRITTEN] for name in members}})
            for name in sorted({*old} - {*members}):
                self._remove(place, name)
            for name, path in members.items():
                _put(place, path, name)
            self._list(place, {name: [made] if (made := _content(place, name)) else [] for name in members})

    def withdraw(self) -> None:
        """Removes what an earlier scan of this store left here and nobody changed since."""
        with remote(self.url, UnusableFile) as place:
            old = self._listed(place)
            if not old:
                return
            kept = {name: made for name, made in old.items() if not _is_own(place, name, made)}
            for name in sorted({*old} - {*kept}):
                self._remove(place, name)
            self._list(place, kept)

    def clean_names(self) -> list[str]:
        """The clean files that lie here, by name; none where the place does not answer."""
        with suppress(Exception), remote(self.url) as place:  # only told beside another error
            names = [path.rpartition("/")[2] for path in place.fs.ls(place.path, detail=False)]
            return sorted(name for name in names if name.startswith("clean") and is_output(name))
        return []

    def _refuse_foreign(self, place: Any, wanted: set[str]) -> None:
        """Raises InTheWay where what lies under the wanted names, or was written here before, is not to be replaced."""
        place.fs.invalidate_cache()
        listed = self._listed(place)
        present = {below for name in {*wanted, *listed} for below in _present(place, name)}
        for name in sorted({*present, *wanted}):
            if self.source is not None and f"{self.url}/{name}" == self.source.rstrip("/"):
                raise InTheWay(
                    f"{self.url}/{name} is the source and is never overwritten: name another place for the results"
                )
        if self.overwrite:
            return
        foreign = sorted(name for name in present if not _is_own(place, name, listed.get(name, [])))
        if not is_list(_told(place)) and _present(place, LIST):
            foreign.append(LIST)
        refuse(self.url, foreign)

    def _listed(self, place: Any) -> dict[str, list[str]]:
        """Names and contents of what this store's scans wrote here; nothing where the list is another store's."""
        told = _told(place)
        return dict(told["outputs"]) if is_list(told) and told["store"] == str(self.home.resolve()) else {}

    def _list(self, place: Any, outputs: Mapping[str, list[str]]) -> None:
        text = json.dumps({"store": str(self.home.resolve()), "outputs": dict(outputs)}, indent=1)
        if not _is_object_store(place):
            place.fs.makedirs(place.path, exist_ok=True)
        place.fs.pipe_file(_path(place, LIST), text.encode())

    def _remove(self, place: Any, name: str) -> None:
        with suppress(FileNotFoundError):
            place.fs.rm_file(_path(place, name))


def _path(place: Any, name: str) -> str:
    return f"{place.path.rstrip('/')}/{name}"


def _is_object_store(place: Any) -> bool:
    return place.protocol in OBJECT_STORES


def _told(place: Any) -> Any:
    """What the list says, None where there is none or it is no JSON."""
    try:
        return json.loads(place.fs.cat_file(_path(place, LIST)))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return None


def _present(place: Any, name: str) -> list[str]:
    """The files at that name: itself, or those below it."""
    root = _path(place, name)
    return [name + path[len(root) :] for path in place.fs.find(root)]


def _is_own(place: Any, name: str, listed: list[str]) -> bool:
    return BEING_WRITTEN in listed or _content(place, name) in [*listed, ""]


def _content(place: Any, name: str) -> str | None:
    """What the server says of an object that changes when its content does; "" where there is no object, None where
    nothing of that kind is said: no list has that."""
    try:
        told = place.fs.info(_path(place, name))
    except FileNotFoundError:
        return ""
    marks = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
    mark = next((told[mark] for mark in marks if told.get(mark)), None)
    return f"{told['size']} {mark}" if mark else None


def _members(path: Path, name: str) -> list[tuple[Path, str]]:
    if not path.is_dir():
        return [(path, name)]
    return [(file, f"{name}/{file.relative_to(path).as_posix()}") for file in sorted(path.rglob("*")) if file.is_file()]


def _put(place: Any, path: Path, name: str) -> None:
    target = _path(place, name)
    if _is_object_store(place):
        place.fs.put_file(str(path), target)
        return
    parent, _, last = target.rpartition("/")
    place.fs.makedirs(parent, exist_ok=True)
    place.fs.put_file(str(path), f"{parent}/.{last}.gradsentry.tmp")
    place.fs.mv(f"{parent}/.{last}.gradsentry.tmp", target)
