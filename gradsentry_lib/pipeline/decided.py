"""A decision on a batch, as it lies in the store: decision.json, and the files with what led to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradsentry_lib.detection.entropy_threshold import Threshold
from gradsentry_lib.detection.gate import GateCheck
from gradsentry_lib.detection.length_confounding import Trust
from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.pipeline import manifest
from gradsentry_lib.store.paths import Store
from gradsentry_lib.store.records import OutputKind

EVIDENCE: Mapping[OutputKind, str] = {"threshold": "threshold.json", "plot": "threshold.png", "groups": "groups.json"}


@dataclass(frozen=True)
class Decided:
    """A decision on a batch; JSON beside its files (decision.json). `number`: its record in the ledger."""

    batch_key: str
    score_key: str
    decision_key: str
    number: int
    policy: str
    verdicts_sha256: str
    gate_inputs: str
    gate_passed: bool
    checks: tuple[Mapping[str, Any], ...]
    clean: int
    flagged: int
    unscored: int
    rejected: int
    tau: float
    trust: str
    remarks: tuple[str, ...] = ()  # on the whole batch, in sentences

    @property
    def flagged_fraction(self) -> float:
        """Of the readable rows."""
        rows = self.clean + self.flagged + self.unscored
        return self.flagged / rows if rows else 0.0

    @property
    def gate_checks(self) -> tuple[GateCheck, ...]:
        return tuple(GateCheck(**check) for check in self.checks)


@dataclass(frozen=True)
class Evidence:
    """What a decision left to look at."""

    threshold: Threshold
    trust: Trust
    groups: tuple[Group, ...]


def load_decided(store: Store, batch_key: str, decision_key: str) -> Decided | None:
    """What decision.json says, None where there is none. Raises Damaged."""
    return manifest.read(store.batch(batch_key) / "decisions" / decision_key / "decision.json", Decided, store)


def load_evidence(store: Store, decided: Decided) -> Evidence:
    """Threshold, trust and groups of a decision, from its files. Raises Damaged."""
    folder = store.batch(decided.batch_key) / "decisions" / decided.decision_key
    manifest.check(store, *(folder / name for name in EVIDENCE.values()))
    threshold, trust = manifest.parse(folder / EVIDENCE["threshold"], _threshold)
    return Evidence(threshold, trust, manifest.parse(folder / EVIDENCE["groups"], _groups))


def _threshold(data: bytes) -> tuple[Threshold, Trust]:
    figures = json.loads(data)
    trust, _ = Trust(**figures.pop("trust")), figures.pop("policy")
    return Threshold.from_dict(figures), trust


def _groups(data: bytes) -> tuple[Group, ...]:
    return tuple(Group(**{**group, "rows": tuple(group["rows"])}) for group in json.loads(data))
