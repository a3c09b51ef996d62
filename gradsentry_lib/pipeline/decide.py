"""Third step: what the scores mean. Threshold, verdicts, and the gate's answer for exactly these verdicts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from gradsentry_lib.detection.config import RULES, DetectionConfig
from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.detection.gate import GateLimits, check_gate, gate_passed, gate_settings
from gradsentry_lib.detection.known import known_groups
from gradsentry_lib.detection.policies import Judgement, current_name, judge
from gradsentry_lib.detection.verdict import Override, count_verdicts
from gradsentry_lib.files import atomic_path, has_digest
from gradsentry_lib.pipeline.decided import Decided, Evidence, evidence_files
from gradsentry_lib.pipeline.history import earlier_batches, load_earlier, other_deliveries
from gradsentry_lib.pipeline.ingest import Ingested, samples_of
from gradsentry_lib.pipeline.known import read_known
from gradsentry_lib.pipeline.limits import remark, settle_limits
from gradsentry_lib.pipeline.power import TOO_FEW, certify, mixtures_for, write_certificate
from gradsentry_lib.pipeline.score import Scored, read_scores, read_sketches
from gradsentry_lib.pipeline.swapped import Asked
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.scoring.config import Cluster, ScoringConfig, settings_note
from gradsentry_lib.settings import OPTIONS, Settings
from gradsentry_lib.store import (
    Decision,
    Findings,
    GateResult,
    Ledger,
    Output,
    Run,
    Scan,
    ThresholdRecord,
    applied,
    file_ref,
    gate_inputs_sha256,
    open_ledger,
    overrides_digest,
    reading,
)
from gradsentry_lib.store.paths import DecisionFiles, Store, short_key
from gradsentry_lib.store.records import OutputKind

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel

NAMED = 20  # rows of an earlier batch that a remark names


@dataclass(frozen=True)
class DecisionConfig:
    """How scores become verdicts, and what the gate lets through.

    `policy`: as a user names it; an earlier version's name means another one now (`judged_by`).
    `limits`: those asked for; one that is not named is the store's own. `limits_by`, `limits_reason`: who answers for
    limits that are looser than those, and why. Raises BadInput for a policy that does not exist: before anything is
    scored.
    """

    policy: str = Settings.policy
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    limits: GateLimits | Mapping[str, float | None] = field(default_factory=dict)
    limits_by: str = ""
    limits_reason: str = ""
    control_tokens: str = Settings.control_tokens  # what becomes of rows whose text holds some: detection/control.py
    detection: DetectionConfig = field(default_factory=DetectionConfig)  # of the policy `auto`
    watched: str = Settings.watched  # what becomes of watched rows
    power: str = Settings.power  # whether attacks are planted to see what would be found
    known: tuple[Mapping[str, Any], ...] = ()  # groups that others found, as they exported them: detection/known.py

    def __post_init__(self) -> None:
        for name in ("control_tokens", "policy", "watched", "power"):
            OPTIONS[name].check(getattr(self, name))

    @classmethod
    def of(cls, said: Settings) -> "DecisionConfig":
        return cls(
            said.policy,
            ThresholdConfig(fixed=said.threshold),
            said.limits,
            said.limits_by,
            said.limits_reason,
            said.control_tokens,
            watched=said.watched,
            known=read_known(said.known_files),
            power=said.power,
        )

    @property
    def judged_by(self) -> str:
        return current_name(self.policy)

    @property
    def note(self) -> str:
        """What to say where the policy was asked for by a name that it no longer has."""
        if self.policy == self.judged_by:
            return ""
        return f"the policy {self.policy!r} of earlier versions is gone: judged by {self.judged_by!r} in its place"

    def to_dict(self) -> dict[str, Any]:
        told = {**asdict(self), "policy": self.judged_by, "rules": RULES}
        if self.judged_by == "paper":
            del told["detection"], told["watched"]  # decide nothing there
        del told["power"]  # decides no verdict; what is planted has a line of its own
        limits = told["limits"]
        told["limits"] = {name: limits[name] for name in limits if name != "min_power" or limits[name]}  # 0: not asked
        if not self.known:
            del told["known"]
        return told


def settle(config: DecisionConfig, store: Store) -> tuple[DecisionConfig, Mapping[str, Any] | None]:
    """The configuration with its limits complete, and who loosened them (see limits.py). Raises BadInput."""
    limits, loosened = settle_limits(store, config.limits, config.limits_by, config.limits_reason)
    by, reason = (loosened["made_by"], loosened["reason"]) if loosened else ("", "")
    return replace(config, limits=limits, limits_by=by, limits_reason=reason), loosened


def decide(
    batch: Ingested,
    scored: Scored,
    store: Store,
    run: Run,
    config: DecisionConfig | None = None,
    *,
    load: "Callable[[], AnyModel] | None" = None,
    scoring: ScoringConfig | None = None,
    cluster: Cluster | None = None,
) -> Decided:
    """Judges a scored batch and runs the gate; the same inputs and settings give the same decision, found again.

    The decision asked for last is the batch's latest in the ledger, also where an earlier one is returned to. `load`:
    the model that scored the batch, with `scoring`, for the policy that asks it; without, that policy only watches.
    `cluster`: where the rows of a large batch are searched, with the same verdicts; None: here.
    """
    with reading(store.ledger) as ledger:
        config, loosened = settle(config or DecisionConfig(), store)
        words = ledger.active_overrides(batch.batch_key)
    limits = GateLimits(**asdict(config)["limits"])
    overrides_key = overrides_digest(words)
    asks = load is not None and config.judged_by == "auto"
    told = config.to_dict() | ({"reason": True} if asks else {})
    mixtures = 0 if not asks else mixtures_for(config.power, limits.min_power, batch.readable)
    told |= {"mixtures": mixtures} if mixtures else {}
    key = short_key(scored.scores_sha256, told, overrides_key, [batch.read, batch.rejected, batch.truncated])
    files = store.decision(batch.batch_key, key)
    known = _find(store, batch.batch_key, key)
    if known is not None and _is_whole(known):
        return _asked_again(known, store, run)

    asked = Asked(samples_of(batch, store), load, scoring or ScoringConfig()) if asks and load else None
    with open_ledger(store.ledger, read_only=True) as ledger:
        past = earlier_batches(ledger, batch, scored.score_key) if config.judged_by == "auto" else []
        note = settings_note(ledger.get(Scan, scored.scan).scoring, config.judged_by)
    past = other_deliveries(store, batch, past)
    scores_path = store.scores(batch.batch_key, scored.score_key)
    samples, scores = samples_of(batch, store), read_scores(scores_path)
    from gradsentry_lib.scoring.ray_search import searching  # the search, which a decision found again does without

    with searching(cluster):
        judgement = judge(
            scores,
            config.judged_by,
            threshold=config.threshold,
            samples=lambda: read_samples(samples),
            sketches=lambda: read_sketches(scores_path),
            overrides=[Override(w.sample_id, w.action, w.made_by, w.reason) for w in words if w.action != "unset"],
            history=load_earlier(store, past),
            control_tokens=config.control_tokens,
            detection=config.detection,
            swapped=asked,
            watched=config.watched,
            known=known_groups(config.known),
        )
    if asked is not None:
        told["swapped"] = asked.write(files.swapped)
    with atomic_path(files.verdicts) as temporary:
        pq.write_table(judgement.verdicts, temporary, compression="zstd")
    evidence = Evidence(judgement.threshold, judgement.trust, tuple(judgement.groups))
    evidence.write(files, config.judged_by, judgement.verdicts["entropy"].to_numpy())
    certificate = None
    if mixtures and load is not None:
        certificate = certify(
            batch,
            scored,
            judgement.verdicts,
            store,
            run,
            load,
            scoring or ScoringConfig(),
            config.detection,
            mixtures,
        )
        told |= {"certificate": write_certificate(certificate, files)} if certificate is not None else {}
    counts = count_verdicts(judgement.verdicts)
    trust = judgement.trust if config.judged_by == "paper" else None
    checks = check_gate(
        judgement.verdicts,
        read=batch.read,
        rejected=batch.rejected,
        trust=trust,
        limits=limits,
        truncated=batch.truncated or "",
        power=None if certificate is None else certificate.power,
    )
    gate_told = gate_settings(limits, batch.truncated or "")
    verdicts = file_ref(files.verdicts)
    remarks = (
        *judgement.remarks,
        *_named_for_rescan(judgement),
        *([remark(limits, loosened)] if loosened else []),
        *(each for each in (note, config.note) if each),
        *([TOO_FEW] if mixtures and certificate is None else []),
    )
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        threshold = ledger.record_threshold(
            ThresholdRecord.of(
                scored.scan,
                batch.batch_key,
                asdict(config.threshold),
                judgement.threshold.to_dict(),
                {"trust": asdict(judgement.trust)},
                run_id=run.run_id,
            )
        )
        decision = Decision(
            scan=scored.scan,
            threshold=threshold,
            batch_key=batch.batch_key,
            decision_key=key,
            policy=config.judged_by,
            settings=told | {"history": past},
            verdicts=verdicts,
            clean=counts.clean,
            flagged=counts.flagged,
            unscored=counts.unscored,
            overrides=applied(words),
            overrides_digest=overrides_key,
            run_id=run.run_id,
        )
        gate = GateResult(
            batch_key=batch.batch_key,
            decision=0,
            verdicts_sha256=verdicts.sha256,
            limits=gate_told,
            inputs_sha256=gate_inputs_sha256(verdicts.sha256, gate_told),
            passed=gate_passed(checks),
            checks=tuple(asdict(check) for check in checks),
            run_id=run.run_id,
            loosened=loosened,
        )
        void = ledger.not_covered(gate, decision)
        findings = Findings(
            batch_key=batch.batch_key,
            decision=0,
            groups=tuple(asdict(group) for group in evidence.groups),
            remarks=(*remarks, void) if void else remarks,
            run_id=run.run_id,
        )
        return _record(ledger, decision, gate, findings)


def _find(store: Store, batch_key: str, key: str) -> Decision | None:
    """The latest decision of that key."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        found = ledger.find(Decision, batch_key=batch_key, decision_key=key)
    return found[-1] if found else None


