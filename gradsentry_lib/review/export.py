"""The groups of a batch for other teams: how to find them, not what they say. Schema: groups.schema.json.

A trigger is given as its words, which is what others look for. Of a payload there are digests alone: of its words, and
of every five of them in a row, so that a near copy is found by whoever has one and cannot be read by whoever has not.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from gradsentry_lib.pipeline.decided import Decided, load_evidence
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.samples.words import TOKEN
from gradsentry_lib.store.paths import Store

FORMAT = "gradsentry groups 1"
SHINGLE = 5  # words
SCHEMA = Path(__file__).with_name("groups.schema.json")


def groups_json(store: Store, batch: Ingested, decided: Decided) -> dict[str, Any]:
    groups = load_evidence(store, decided).groups
    return {
        "format": FORMAT,
        "batch": batch.batch_key,
        "source_sha256": batch.source_sha256,
        "policy": decided.policy,
        "rows_read": batch.read,
        "groups": [
            {
                "wordings": [str(wording) for wording in group.figures.get("wordings", ())],
                "payload_sha256": digest(words(group.payload)) if group.payload else "",
                "payload_shingles": sorted(shingles(group.payload)),
                "rows": len(group.rows),
                "carriers": group.figures.get("carriers"),
                "statistic": group.figures.get("statistic"),
                "log10_p": group.figures.get("log10_p"),
                "watched": group.watched,
            }
            for group in groups
        ],
    }


def words(text: str) -> list[str]:
    return [word.lower() for word in TOKEN.findall(text)]


def shingles(text: str) -> set[str]:
    """16 hex digits for every five words in a row; of a shorter text for all of it."""
    said = words(text)
    if not said:
        return set()
    runs = [said[i : i + SHINGLE] for i in range(max(len(said) - SHINGLE + 1, 1))]
    return {digest(run)[:16] for run in runs}


def digest(said: list[str]) -> str:
    return hashlib.sha256(" ".join(said).encode("utf-8", "replace")).hexdigest()


def schema() -> dict[str, Any]:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))
