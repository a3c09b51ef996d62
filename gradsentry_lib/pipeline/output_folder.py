"""Results copied out of the store into a user's folder, where nothing that is not a scan's own is touched.

Beside the results lies a list of what was written there, with digests and the store it came from. A later scan of the
same store replaces or removes only what is on the list and unchanged. Anything else in the way is refused by name,
before there is work to lose; `--overwrite` lets it go, but never the source, nor a folder around it or a link to it.

A scan that fails leaves what an earlier one wrote, and names the clean file that is not its own; one whose source
changed under it withdraws it.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import InTheWay, UnusableFile
from gradsentry_lib.files import atomic_path, read_json, sha256_file, sha256_json, workshop, write_json

LIST = ".gradsentry-outputs.json"
EVIDENCE = ("verdicts.parquet", "threshold.json", "threshold.png", "groups.json", "power.json", "report.html")
OTHERS = ("rejected.jsonl", "quarantine.jsonl", "attestation.json")
NAMED = 5  # names in a message


@dataclass(frozen=True)
class OutputFolder:
    """A folder for results. `source`: what is scanned, None where it is not on this machine."""

    folder: Path
    home: Path
    source: Path | None
    overwrite: bool = False

    def check(self, suffix: str) -> None:
        """Raises BadInput where a scan of a source with this suffix could not hand out its results."""
        if self.source is not None and self.source.is_dir() and _within(self.folder, self.source):
            raise InTheWay(f"{self.folder} lies in the source {self.source}: name a folder outside it for the results")
        try:
            with workshop(self.folder):
                pass
        except OSError as error:
            raise UnusableFile(f"can't write to {self.folder}: {error.strerror or error}") from error
        self._refuse_foreign(expected(suffix))

    def withdraw(self) -> None:
        """Removes what an earlier scan of this store left here and nobody changed since."""
        old = self._listed()
        kept = {name: made for name, made in old.items() if digest(self.folder / name) not in ["", *made]}
        if old and (self.source is None or not any(is_part_of(self.folder / name, self.source) for name in old)):
            for name in sorted({*old} - {*kept}):
                _remove(self.folder / name)
            self._list(kept)

    def write(self, files: Mapping[str, Path]) -> None:
        """Copies files and folders under these names; what an earlier scan left here under others goes.

        Raises BadInput, before anything is changed, where something has come into the way since it was checked.
        """
        self._refuse_foreign(set(files))
        old, new = self._listed(), {name: [digest(path)] for name, path in files.items()}
        # Both are our own until all is written: who is killed in between leaves nothing that looks foreign.
        self._list({name: [*old.get(name, []), *new.get(name, [])] for name in {*old, *new}})
        for name in sorted({*old} - {*new}):
            _remove(self.folder / name)
        for name in clean_last(files):
            _copy(files[name], self.folder / name)
        self._list(new)

    def clean_names(self) -> list[str]:
        """The clean files that lie here, by name."""
        with suppress(OSError):
            return sorted(path.name for path in self.folder.glob("clean*") if is_output(path.name))
        return []

    def _refuse_foreign(self, wanted: set[str]) -> None:
        """Raises BadInput where what lies under the wanted names, or was written here before, is not to be replaced."""
        listed = self._listed()
        present = [name for name in sorted({*wanted, *listed, LIST}) if os.path.lexists(self.folder / name)]
        for name in present:
            if self.source is not None and is_part_of(self.folder / name, self.source):
                raise InTheWay(
                    f"{self.folder / name} is the source {self.source}, or holds it, or is a link to it, and is never "
                    "overwritten: name another folder for the results"
                )
        if self.overwrite:
            return
        foreign = [name for name in present if name != LIST and digest(self.folder / name) not in listed.get(name, [])]
        if LIST in present and not is_list(_read_list(self.folder / LIST)):
            foreign.append(LIST)
        refuse(str(self.folder), foreign)

    def _listed(self) -> dict[str, list[str]]:
        """Names and digests of what this store's scans wrote here; nothing where the list is another store's."""
        told = _read_list(self.folder / LIST)
        return dict(told["outputs"]) if is_list(told) and told["store"] == str(self.home.resolve()) else {}

    def _list(self, outputs: Mapping[str, list[str]]) -> None:
        if not (self.folder / LIST).is_file():
            _remove(self.folder / LIST)
        write_json(self.folder / LIST, {"store": str(self.home.resolve()), "outputs": dict(outputs)})


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all that a folder holds; "" for what is neither, links among them."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return ""
    if path.is_file():
        return sha256_file(path)
    return sha256_json(sorted([entry.relative_to(path).as_posix(), _content(entry)] for entry in _entries(path)))


def is_part_of(place: Path, source: Path) -> bool:
    """Whether `place` is the source or a file of it, a folder around it, or a symbolic or hard link to either."""
    if _within(source, place) or _within(place, source):
        return True
    own = {_inode(path) for path in ([source] if source.is_file() else _entries(source)) if path.is_file()}
    return any(_inode(path) in own for path in ([place] if place.is_file() else _entries(place)) if path.is_file())


def expected(suffix: str) -> set[str]:
    """The names that a scan of a source with this suffix may write."""
    return {*EVIDENCE, *OTHERS, f"clean{suffix}"}


def clean_last(names: Iterable[str]) -> list[str]:
    """So that who waits for the clean copy finds the rest there."""
    return sorted(names, key=lambda name: (name.startswith("clean"), name))


def refuse(place: str, foreign: list[str]) -> None:
    """Raises InTheWay, which names what is not a scan's own."""
    if foreign:
        told = ", ".join(foreign[:NAMED]) + (", ..." if len(foreign) > NAMED else "")
        raise InTheWay(
            f"{place} holds what no scan of this store wrote, or what was changed since: {told}; move it away, name "
            "another place, or say --overwrite to replace it"
        )


