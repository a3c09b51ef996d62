"""First step: a source's rows, read once, as samples and rejects."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from gradsentry_lib.errors import Damaged, SourceChanged
from gradsentry_lib.files import has_digest
from gradsentry_lib.pipeline.naming import batch_key, find_batch
from gradsentry_lib.pipeline.source_copy import hold
from gradsentry_lib.samples.observed import UnreadColumn
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.samples.source import Kind, Source
from gradsentry_lib.samples.table import write_samples
from gradsentry_lib.store import Batch, FileRef, Run, file_ref, open_ledger
from gradsentry_lib.store.paths import Store

HUB = "hub://"  # before the name of a data set that is no file here
READER = 2  # raised whenever the same bytes would be read as other samples: batches read before are read again


@dataclass(frozen=True)
class Ingested:
    """A batch as it was read, from the ledger's record of it: `read` = `readable` + `rejected`. Paths are absolute.

    `source`: where the source is; `options`: what else the reader was told (columns, roles, marker, turns, split,
    limit, encoding, separator, max_bytes). `layout`, `notes`: how rows were read; `unread`: columns with text that were
    not; `truncated`: how the source is cut short, "" where it is whole, None where nobody looked.
    """

    batch_key: str
    name: str
    kind: str
    source: str
    source_sha256: str
    options: Mapping[str, Any]
    samples_sha256: str
    read: int
    readable: int
    rejected: int
    layout: str = ""
    notes: tuple[str, ...] = ()
    unread: tuple[UnreadColumn, ...] = ()
    truncated: str | None = None
    reader: int = 1  # READER when it was read; version 0.3.0 did not say

    @classmethod
    def of(cls, batch: Batch) -> "Ingested":
        said = batch.reading
        return cls(
            batch_key=batch.batch_key,
            name=batch.name,
            kind=batch.kind,
            source=str(batch.source.path).removeprefix(HUB),
            source_sha256=batch.source.sha256,
            options={name: value for name, value in batch.options.items() if name != "unread"},
            samples_sha256=batch.samples.sha256,
            read=batch.rows_read,
            readable=batch.readable,
            rejected=batch.rejected_rows,
            layout=said["layout"] if said else "",
            notes=tuple(said["notes"]) if said else (),
            unread=tuple(UnreadColumn(**column) for column in said["unread"]) if said else (),
            truncated=batch.truncated or ("" if said else None),
            reader=said["reader"] if said else 1,
        )

    @contextmanager
    def held(self, store: Store) -> Iterator[Source]:
        """The source again, as it was judged, to write its rows out. Raises SourceChanged."""
        if self.kind == "hub":
            source = open_as_told(self.source, self.options)
            if source.sha256 != self.source_sha256:
                raise SourceChanged(self.source, self.source_sha256, source.sha256)
            yield source
            return
        with hold(Path(self.source), cast(Kind, self.kind), self.source_sha256, store) as copy:
            yield open_as_told(str(copy), self.options)


def ingest(source: Source, store: Store, run: Run, options: Mapping[str, Any] | None = None, key: str = "") -> Ingested:
    """Reads a source into the store. A batch that was read before, from the same bytes, and whose files are whole is
    not read again, unless by an earlier reader; where those bytes lie elsewhere now, they are published from there.

    `key`: what the batch is called, where it has a name already (see naming.py). Raises SourceChanged where the source
    is not what was opened any more, NameTaken where the key stands for another batch.
    """
    options = dict(options or {})
    key = key or batch_key(source, options, store)
    known = find_batch(key, source, options, store)
    if known is not None and is_current(known) and _is_whole(known):
        if known.source.path == _location(source):
            return Ingested.of(known)
        batch = replace(known, source=FileRef(_location(source), source.sha256), run_id=run.run_id)
    else:
        batch = _read(source, store, run, options, key)
    with open_ledger(store.ledger) as ledger:  # last: a batch that the ledger knows is whole
        ledger.record_run(run)
        ledger.record_batch(batch)
    return Ingested.of(batch)


def _read(source: Source, store: Store, run: Run, options: Mapping[str, Any], key: str) -> Batch:
    samples, rejected = store.samples(key), store.rejected(key)
    with _still(source, store) as still:
        counts = write_samples(still, samples, rejected, limit=options.get("limit"))
    unread = [asdict(column) for column in counts.unread]
    return Batch(
        batch_key=key,
        name=source.name,
        kind=source.kind,
        source=FileRef(_location(source), source.sha256),
        options={**options, **({"unread": [column["name"] for column in unread]} if unread else {})},
        samples=file_ref(samples),
        rejected=file_ref(rejected),
        rows_read=counts.read,
        readable=counts.readable,
        rejected_rows=counts.rejected,
        truncated=counts.truncated or None,
        reading={"reader": READER, "layout": counts.layout, "notes": list(counts.notes), "unread": unread},
        run_id=run.run_id,
    )


@contextmanager
def _still(source: Source, store: Store) -> Iterator[Source]:
    """The source, its rows read from bytes with its digest. A hub data set is pinned to its commit as it is."""
    if source.path is None:
        yield source
        return
    with hold(source.path, source.kind, source.sha256, store) as copy:
        parts = [replace(part, path=copy / part.path.relative_to(source.path)) for part in source.parts]
        yield replace(source, path=copy, parts=tuple(parts))


def samples_of(batch: Ingested, store: Store) -> Path:
    """The table of what was read of a batch, for who judges it. Raises Damaged where it holds something else now."""
    samples = store.samples(batch.batch_key)
    if not has_digest(samples, batch.samples_sha256):
        raise Damaged(samples, "is not what was read from the source")
    return samples


def is_current(batch: Batch) -> bool:
    """Whether today's reader would read the same samples from these bytes."""
    return batch.reading is not None and batch.reading["reader"] == READER


def _is_whole(batch: Batch) -> bool:
    """Whether samples and rejected rows are what the ledger has of them."""
    tables = [table for table in (batch.samples, batch.rejected) if table is not None]
    return all(has_digest(table.file, table.sha256) for table in tables)


def _location(source: Source) -> Path | str:
    """Where to find it again, as the ledger has it."""
    if source.path is not None:
        return source.path.absolute()
    assert source.hub is not None
    name, config, _ = source.hub
    return f"{HUB}{name}:{config}" if config else f"{HUB}{name}"


def load(store: Store, key: str) -> Ingested | None:
    """A batch as it was read last, None where it never was."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        found = ledger.find(Batch, batch_key=key)
    return Ingested.of(found[-1]) if found else None
