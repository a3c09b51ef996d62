"""Finished files, copied to where others look for them: a folder, or a URL that fsspec writes to (s3, gs, az, ...).

The store itself stays on this machine: the ledger is a DuckDB file that several processes write under a file lock,
which object storage does not have (docs/decisions/0005-local-ledger.md).
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradsentry_lib.files import atomic_path
from gradsentry_lib.pipeline.fetch import is_url, remote


def deliver(files: Mapping[str, Path], target: str, overwrite: bool = False) -> dict[str, str]:
    """Copies files and folders below `target` under their names; gives each one's address.

    The clean copy goes last, so that who waits for it finds the rest there. An object store shows an object only when
    it is whole; on a file system each file is renamed into place. Raises FileExistsError, before anything is written,
    where a name is taken; BadInput where the place can't be reached.
    """
    names = sorted(files, key=lambda name: (name.startswith("clean"), name))
    if not is_url(target):
        folder = Path(target).expanduser()
        _refuse_taken([folder / name for name in names], overwrite)
        for name in names:
            for path, below in _members(files[name], name):
                with atomic_path(folder / below) as temporary:
                    shutil.copyfile(path, temporary)
        return {name: str(folder / name) for name in names}
    with remote(target) as place:
        root = place
        _refuse_taken([root / name for name in names], overwrite)
        for name in names:
            for path, below in _members(files[name], name):
                address = root / below
                address.parent.mkdir(parents=True, exist_ok=True)
                with path.open("rb") as read, address.open("wb") as write:
                    shutil.copyfileobj(read, write, 1 << 20)
        return {name: str(root / name) for name in names}


def _refuse_taken(places: list[Any], overwrite: bool) -> None:
    taken = [] if overwrite else [str(place) for place in places if place.exists()]
    if taken:
        raise FileExistsError(f"{taken[0]} is there already" + f" and {len(taken) - 1} more" * (len(taken) > 1))


def _members(path: Path, name: str) -> list[tuple[Path, str]]:
    if not path.is_dir():
        return [(path, name)]
    return [(file, f"{name}/{file.relative_to(path).as_posix()}") for file in sorted(path.rglob("*")) if file.is_file()]