def _is_whole(decision: Decision) -> bool:
    """Whether what the verdicts are, and what it took the model to make, is what the ledger has of it."""
    files = DecisionFiles(decision.verdicts.file.parent)
    kept = {files.swapped: "swapped", files.power: "certificate"}
    recorded = {path: sha256 for path, name in kept.items() if (sha256 := decision.settings.get(name))}
    recorded[files.verdicts] = decision.verdicts.sha256
    return all(has_digest(path, sha256) for path, sha256 in recorded.items())


def _asked_again(decision: Decision, store: Store, run: Run) -> Decided:
    """A decision that is asked for again. Its files are made again where they are not what was recorded of them; one
    that was superseded is recorded once more, with the gate's last answer."""
    files = evidence_files(DecisionFiles(decision.verdicts.file.parent))
    with open_ledger(store.ledger, read_only=True) as ledger:
        decided, latest = Decided.of(ledger, decision), ledger.decision(decision.batch_key).seq
        digests = {kind: ledger.recorded(path) for kind, path in files.items()}
        evidence = Evidence.of(ledger, decision)
    whole = all(digest and has_digest(files[kind], digest) for kind, digest in digests.items())
    if not whole:
        entropies = pq.read_table(decision.verdicts.file, columns=["entropy"])["entropy"].to_numpy()
        evidence.write(DecisionFiles(decision.verdicts.file.parent), decision.policy, entropies)
    if whole and latest == decision.seq:
        return decided
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        if latest == decision.seq:
            _record_files(ledger, decision, run.run_id)
            return decided
        gates = ledger.find(GateResult, batch_key=decision.batch_key, inputs_sha256=decided.gate_inputs)
        findings = ledger.find(Findings, decision=decision.seq) or [Findings(batch_key=decision.batch_key, decision=0)]
        return _record(
            ledger,
            replace(decision, run_id=run.run_id),
            replace(gates[-1], run_id=run.run_id),
            replace(findings[-1], run_id=run.run_id),
        )


