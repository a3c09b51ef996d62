"""Batches that an earlier version read, read again: the same bytes, the same name, by today's reader."""

from collections.abc import Iterator

from gradsentry_lib.errors import GradSentryError, SourceChanged
from gradsentry_lib.pipeline import manifest
from gradsentry_lib.pipeline.ingest import READER, Ingested, ingest, load
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.store import Batch, Run, current_run, open_ledger
from gradsentry_lib.store.paths import Store


def upgrade(store: Store) -> Iterator[tuple[str, Ingested | GradSentryError | None]]:
    """Every batch, in the order of arrival: as it was read again, why it could not be, or None where it need not be."""
    if not store.ledger.exists():
        return
    run = current_run("upgrade")
    with open_ledger(store.ledger) as ledger:  # for writing: brings its tables up to this version, too
        batches = [ledger.batch(key) for key in ledger.batch_keys()]
    for batch in batches:
        try:
            yield batch.batch_key, _read_again(batch, store, run)
        except GradSentryError as error:
            yield batch.batch_key, error


def _read_again(batch: Batch, store: Store, run: Run) -> Ingested | None:
    with store.alone(batch.batch_key):
        try:
            known = load(store, batch.batch_key)
        except manifest.Damaged:
            known = None
        if known is not None and known.reader == READER:
            return None
        place = str(batch.source.path).removeprefix("hub://")
        source = open_source(place, batch.options.get("columns"), batch.options.get("split"))
        if source.sha256 != batch.source.sha256:
            raise SourceChanged(place, batch.source.sha256, source.sha256)
        return ingest(source, store, run, batch.options, batch.batch_key)
