"""The files of a folder that are its data, and which of a numbered set are not there."""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from gradsentry_lib.errors import UnusableInput

TEXTS = ("jsonl", "ndjson", "json", "csv", "tsv")
TABLES = ("parquet", "arrow", "feather")
SUFFIX = re.compile(
    rf"\.(?P<kind>(?:{'|'.join(TEXTS)})(?=(?:\.(?:gz|bz2|xz|zst|zip))?$)|(?:{'|'.join(TABLES)})$)(?P<packed>\.\w+)?$",
    re.IGNORECASE,
)
ABOUT = frozenset(  # what stands beside data and is none
    ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "metadata.json"]
)
NUMBERED = re.compile(r"(.*?)(\d+)(-of-)(\d+)(.*)", re.DOTALL)
NAMED = 5  # missing files that a sentence names


def known_suffix(name: str) -> str:
    """The end of a name that tells the kind of data, in small letters; "" if it tells none."""
    found = SUFFIX.search(name)
    return found[0].lower() if found else ""


def files_below(folder: Path) -> list[Path]:
    """The regular files of a folder, sorted by path, hidden ones left out. Links that lead out of it are refused."""
    root = folder.resolve()
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name[0] not in "._"]
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UnusableInput(f"{path} is a link that leads out of the folder; put the file itself there")
        for name in names:
            path = Path(place, name)
            if name[0] in "._":
                continue
            if stat.S_ISREG(path.stat().st_mode):
                found.append(path)
            elif known_suffix(name):
                raise UnusableInput(f"{path} is no regular file but a pipe, a device or a socket; it is not read")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def shard_files(folder: Path) -> list[Path]:
    """The data files of a folder, in the order of their rows."""
    return [path for path in files_below(folder) if known_suffix(path.name) and path.name not in ABOUT]


def missing_shards(names: Iterable[str]) -> list[str]:
    """A sentence for each set numbered NNNNN-of-NNNNN that is not complete."""
    sets: dict[tuple[str, str, int, str], set[int]] = {}
    widths: dict[tuple[str, str, int, str], tuple[int, int]] = {}
    for name in names:
        path = PurePosixPath(name)
        if found := NUMBERED.fullmatch(path.name):
            key = (str(path.parent), found[1], int(found[4]), found[5])
            sets.setdefault(key, set()).add(int(found[2]))
            widths[key] = (len(found[2]), len(found[4]))
    told = []
    for key, numbers in sets.items():
        parent, before, total, after = key
        start = 1 if 0 not in numbers and total in numbers else 0
        if total > 1_000_000:
            told.append(f"{before}*{after} is numbered as one of {total} files, which nobody has")
            continue
        lacking = [number for number in range(start, start + total) if number not in numbers]
        if lacking:
            own, of = widths[key]
            prefix = "" if parent == "." else f"{parent}/"
            named = ", ".join(f"{prefix}{before}{number:0{own}}-of-{total:0{of}}{after}" for number in lacking[:NAMED])
            more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
            verb = "is" if len(lacking) == 1 else "are"
            told.append(f"{len(lacking)} of {total} numbered files {verb} missing: {named}{more}")
    return told