def _record(ledger: Ledger, decision: Decision, gate: GateResult, findings: Findings) -> Decided:
    """Decision, the gate's answer, what was found and the decision's files into the ledger."""
    number = ledger.record_verdicts(decision)
    ledger.record_gate(replace(gate, decision=number))
    ledger.record_findings(replace(findings, decision=number))
    recorded = ledger.get(Decision, number)
    _record_files(ledger, recorded, decision.run_id)
    return Decided.of(ledger, recorded)


def _record_files(ledger: Ledger, decision: Decision, run_id: str) -> None:
    files = DecisionFiles(decision.verdicts.file.parent)
    made: dict[OutputKind, Path] = {"power": files.power} if decision.settings.get("certificate") else {}
    for kind, path in (evidence_files(files) | made).items():
        output = Output(
            batch_key=decision.batch_key, decision=decision.seq, kind=kind, file=file_ref(path), run_id=run_id
        )
        ledger.record_output(output)


def _named_for_rescan(judgement: Judgement) -> list[str]:
    """Rows of earlier batches that turned out to belong to a group of this one: a person should flag them."""
    rows: dict[str, list[int]] = {}
    for key, row in judgement.rescan:
        rows.setdefault(key, []).append(row)
    return [
        f"{len(found)} rows of the earlier batch {key} belong to a group found here and want flagging: rows "
        + ", ".join(map(str, sorted(found)[:NAMED]))
        + (", ..." if len(found) > NAMED else "")
        for key, found in rows.items()
    ]
