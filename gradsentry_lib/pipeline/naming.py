"""What a batch is called.

A batch *is* a source's content, by its full SHA-256, read in one way: as a kind of file, under a file stem, with some
options. Its key is a name for people and folders that begins like that digest. The ledger knows which batch has which
key, so the same batch keeps the key that it was first given, by an earlier version with fewer digits too, and another
one that would be called the same is refused: what was said of one batch must never count for another.
"""

from collections.abc import Mapping
from typing import Any

from gradsentry_lib.errors import UnusableInput
from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples.source import Source
from gradsentry_lib.store import Batch, open_ledger
from gradsentry_lib.store.paths import Store

DIGITS = 16  # hex digits of a source's SHA-256 in a new key
OPTION_DIGITS = 8
FEWEST = 8  # in keys of version 0.3.0


class NameTaken(UnusableInput):
    """Another batch has the key that this one would get. `sha256`: of the source that is refused."""

    def __init__(self, key: str, taken_by: str, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__(
            f"the name {key} stands for other content already (SHA-256 {taken_by}); this is {sha256}, "
            "and was not scanned: give its file another name"
        )


def batch_key(source: Source, options: Mapping[str, Any], store: Store) -> str:
    """The key of the batch that this source is when read with these options. Raises NameTaken."""
    key = new_key(source.name, source.sha256) + (
        f"-{sha256_json(_told(options))[:OPTION_DIGITS]}" * bool(_told(options))
    )
    if not store.ledger.exists():
        return key
    with open_ledger(store.ledger, read_only=True) as ledger:
        for batch in ledger.find(Batch, source_sha256=source.sha256):
            if _is_same(batch, source, options):
                return batch.batch_key
        for batch in ledger.find(Batch, batch_key=key):
            raise NameTaken(key, batch.source.sha256, source.sha256)
    return key


def find_batch(key: str, source: Source, options: Mapping[str, Any], store: Store) -> Batch | None:
    """The batch of that key as it was read last, None where it never was. Raises NameTaken where it is another one."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        found = ledger.find(Batch, batch_key=key)
    for batch in found:
        if not _is_same(batch, source, options):
            raise NameTaken(key, batch.source.sha256, source.sha256)
    return found[-1] if found else None


def new_key(name: str, sha256: str) -> str:
    return f"{name}-{sha256[:DIGITS]}"


def may_be(key: str, sha256: str) -> bool:
    """Whether a key, of this version or an earlier one, can belong to a source with this digest."""
    digits = key.rpartition("-")[2]
    return len(digits) >= FEWEST and sha256.startswith(digits)


def _is_same(batch: Batch, source: Source, options: Mapping[str, Any]) -> bool:
    mine = (source.name, source.kind, source.sha256, _told(options))
    return (batch.name, batch.kind, batch.source.sha256, _told(batch.options)) == mine


def _told(options: Mapping[str, Any]) -> dict[str, Any]:
    """What changes the rows that are read: a limit of size does not, nor what was seen while reading."""
    return {name: value for name, value in options.items() if value and name not in ("max_bytes", "unread")}
