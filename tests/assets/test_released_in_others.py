"""What the UI says of rows that somebody put back in another batch."""

from pathlib import Path

from gradsentry_assets import presentation
from gradsentry_lib.pipeline.decided import load_evidence
from gradsentry_lib.pipeline.publish import gate_of
from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.paths import Store
from tests.store import builder


def test_decision_and_publication_say_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    alpha = builder.read_in(store, "alpha")
    first, _ = builder.decide_and_publish(store, alpha, builder.score(store, alpha))
    beta = builder.read_in(store, "beta", start=30)
    decided, published = builder.decide_and_publish(store, beta, builder.score(store, beta, seed=1))

    def shown() -> list[str | None]:
        told = (
            presentation.of_decision(decided, load_evidence(store, decided), store),
            presentation.of_publication(beta, decided, published, gate_of(decided, store), store),
        )
        return [metadata.get("released_in_others") for metadata in told]

    assert shown() == [None, None]
    sample = builder.sample_ids(store, alpha, "clean", first)[-1]  # the last of alpha is in beta, too
    word = Override(
        sample_id=sample, action="release", made_by="ana", reason="fine\x1b[2J\u202e", batch_key=alpha.batch_key
    )
    with open_ledger(store.ledger) as ledger:
        ledger.record_overrides([word])
    for said in shown():
        assert said is not None
        assert said.startswith(f"1 row here was released by ana in batch {alpha.batch_key}: fine\\x1b[2J\\u202e (")
