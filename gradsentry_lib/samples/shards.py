"""The files of a folder that are its data, and which of a numbered set are not there."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
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
TOTAL = re.compile(r"(.*?)(\d+)([-_. ]?of[-_. ]?)(\d+)(.*)", re.DOTALL)
HASH = re.compile(r"^-[0-9a-f]{8,}(?=\.|$)")  # each file's own, as the hub has it
NUMBER = re.compile(r"(?<!\d)\d{1,9}(?![0-9A-Za-z])")
DATE_BEFORE = re.compile(r"(?:19|20)\d\d[-_.]?(?:\d\d[-_.]?)?$")
DATE_AFTER = re.compile(r"[-_.](?:19|20)\d\d(?!\d)")
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
    """A sentence for each numbered set that is not complete: NNNNN-of-NNNNN, or part-0, part-1, part-3.

    Of a set that does not say how many there are, what is missing at its end can't be known.
    """
    of_total: dict[tuple[str, str, int], dict[int, int]] = {}  # before and after the number: number -> its digits
    plain: dict[tuple[str, str], dict[int, int]] = {}
    for name in names:
        file = PurePosixPath(name).name
        folder = name[: len(name) - len(file)]
        if found := TOTAL.fullmatch(file):
            before, number, of, total, after = found.groups()
            key = (folder + before, of + total + HASH.sub("-*", after), int(total))
            of_total.setdefault(key, {})[int(number)] = len(number)
            continue
        for found in NUMBER.finditer(file):
            before, after = file[: found.start()], file[found.end() :]
            if not (DATE_BEFORE.search(before) or DATE_AFTER.match(after)):
                plain.setdefault((folder + before, after), {})[int(found[0])] = len(found[0])
    return [*_of_total(of_total), *_gaps(plain)]


def _of_total(sets: Mapping[tuple[str, str, int], Mapping[int, int]]) -> Iterator[str]:
    for (before, after, total), digits in sets.items():
        start = 1 if 0 not in digits and total in digits else 0
        if total > 1_000_000:
            yield f"{before}*{after} is numbered as one of {total} files, which nobody has"
            continue
        if lacking := [number for number in range(start, start + total) if number not in digits]:
            yield _sentence(lacking, total, before, after, digits)


def _gaps(sets: Mapping[tuple[str, str], Mapping[int, int]]) -> Iterator[str]:
    """Files that are alike but for a number, which begins with 0 or 1 and leaves some out: at least two of them where
    it is padded with zeros, else three, since two names may have a number for any reason."""
    for (before, after), digits in sets.items():
        first, last = min(digits), max(digits)
        padded = any(len(str(number)) < width for number, width in digits.items())
        if first > 1 or last > 2 * len(digits) or len(digits) < (2 if padded else 3):
            continue
        if lacking := [number for number in range(first, last) if number not in digits]:
            yield _sentence(lacking, last + 1 - first, before, after, digits)


def _sentence(lacking: list[int], total: int, before: str, after: str, digits: Mapping[int, int]) -> str:
    width = min(digits.values())
    named = ", ".join(f"{before}{number:0{width}}{after}" for number in lacking[:NAMED])
    more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    verb = "is" if len(lacking) == 1 else "are"
    return f"{len(lacking)} of {total} numbered files {verb} missing: {named}{more}"
