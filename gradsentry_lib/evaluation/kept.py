"""Parts of a long run, each kept in a file as soon as it is made: a run that is stopped goes on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradsentry_lib.files import read_json, sha256_json, write_text


class Kept:
    """JSON values in a folder, one a file, found again by what they were made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: set[Path] = set()
        self.found = 0  # of those asked for, how many had been made before

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, or gave in an earlier run for the same key (a JSON value: all that decides the outcome).
        It comes out of the file in either case, so that a run that was stopped and one that was not say the same."""
        path = self.folder / f"{sha256_json(key)[:32]}.json"
        self.asked.add(path)
        if path.exists():
            self.found += 1
        else:
            write_text(path, json.dumps(make(), allow_nan=False))  # keys in their order: tables are made of them
        return read_json(path)

    def drop(self) -> None:
        """Removes what was asked for: the run is through, and its results stand somewhere else."""
        for path in self.asked:
            path.unlink(missing_ok=True)