def is_list(told: Any) -> bool:
    """Whether that is a list of outputs. It names results of a scan in its place and nothing else, else it is no list:
    somebody could have made it to have other files removed."""
    try:
        return isinstance(told["store"], str) and all(
            is_output(name) and all(isinstance(made, str) and made for made in contents)
            for name, contents in told["outputs"].items()
        )
    except (KeyError, TypeError, AttributeError):
        return False


def is_output(name: str) -> bool:
    """Whether a scan writes files of that name: itself, or below a clean folder."""
    top, _, below = name.partition("/")
    if below:
        return top == "clean" and ".." not in below.split("/") and "\\" not in below
    return name in {*EVIDENCE, *OTHERS} or ((name == "clean" or name.startswith("clean.")) and os.sep not in name)


def _read_list(place: Path) -> Any:
    """What the list says, None where there is none."""
    if place.is_symlink() or not place.is_file():
        return None
    try:
        return read_json(place)
    except (OSError, ValueError):
        return None


def _within(inner: Path, outer: Path) -> bool:
    return inner.resolve().is_relative_to(outer.resolve())


def _entries(folder: Path) -> Iterator[Path]:
    """All that lies in a folder and below; links are not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def _content(entry: Path) -> str:
    if entry.is_symlink():
        return f"link {entry.readlink()}"
    return sha256_file(entry) if entry.is_file() else "folder" if entry.is_dir() else "neither"


def _inode(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_dev, told.st_ino


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(made: Path, place: Path) -> None:
    """A copy that is whole when it appears. A link in its place is replaced, what it points to stays."""
    if made.is_dir():
        with workshop(place.parent, place.name) as shop:
            shutil.copytree(made, shop / place.name)
            _remove(place)
            (shop / place.name).rename(place)
        return
    if place.is_dir():
        _remove(place)
    with atomic_path(place) as temporary:
        shutil.copyfile(made, temporary)
