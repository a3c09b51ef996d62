"""First step: a source's rows, read once, as samples and rejects."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gradsentry_lib.files import has_digest, sha256_file, sha256_json, write_json
from gradsentry_lib.ledger import Batch, FileRef, Output, Run, file_ref, open_ledger
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.samples.source import Source
from gradsentry_lib.samples.table import write_samples
from gradsentry_lib.scan import manifest
from gradsentry_lib.scan.store import Store


@dataclass(frozen=True)
class Ingested:
    """A batch as it was read: `read` = `readable` + `rejected`. Paths are absolute; JSON beside the files (batch.json).

    `source`: where the source is; `options`: what else the reader was told (columns, split, limit, encoding, separator,
    max_bytes). `truncated`: how the source is cut short, "" where it is whole, None where nobody looked.
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
    truncated: str | None = None

    def open(self) -> Source:
        """The source again, to write its rows out."""
        return open_as_told(self.source, self.options)


def batch_key(source: Source, options: Mapping[str, Any]) -> str:
    """File stem and the first 8 hex digits of the source's SHA-256; other reading options make another batch."""
    told = {name: value for name, value in options.items() if value and name != "max_bytes"}  # a limit changes no row
    return f"{source.name}-{source.sha256[:8]}" + (f"-{sha256_json(told)[:4]}" if told else "")


def ingest(source: Source, store: Store, run: Run, options: Mapping[str, Any] | None = None) -> Ingested:
    """Reads a source into the store. A batch that was read before, from the same bytes, and whose files are whole is
    not read again."""
    options = dict(options or {})
    key = batch_key(source, options)
    folder = store.batch(key)
    known = manifest.whole(folder / "batch.json", Ingested, store)
    samples, rejected = folder / "samples.parquet", folder / "rejected.jsonl"
    if known is not None and known.truncated is not None and _tables_are_whole(store, key):
        return known
    counts = write_samples(source, samples, rejected, limit=options.get("limit"))
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
        truncated=counts.truncated,
    )
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        ledger.record_batch(
            Batch(
                batch_key=key,
                name=source.name,
                kind=source.kind,
                source=FileRef(source.path.absolute() if source.path else f"hub://{batch.source}", source.sha256),
                options=options,
                samples=FileRef(samples, batch.samples_sha256),
                rejected=file_ref(rejected),
                rows_read=counts.read,
                readable=counts.readable,
                rejected_rows=counts.rejected,
                truncated=counts.truncated or None,
                run_id=run.run_id,
            )
        )
        made = manifest.ref(folder / "batch.json", batch)
        ledger.record_output(Output(batch_key=key, decision=0, kind="batch", file=made, run_id=run.run_id))
    write_json(folder / "batch.json", asdict(batch))  # last: a batch with this file is whole
    return batch


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
