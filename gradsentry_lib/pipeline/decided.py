"""A decision on a batch, as the ledger has it, and the files that are written from it for others to read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry_lib.detection.entropy_threshold import Threshold
from gradsentry_lib.detection.gate import GateCheck
from gradsentry_lib.detection.length_confounding import Trust
from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.errors import Damaged
from gradsentry_lib.files import atomic_path, has_digest, write_json
from gradsentry_lib.report.plot import threshold_png
from gradsentry_lib.store import Batch, Decision, Findings, GateResult, Ledger, Scan, ThresholdRecord, open_ledger
from gradsentry_lib.store.paths import DecisionFiles, Store
from gradsentry_lib.store.records import OutputKind


@dataclass(frozen=True)
class Decided:
    """A decision on a batch. `number`: its record in the ledger."""

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

    @classmethod
    def of(cls, ledger: Ledger, decision: Decision) -> "Decided":
        """From the records that belong together; the gate's answer is its latest on this decision."""
        threshold = ledger.get(ThresholdRecord, decision.threshold)
        gate = ledger.find(GateResult, decision=decision.seq)[-1]
        batch = [read for read in ledger.find(Batch, batch_key=decision.batch_key) if read.seq < decision.seq][-1]
        findings = ledger.find(Findings, decision=decision.seq)
        return cls(
            batch_key=decision.batch_key,
            score_key=ledger.get(Scan, decision.scan).score_key,
            decision_key=decision.decision_key,
            number=decision.seq,
            policy=decision.policy,
            verdicts_sha256=decision.verdicts.sha256,
            gate_inputs=gate.inputs_sha256,
            gate_passed=gate.passed,
            checks=gate.checks,
            clean=decision.clean,
            flagged=decision.flagged,
            unscored=decision.unscored,
            rejected=batch.rejected_rows,
            tau=threshold.tau,
            trust=threshold.details["trust"]["verdict"],
            remarks=findings[-1].remarks if findings else (),
        )

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
    """What led to a decision, to look at."""

    threshold: Threshold
    trust: Trust
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, ledger: Ledger, decision: Decision) -> "Evidence":
        found = ledger.get(ThresholdRecord, decision.threshold).found()
        trust = Trust(**found.pop("trust"))
        findings = ledger.find(Findings, decision=decision.seq)
        groups = findings[-1].groups if findings else ()
        return cls(
            Threshold.from_dict(found), trust, tuple(Group(**{**one, "rows": tuple(one["rows"])}) for one in groups)
        )

    def write(self, files: DecisionFiles, policy: str, entropies: np.ndarray) -> None:
        """Writes what tools outside read of it. Nothing reads these files back."""
        figures = self.threshold.to_dict() | {"policy": policy, "trust": asdict(self.trust)}
        write_json(files.threshold, figures)
        write_json(files.groups, [asdict(group) for group in self.groups])
        with atomic_path(files.plot) as temporary:
            temporary.write_bytes(threshold_png(entropies, self.threshold))


def evidence_files(files: DecisionFiles) -> dict[OutputKind, Path]:
    """Those that `Evidence.write` makes."""
    return {"threshold": files.threshold, "plot": files.plot, "groups": files.groups}


def verdicts_of(store: Store, decided: Decided) -> Path:
    """The verdict table of a decision, for who shows it. Raises Damaged where it holds something else now."""
    path = store.decision(decided.batch_key, decided.decision_key).verdicts
    if not has_digest(path, decided.verdicts_sha256):
        raise Damaged(path, "is not what was decided")
    return path


def load_decided(store: Store, batch_key: str, decision_key: str) -> Decided | None:
    """A batch's latest decision of that key, None where there is none."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        found = ledger.find(Decision, batch_key=batch_key, decision_key=decision_key)
        return Decided.of(ledger, found[-1]) if found else None


def load_evidence(store: Store, decided: Decided) -> Evidence:
    """What led to a decision."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        return Evidence.of(ledger, ledger.get(Decision, decided.number))
