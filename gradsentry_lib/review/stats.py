"""How often people overruled which kind of evidence: what a place's own false positives are, by kind.

A row counts once, by the last word in force on it, under the evidence of the verdict that the word was said on. What
nobody decided on says nothing, so it is left out: the share is of decided rows alone.
"""

from collections import Counter
from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.detection.gate import WATCHED
from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.pipeline.decided import load_decided, load_evidence
from gradsentry_lib.report.evidence import STATISTICS
from gradsentry_lib.store import Decision, Ledger, Override, open_ledger
from gradsentry_lib.store.paths import Store


@dataclass(frozen=True)
class Overruled:
    """Rows with one kind of evidence on which people decided: `decided` = `released` + `kept_out`."""

    evidence: str
    released: int
    kept_out: int

    @property
    def decided(self) -> int:
        return self.released + self.kept_out


def overruled(store: Store) -> list[Overruled]:
    """The most decided kinds first. A batch whose evidence is damaged is left out."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        words = {key: ledger.active_overrides(key) for key in ledger.batch_keys()} if store.ledger.exists() else {}
        shown = {key: _before(ledger, key, said) for key, said in words.items() if said}
    count: Counter[tuple[str, str]] = Counter()
    counted: set[str] = set()
    for decision, said in shown.values():
        if decision is None:
            continue
        try:
            kinds = _kinds(store, decision, {word.sample_id for word in said} - counted)
        except (GradSentryError, OSError):
            continue
        for word in said:
            if word.sample_id in kinds:
                count[kinds[word.sample_id], word.action] += 1
                counted.add(word.sample_id)
    found = [Overruled(kind, count[kind, "release"], count[kind, "flag"]) for kind in {kind for kind, _ in count}]
    return sorted(found, key=lambda each: (-each.decided, each.evidence))


def _before(ledger: Ledger, key: str, said: list[Override]) -> tuple[Decision | None, list[Override]]:
    """The decision that people had before them when the first of the words was said."""
    decisions = ledger.find(Decision, batch_key=key)
    first = min(word.seq for word in said)
    return next((each for each in reversed(decisions) if each.seq < first), None), said


def _kinds(store: Store, decision: Decision, wanted: set[str]) -> dict[str, str]:
    """Sample id to the kind of evidence, of rows that were not plainly clean."""
    decided = load_decided(store, decision.batch_key, decision.decision_key)
    groups = load_evidence(store, decided).groups if decided else ()
    of = {row: group for group in reversed(groups) for row in group.rows}
    table = pq.read_table(decision.verdicts.file)
    names = [name for name in ("row", "sample_id", "verdict", "reasons", WATCHED) if name in table.column_names]
    rows = table.select(names).filter(pc.is_in(table["sample_id"], pc.cast(list(wanted), "string"))).to_pylist()
    return {
        row["sample_id"]: _kind(row, of.get(row["row"]))
        for row in rows
        if row["verdict"] != "clean" or row.get(WATCHED) or row["row"] in of
    }


def _kind(row: dict, group: Group | None) -> str:
    if row["verdict"] == "unscored":
        return "no score"
    if group is not None and group.watched:
        return "watched"
    if group is not None:
        statistic = group.figures.get("statistic")
        return f"trigger, by {STATISTICS.get(statistic, statistic)}" if statistic else "trigger"
    reasons = " ".join(row["reasons"])
    return "control tokens" if "control token" in reasons else "entropy" if "entropy" in reasons else "other"
