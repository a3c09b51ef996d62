"""Heads of the chain that were noted down elsewhere, and whether the ledger still continues from them.

A chain proves that what is in it follows one from another. It can't prove that it is all there: cut off at its end, or
replaced by an older copy of the whole store, it is a chain like any other. A head that was kept where nobody who can
write to the store can reach proves just that.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gradsentry_lib import __version__
from gradsentry_lib.errors import BadInput, UnusableFile
from gradsentry_lib.store.journal import Head

LINE = re.compile(r"gradsentry-head 1 version=(\S+) store=([0-9a-f]{32}) seq=(\d+) sha256=([0-9a-f]{64}) time=(\S+)")
SHORT = re.compile(r"(\d+):([0-9a-f]{64})(?: (\S+))?")  # a line of ledger.heads
STORE = 32  # hex digits of the first record's digest that name a store
LARGEST = 64 << 20  # bytes of a file of heads


@dataclass(frozen=True)
class NotedHead:
    """A head as somebody kept it. `store`: the store's id, `time`: when it was noted; empty where the note has none."""

    seq: int
    sha256: str
    store: str = ""
    time: str = ""

    def __str__(self) -> str:
        return f"record {self.seq}" + (f" of {self.time}" if self.time else "")


def line(head: Head, store: str) -> str:
    """The one line to keep elsewhere."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"gradsentry-head 1 version={__version__} store={store} seq={head.seq} sha256={head.sha256} time={now}"


def store_id(lines: Mapping[int, str]) -> str:
    """Names a store by its first record, which no two stores have in common; empty while there is none."""
    return lines.get(1, "")[:STORE]


def read_heads(told: Sequence[str]) -> list[NotedHead]:
    """From lines (`gradsentry audit head`, ledger.heads), files of such lines, or attestations that were handed out.
    Raises BadInput for anything else."""
    return [head for item in told for head in _read(item)]


def _read(item: str) -> Iterator[NotedHead]:
    item = item.strip()
    if not (LINE.search(item) or SHORT.fullmatch(item)):
        yield from _read_file(item)
        return
    yield _parse(item)


def _read_file(name: str) -> Iterator[NotedHead]:
    try:
        path = Path(name)
        if not path.is_file():
            raise UnusableFile(f"--head {name[:80]!r} is no line of `gradsentry audit head`, and no file of such lines")
        if path.stat().st_size > LARGEST:
            raise UnusableFile(f"{path} is too large for a file of heads")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # no UTF-8, a NUL in the name
        raise UnusableFile(f"--head {name[:80]!r} can't be read: {error}") from error
    if text.lstrip().startswith("{"):
        yield _of_attestation(path, text)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UnusableFile(f"{path} holds no head")
    for number, told in enumerate(lines, start=1):
        try:
            yield _parse(told)
        except BadInput as error:
            raise UnusableFile(f"{path}, line {number}: {error}") from error


def _of_attestation(path: Path, text: str) -> NotedHead:
    try:
        made = json.loads(text)
        pinned = next(item for item in made["predicate"]["runDetails"]["byproducts"] if item["name"] == "ledger")
        time = made["predicate"]["runDetails"]["metadata"]["finishedOn"]
        return NotedHead(int(pinned["annotations"]["seq"]), str(pinned["digest"]["sha256"]), "", str(time))
    except (ValueError, KeyError, TypeError, RecursionError, StopIteration) as error:
        raise UnusableFile(f"{path} is no attestation that names a head") from error


def _parse(told: str) -> NotedHead:
    if found := LINE.search(told):  # in a log there is something before it
        _, store, seq, sha256, time = found.groups()
        return NotedHead(int(seq), sha256, store, time)
    if found := SHORT.fullmatch(told.strip()):
        return NotedHead(int(found[1]), found[2], "", found[3] or "")
    raise UnusableFile(f"{told.strip()[:80]!r} is no line of `gradsentry audit head`")


def broken(noted: Sequence[NotedHead], lines: Mapping[int, str]) -> Iterator[str]:
    """What is missing or replaced, in words, for every head that the chain does not continue from.

    `lines`: the journal, number to digest.
    """
    here, last = store_id(lines), max(lines, default=0)
    held = max((head.seq for head in noted if lines.get(head.seq) == head.sha256), default=0)
    for head in dict.fromkeys(noted):
        if head.store and head.store != here:
            yield f"is another store's: the head of {head} is of store {head.store}, this one is {here or 'empty'}"
        elif head.seq > last:
            count = head.seq - last
            missing = f"record {head.seq} is" if count == 1 else f"records {last + 1} to {head.seq} are"
            yield (
                f"ends before {head}, at record {last}: {missing} missing. They were cut off, or an older copy of the "
                "store was put back"
            )
        elif head.seq and lines.get(head.seq) != head.sha256:
            yield (
                f"does not contain the head of {head}, which it once had: the chain was made anew from some record "
                f"after {held} on, at the latest from {head.seq}"
            )
