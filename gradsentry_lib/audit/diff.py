"""Two decisions on one batch: which rows changed their verdict, and what changed to cause it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from gradsentry_lib.errors import DamagedStore, NotFound
from gradsentry_lib.store.ledger import Ledger, open_ledger
from gradsentry_lib.store.records import Decision, Run, Scan, ThresholdRecord
from gradsentry_lib.store.views import glob_literal

ROWS = """
SELECT coalesce(a.row, b.row), coalesce(a.sample_id, b.sample_id), a.verdict, b.verdict, a.entropy, b.entropy,
    a.reasons, b.reasons
FROM read_parquet(?) AS a FULL JOIN read_parquet(?) AS b ON a.row = b.row
WHERE a.verdict IS DISTINCT FROM b.verdict ORDER BY 1
"""
NAMES = (
    "row", "sample_id", "verdict_before", "verdict_after", "entropy_before", "entropy_after",
    "reasons_before", "reasons_after",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A setting that is not the same in both, by its path: `scoring.top_k`, `threshold.tau`, `model`."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """From decision `before` to `after`. A row in `rows` tells its verdicts, entropies, reasons and `cause`."""

    before: Decision
    after: Decision
    changes: tuple[Change, ...]
    rows: tuple[Mapping[str, Any], ...]


def diff(path: Path, before: int, after: int) -> Difference:
    """Compares two decisions by their numbers in the ledger. Raises BadInput where they are on different batches."""
    with open_ledger(path, read_only=True) as ledger:
        decisions = [ledger.get(Decision, before), ledger.get(Decision, after)]
        first, second = decisions
        if first.batch_key != second.batch_key:
            raise NotFound(
                f"decision {before} is on batch {first.batch_key}, decision {after} on {second.batch_key}: "
                "only decisions on one batch can be compared"
            )
        told_before, told_after = (_settings(ledger, decision) for decision in decisions)
    for decision in decisions:
        if not decision.verdicts.file.exists():
            raise DamagedStore(f"the verdicts of decision {decision.seq} are gone: {decision.verdicts.path}")
    changes = tuple(
        Change(name, told_before.get(name), told_after.get(name))
        for name in sorted(told_before.keys() | told_after.keys())
        if told_before.get(name) != told_after.get(name)
    )
    files = [glob_literal(decision.verdicts.file) for decision in decisions]
    with duckdb.connect() as connection:
        lines = [dict(zip(NAMES, values, strict=True)) for values in connection.execute(ROWS, files).fetchall()]
    words = _words(first), _words(second)
    rows = tuple({**line, "cause": _cause(line, words, changes)} for line in lines)
    return Difference(first, second, changes, rows)


def _settings(ledger: Ledger, decision: Decision) -> dict[str, Any]:
    """Everything that a verdict can depend on, flat."""
    scan = ledger.get(Scan, decision.scan)
    threshold = ledger.get(ThresholdRecord, decision.threshold)
    runs = ledger.find(Run, run_id=decision.run_id)
    told: dict[str, Any] = {
        "source": scan.source_sha256,
        "samples": scan.samples_sha256,
        "model": scan.model,
        "model fingerprint": scan.model_fingerprint,
        "tokenizer fingerprint": scan.tokenizer_fingerprint,
        "device": scan.device,
        "scoring": scan.scoring,
        "scores": scan.scores.sha256,
        **decision.settings,
        "policy": decision.policy,
        "threshold": {**threshold.config, "tau": threshold.tau, "method": threshold.method},
        "overrides": {word["sample_id"]: f"{word['action']} by {word['made_by']}" for word in decision.overrides},
        "code": {"gradsentry": runs[-1].code_version, **runs[-1].packages} if runs else {},
    }
    return dict(_flat(told))


def _flat(value: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        if isinstance(item, Mapping):
            found += _flat(item, f"{above}{name}.")
        elif item != []:  # an empty list is not different from none
            found.append((f"{above}{name}", item))
    return found


def _words(decision: Decision) -> dict[str, str]:
    return {word["sample_id"]: word["action"] for word in decision.overrides}


def _cause(line: Mapping[str, Any], words: tuple[dict[str, str], dict[str, str]], changes: tuple[Change, ...]) -> str:
    """The nearest thing that explains one row's change: a person's word, its score, the threshold, the rest."""
    said = [word.get(line["sample_id"]) for word in words]
    if said[0] != said[1]:
        return f"override: {said[0] or 'none'} -> {said[1] or 'none'}"
    if line["verdict_before"] is None or line["verdict_after"] is None:
        return "the row is in one of the two only"
    entropies = line["entropy_before"], line["entropy_after"]
    if repr(entropies[0]) != repr(entropies[1]):  # by repr: NaN is equal to NaN here
        return f"score: {entropies[0]:.4f} -> {entropies[1]:.4f}"
    changed = {change.name: change for change in changes}
    if "threshold.tau" in changed and "policy" not in changed:
        tau = changed["threshold.tau"]
        return f"threshold: {tau.before:.4f} -> {tau.after:.4f}"
    others = [name for name in changed if not name.startswith(("overrides.", "threshold."))]
    return f"settings: {', '.join(others)}" if others else "no recorded setting: the code or the files were changed"
