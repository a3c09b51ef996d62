"""What a step says of its work, in JSON beside its files: batch.json, scores.json, decision.json.

The ledger has the digest of such a file before the file itself is there, so one that was torn, edited or left over by
a run that was killed is told from a whole one. The step that made it does its work again then; whoever only reads it
is told to scan again.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gradsentry_lib.errors import DamagedStore
from gradsentry_lib.files import has_digest, json_text, sha256_file
from gradsentry_lib.store import FileRef, open_ledger
from gradsentry_lib.store.paths import Store

Made = TypeVar("Made")


class Damaged(DamagedStore):
    """A file of the store is not what the step that made it left there."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}: scan the batch again")


def ref(path: Path, made: Any) -> FileRef:
    """The file that `write_json(path, asdict(made))` is going to make, for the ledger."""
    return FileRef(path, hashlib.sha256(json_text(asdict(made)).encode()).hexdigest())


def read(path: Path, kind: type[Made], store: Store) -> Made | None:
    """What the file says, as the dataclass `kind`; None where there is none. Raises Damaged."""
    if not path.exists():
        return None
    check(store, path)
    return _parse_as(path, kind)


def whole(path: Path, kind: type[Made], store: Store) -> Made | None:
    """What the file says where the ledger has it just so; None where the step has to do its work again."""
    (digest,) = _recorded(store, path)
    if digest is None or not has_digest(path, digest):
        return None
    try:
        return _parse_as(path, kind)
    except Damaged:
        return None


def check(store: Store, *paths: Path) -> None:
    """Raises Damaged where a file is gone, or not what the ledger has of it. One that it does not know may pass: in a
    store of an earlier version."""
    for path, digest in zip(paths, _recorded(store, *paths), strict=True):
        if not path.exists():
            raise Damaged(path, "is gone")
        if digest and sha256_file(path) != digest:
            raise Damaged(path, "is not what was recorded of it")


def _parse_as(path: Path, kind: type[Made]) -> Made:
    return parse(path, lambda data: TypeAdapter(kind).validate_json(data, strict=True))


def parse(path: Path, make: Callable[[bytes], Made]) -> Made:
    """What `make` makes of a file's bytes. Raises Damaged where it can't."""
    try:
        return make(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise Damaged(path, f"is damaged ({'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(path, f"is damaged ({type(error).__name__}: {error})") from error


def _recorded(store: Store, *paths: Path) -> list[str | None]:
    with open_ledger(store.ledger, read_only=True) as ledger:
        return [ledger.recorded(path) for path in paths]
