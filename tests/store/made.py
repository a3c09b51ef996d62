"""Stores to look at, and stores to tamper with."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradsentry_lib.pipeline.decide import Decided
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.pipeline.score import Scored
from gradsentry_lib.store import GateAcceptance, Override, open_ledger
from gradsentry_lib.store.paths import Store
from gradsentry_lib.store.signing import make_keys
from tests.store import builder


@dataclass(frozen=True)
class Made:
    """A store with two batches: `alpha` decided twice (a release came between), `beta` accepted at a failed gate."""

    store: Store
    alpha: Ingested
    beta: Ingested
    scored: Scored  # alpha
    first: Decided
    second: Decided
    strict: Decided
    released: str
    acceptance: GateAcceptance
    key: Path  # private; the public one has .pub behind it

    @property
    def public(self) -> Path:
        return self.key.with_name(self.key.name + ".pub")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("ledger")
    store, key = Store(folder / "store"), folder / "key"
    make_keys(key, folder / "key.pub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADSENTRY_SIGNING_KEY", str(key))
        alpha = builder.read_in(store, "alpha")
        scored = builder.score(store, alpha)
        first, _ = builder.decide_and_publish(store, alpha, scored)
        released = builder.sample_ids(store, alpha, "flagged", first)[0]
        word = Override(sample_id=released, action="release", made_by="ana", reason="a false alarm")
        with open_ledger(store.ledger) as ledger:
            ledger.record_overrides([word])
        second, _ = builder.decide_and_publish(store, alpha, scored)

        beta = builder.read_in(store, "beta", start=30)  # shares half of its rows with alpha
        strict = builder.decide(beta, builder.score(store, beta, seed=1), store, builder.RUN, builder.STRICT)
        with open_ledger(store.ledger) as ledger:
            acceptance = ledger.accept_gate(beta.batch_key, "ben", "looked at every row")
        builder.publish(beta, strict, store, builder.RUN)
    yield Made(store, alpha, beta, scored, first, second, strict, released, acceptance, key)


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    """A copy of the store, at another place, to tamper with."""
    shutil.copytree(made.store.home, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Where a new ledger may be made."""
    return tmp_path / "new" / "ledger.duckdb"
