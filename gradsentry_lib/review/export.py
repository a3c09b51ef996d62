"""The groups of a batch for other teams: how to find them, not what they say. Schema: pipeline/groups.schema.json.

A trigger is given as its words, which is what others look for. Of a payload there are digests alone: of its words, and
of every five of them in a row, so that a near copy is found by whoever has one and cannot be read by whoever has not.
"""

from typing import Any

from gradsentry_lib.detection.known import FORMAT, payload_json
from gradsentry_lib.pipeline.decided import Decided, load_evidence
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.store.paths import Store


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
                **payload_json(group.payload),
                "rows": len(group.rows),
                "carriers": group.figures.get("carriers"),
                "statistic": group.figures.get("statistic"),
                "log10_p": group.figures.get("log10_p"),
                "watched": group.watched,
            }
            for group in groups
            if group.trigger or not group.watched  # alike answers alone are perhaps boilerplate: no poison to be known
        ],
    }
