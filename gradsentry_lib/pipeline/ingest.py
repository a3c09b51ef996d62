"""First step: a source's rows, read once, as samples and rejects."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from gradsentry_lib.errors import SourceChanged
from gradsentry_lib.files import has_digest, sha256_file, write_json
from gradsentry_lib.pipeline import manifest
from gradsentry_lib.pipeline.held import hold
from gradsentry_lib.pipeline.naming import batch_key, check_key
from gradsentry_lib.samples.observed import UnreadColumn
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.samples.source import Kind, Source
from gradsentry_lib.samples.table import write_samples
from gradsentry_lib.store import Batch, FileRef, Output, Run, file_ref, open_ledger
from gradsentry_lib.store.paths import Store

READER = 2  # raised whenever the same bytes would be read as other samples: batches read before are read again


@dataclass(frozen=True)
class Ingested:
    """A batch as it was read: `read` = `readable` + `rejected`. Paths are absolute; JSON beside the files (batch.json).

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
    check_key(key, source, options, store)
    folder = store.batch(key)
    known = manifest.whole(folder / "batch.json", Ingested, store)
    samples, rejected = folder / "samples.parquet", folder / "rejected.jsonl"
    if known is not None and known.reader == READER and known.truncated is not None and _tables_are_whole(store, key):
        if known.source == _location(source):
            return known
        batch = replace(known, source=_location(source))
    else:
        with _still(source, store) as still:
            counts = write_samples(still, samples, rejected, limit=options.get("limit"))
        batch = Ingested(
            batch_key=key,
            name=source.name,
            kind=source.kind,
            source=_location(source),
            source_sha256=source.sha256,
            options=options,
            samples_sha256=sha256_file(samples),
            read=counts.read,
            readable=counts.readable,
            rejected=counts.rejected,
            layout=counts.layout,
            notes=counts.notes,
            unread=counts.unread,
            truncated=counts.truncated,
            reader=READER,
        )
    _record(batch, source, store, run)
    return batch


def _record(batch: Ingested, source: Source, store: Store, run: Run) -> None:
    folder = store.batch(batch.batch_key)
    unread = {"unread": [column.name for column in batch.unread]} if batch.unread else {}
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        ledger.record_batch(
            Batch(
                batch_key=batch.batch_key,
                name=batch.name,
                kind=batch.kind,
                source=FileRef(source.path.absolute() if source.path else f"hub://{batch.source}", source.sha256),
                options={**batch.options, **unread},
                samples=FileRef(folder / "samples.parquet", batch.samples_sha256),
                rejected=file_ref(folder / "rejected.jsonl"),
                rows_read=batch.read,
                readable=batch.readable,
                rejected_rows=batch.rejected,
                truncated=batch.truncated or None,
                run_id=run.run_id,
            )
        )
        made = manifest.ref(folder / "batch.json", batch)
        output = Output(batch_key=batch.batch_key, decision=0, kind="batch", file=made, run_id=run.run_id)
        ledger.record_output(output)
    write_json(folder / "batch.json", asdict(batch))  # last: a batch with this file is whole


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
    samples = store.batch(batch.batch_key) / "samples.parquet"
    if not has_digest(samples, batch.samples_sha256):
        raise manifest.Damaged(samples, "is not what was read from the source")
    return samples


def _tables_are_whole(store: Store, key: str) -> bool:
    """Whether samples and rejected rows are what the ledger has of them."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        batch = ledger.batch(key)
    tables = [table for table in (batch.samples, batch.rejected) if table is not None]
    return all(has_digest(table.file, table.sha256) for table in tables)


def _location(source: Source) -> str:
    """What `open_source` takes to find it again."""
    if source.path is not None:
        return str(source.path.absolute())
    assert source.hub is not None
    name, config, _ = source.hub
    return f"{name}:{config}" if config else name


def load(store: Store, key: str) -> Ingested | None:
    """What batch.json says, None where the batch was not read yet. Raises Damaged."""
    return manifest.read(store.batch(key) / "batch.json", Ingested, store)
