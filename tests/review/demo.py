"""A store with five batches of all states, for people to look at: python -m tests.review.demo FOLDER"""

import sys
from pathlib import Path

from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.pipeline.ingest import ingest
from gradsentry_lib.pipeline.listing import listing
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.paths import Store
from tests.review.attacked import HONEST, PLANTED, RUN, attack


def main(home: Path) -> None:
    if (home / "ledger.duckdb").exists():
        return
    store = Store(home)
    attack(store, "waiting", honest=250, planted=PLANTED)
    attack(store, "clean", seed=12, honest=150, planted=())
    decided = attack(store, "decided", seed=13, planted=(HONEST,))
    words = [
        Override(sample_id=row["id"], action="release", made_by="ana", reason="recipes are fine")
        for row in listing(store, decided.batch, decided.decided).rows()
    ]
    with open_ledger(store.ledger) as ledger:
        ledger.record_overrides(words)
    refused = attack(store, "refused", seed=14, honest=120, limits=GateLimits(max_flagged=0.05))
    accepted = attack(store, "accepted", seed=15, honest=120, limits=GateLimits(max_flagged=0.05))
    with open_ledger(store.ledger) as ledger:
        ledger.accept_gate(accepted.batch.batch_key, "ben", "half of it is a test of ours")
    assert refused.decided.gate_passed is False
    path = home / "landing" / "unread.jsonl"
    path.write_text('{"prompt": "not scored yet", "response": "wait"}\n', encoding="utf-8")
    ingest(open_source(str(path)), store, RUN)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
