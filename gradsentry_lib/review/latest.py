"""The latest decision on a batch, with what was read of it."""

from gradsentry_lib.errors import NotJudgedYet
from gradsentry_lib.pipeline.decided import Decided, load_decided
from gradsentry_lib.pipeline.ingest import Ingested, load
from gradsentry_lib.store import reading
from gradsentry_lib.store.paths import Store


def latest(store: Store, key: str) -> tuple[Ingested, Decided]:
    """`key`: of a batch in the ledger, so no path. Raises NotJudgedYet where it has no verdicts."""
    with reading(store.ledger) as ledger:
        decision = ledger.decision(ledger.batch(key).batch_key)
        batch, decided = load(store, key), load_decided(store, key, decision.decision_key)
    if batch is None or decided is None:
        raise NotJudgedYet(f"the verdicts of {key} are gone from the store: scan the batch again")
    return batch, decided
