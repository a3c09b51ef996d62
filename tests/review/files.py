"""decisions.json as a page writes it, made in Python: the browser tests show that the page's own are the same."""

import json
from typing import Any

from gradsentry_lib.review.decisions import FORMAT, Decided, Decisions, digest_of, whole_digest
from gradsentry_lib.store import open_ledger, overrides_digest
from tests.review.attacked import Attacked


def decided_file(own: Attacked, *decisions: tuple[str, str, list[str]], scope: str = "all") -> dict[str, Any]:
    """decisions: (action, reason, sample ids)."""
    with open_ledger(own.store.ledger, read_only=True) as ledger:
        words, seq = overrides_digest(ledger.active_overrides(own.batch.batch_key)), ledger.head().seq
    page = "ab" * 32
    made = []
    for number, (action, reason, samples) in enumerate(decisions):
        each = Decided(action, scope, reason, f"decision {number}", tuple(samples), "")  # type: ignore[arg-type]
        made.append({**vars(each), "samples": list(samples), "sha256": digest_of(page, number, each)})
    whole = {
        "format": FORMAT,
        "batch": own.batch.batch_key,
        "decision": own.decided.number,
        "verdicts_sha256": own.decided.verdicts_sha256,
        "words_digest": words,
        "seq": seq,
        "page": page,
        "decisions": made,
    }
    parts = tuple(Decided(**{**each, "samples": tuple(each["samples"])}) for each in made)
    return {**whole, "sha256": whole_digest(Decisions(**{**whole, "decisions": parts}, sha256=""))}


def as_bytes(told: dict[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode()
