"""Stores of version 0.3.0 brought over: their batches read again by today's reader, what their decisions found taken
into the ledger, and the JSON files of each step, which said all of it twice, removed.

Batch by batch; of each, its files go last. So it may be killed anywhere and started again.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import GradSentryError, SourceChanged
from gradsentry_lib.files import has_digest
from gradsentry_lib.pipeline.ingest import HUB, Ingested, ingest, is_current
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.store import Batch, Decision, Findings, Ledger, Run, current_run, open_ledger
from gradsentry_lib.store.paths import LAYOUT, DecisionFiles, Store


def upgrade(store: Store) -> Iterator[tuple[str, Ingested | GradSentryError | None]]:
    """Every batch, in the order of arrival: as it was read again, why it could not be, or None where it need not be."""
    if not store.ledger.exists():
        return
    run = current_run("upgrade")
    with open_ledger(store.ledger) as ledger:  # for writing: brings its tables up to this version, too
        batches = [ledger.batch(key) for key in ledger.batch_keys()]
    for batch in batches:
        with store.alone(batch.batch_key):
            with open_ledger(store.ledger) as ledger:
                _keep_findings(ledger, batch.batch_key, run)
            outcome: Ingested | GradSentryError | None = None
            try:
                outcome = None if is_current(batch) else _read_again(batch, store, run)
            except GradSentryError as error:
                outcome = error
            for path in store.step_files(batch.batch_key):
                path.unlink()
        yield batch.batch_key, outcome
    with open_ledger(store.ledger) as ledger:
        if ledger.layout < LAYOUT:
            ledger.set_layout(LAYOUT)


def _read_again(batch: Batch, store: Store, run: Run) -> Ingested:
    place = str(batch.source.path).removeprefix(HUB)
    source = open_source(place, batch.options.get("columns"), batch.options.get("split"))
    if source.sha256 != batch.source.sha256:
        raise SourceChanged(place, batch.source.sha256, source.sha256)
    return ingest(source, store, run, batch.options, batch.batch_key)


def _keep_findings(ledger: Ledger, batch_key: str, run: Run) -> None:
    """What decisions of version 0.3.0 say beside their verdicts, from files that are what was recorded of them."""
    for decision in ledger.find(Decision, batch_key=batch_key):
        if ledger.find(Findings, decision=decision.seq):
            continue
        files = DecisionFiles(decision.verdicts.file.parent)
        said, groups = _read(ledger, files.said), _read(ledger, files.groups)
        if said is None and groups is None:
            continue
        remarks = tuple(map(str, said["remarks"])) if isinstance(said, dict) and "remarks" in said else ()
        ledger.record_run(run)
        ledger.record_findings(
            Findings(
                batch_key=batch_key,
                decision=decision.seq,
                groups=tuple(groups or ()),
                remarks=remarks,
                run_id=run.run_id,
            )
        )


def _read(ledger: Ledger, path: Path) -> Any:
    """A JSON file; None where it is not what the ledger has of it."""
    digest = ledger.recorded(path)
    return json.loads(path.read_bytes()) if digest and has_digest(path, digest) else None
