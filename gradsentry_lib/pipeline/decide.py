"""Third step: what the scores mean. Threshold, verdicts, and the gate's answer for exactly these verdicts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.control import KEEP, QUARANTINE, check_choice
from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.detection.gate import GateLimits, check_gate, gate_passed, gate_settings
from gradsentry_lib.detection.known import known_groups
from gradsentry_lib.detection.policies import (
    DEFAULT_POLICY,
    FORMER,
    RULES,
    Judgement,
    check_watched,
    current_name,
    judge,
)
from gradsentry_lib.detection.verdict import Override, count_verdicts
from gradsentry_lib.files import atomic_path, has_digest, sha256_file, write_json
from gradsentry_lib.pipeline import manifest
from gradsentry_lib.pipeline.decided import EVIDENCE, Decided, load_evidence
from gradsentry_lib.pipeline.history import earlier_batches, load_earlier, other_deliveries
from gradsentry_lib.pipeline.ingest import Ingested, samples_of
from gradsentry_lib.pipeline.limits import remark, settle_limits
from gradsentry_lib.pipeline.score import Scored, read_scores, read_sketches
from gradsentry_lib.pipeline.swapped import Asked
from gradsentry_lib.report.plot import threshold_png
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.scoring.config import ScoringConfig, settings_note
from gradsentry_lib.store import (
    Decision,
    FileRef,
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
)
from gradsentry_lib.store.paths import Store, short_key

if TYPE_CHECKING:
    from gradsentry_lib.scoring.model import ScoringModel

NAMED = 20  # rows of an earlier batch that a remark names


@dataclass(frozen=True)
class DecisionConfig:
    """How scores become verdicts, and what the gate lets through.

    `policy`: as a user names it; an earlier version's name means another one now (`judged_by`).
    `limits`: those asked for; one that is not named is the store's own. `limits_by`, `limits_reason`: who answers for
    limits that are looser than those, and why. Raises BadInput for a policy that does not exist: before anything is
    scored.
    """

    policy: str = DEFAULT_POLICY
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    limits: GateLimits | Mapping[str, float | None] = field(default_factory=dict)
    limits_by: str = ""
    limits_reason: str = ""
    control_tokens: str = QUARANTINE  # what becomes of rows whose text holds some: detection/control.py
    detection: DetectionConfig = field(default_factory=DetectionConfig)  # of the policy `auto`
    watched: str = KEEP  # what becomes of watched rows: `keep` or `quarantine`
    known: tuple[Mapping[str, Any], ...] = ()  # groups that others found, as they exported them: detection/known.py

    def __post_init__(self) -> None:
        check_choice(self.control_tokens)
        check_watched(self.watched)
        current_name(self.policy)

    @property
    def judged_by(self) -> str:
        return current_name(self.policy)

    @property
    def note(self) -> str:
        """What to say where the policy was asked for by a name that it no longer has."""
        if self.policy not in FORMER:
            return ""
        return f"the policy {self.policy!r} of earlier versions is gone: judged by {self.judged_by!r} in its place"

    def to_dict(self) -> dict[str, Any]:
        told = {**asdict(self), "policy": self.judged_by, "rules": RULES}
        if self.judged_by == "paper":
            del told["detection"], told["watched"]  # decide nothing there
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
    load: "Callable[[], ScoringModel] | None" = None,
    scoring: ScoringConfig | None = None,
) -> Decided:
    """Judges a scored batch and runs the gate; the same inputs and settings give the same decision, found again.

    The decision asked for last is the batch's latest in the ledger, also where an earlier one is returned to. `load`:
    the model that scored the batch, with `scoring`, for the policy that asks it; without, that policy only watches.
    """
    config, loosened = settle(config or DecisionConfig(), store)
    limits = GateLimits(**asdict(config)["limits"])
    with open_ledger(store.ledger) as ledger:
        words = ledger.active_overrides(batch.batch_key)
    overrides_key = overrides_digest(words)
    asked = None
    if load is not None and config.judged_by == "auto":
        asked = Asked(samples_of(batch, store), load, scoring or ScoringConfig())
    told = config.to_dict() | ({} if asked is None else {"reason": True})
    key = short_key(scored.scores_sha256, told, overrides_key, [batch.read, batch.rejected, batch.truncated])
    folder = store.batch(batch.batch_key) / "decisions" / key
    known = _whole(folder, store)
    if known is not None:
        return _asked_again(known, folder, store, run)

    with open_ledger(store.ledger) as ledger:
        past = earlier_batches(ledger, batch, scored.score_key) if config.judged_by == "auto" else []
        note = settings_note(ledger.get(Scan, scored.scan).scoring, config.judged_by)
    past = other_deliveries(store, batch, past)
    scores_path = store.batch(batch.batch_key) / "scores" / scored.score_key / "scores.parquet"
    samples, scores = samples_of(batch, store), read_scores(scores_path)
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
        told["swapped"] = asked.write(folder)
    _write_files(folder, judgement, scores["entropy"].to_numpy())
    counts = count_verdicts(judgement.verdicts)
    trust = judgement.trust if config.judged_by == "paper" else None
    checks = check_gate(
        judgement.verdicts,
        read=batch.read,
        rejected=batch.rejected,
        trust=trust,
        limits=limits,
        truncated=batch.truncated or "",
    )
    gate_told = gate_settings(limits, batch.truncated or "")
    verdicts = FileRef(folder / "verdicts.parquet", sha256_file(folder / "verdicts.parquet"))
    inputs = gate_inputs_sha256(verdicts.sha256, gate_told)
    decided = Decided(
        batch_key=batch.batch_key,
        score_key=scored.score_key,
        decision_key=key,
        number=0,
        policy=config.judged_by,
        verdicts_sha256=verdicts.sha256,
        gate_inputs=inputs,
        gate_passed=gate_passed(checks),
        checks=tuple(asdict(check) for check in checks),
        clean=counts.clean,
        flagged=counts.flagged,
        unscored=counts.unscored,
        rejected=batch.rejected,
        tau=judgement.threshold.tau,
        trust=judgement.trust.verdict,
        remarks=(
            *judgement.remarks,
            *_named_for_rescan(judgement),
            *([remark(limits, loosened)] if loosened else []),
            *(each for each in (note, config.note) if each),
        ),
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
            inputs_sha256=inputs,
            passed=decided.gate_passed,
            checks=decided.checks,
            run_id=run.run_id,
            loosened=loosened,
        )
        if void := ledger.not_covered(gate, decision):
            decided = replace(decided, remarks=(*decided.remarks, void))
        decided = _record(ledger, decision, gate, decided)
    write_json(folder / "decision.json", asdict(decided))
    return decided


def _whole(folder: Path, store: Store) -> Decided | None:
    """The decision that lies there, if all its files are what the ledger has of them."""
    known = manifest.whole(folder / "decision.json", Decided, store)
    if known is None or not has_digest(folder / "verdicts.parquet", known.verdicts_sha256):
        return None
    try:
        load_evidence(store, known)
    except manifest.Damaged:
        return None
    return known


def _asked_again(known: Decided, folder: Path, store: Store, run: Run) -> Decided:
    """A decision that was superseded and is asked for again is recorded once more, with the gate's last answer."""
    with open_ledger(store.ledger) as ledger:
        if ledger.decision(known.batch_key).seq == known.number:
            return known
        ledger.record_run(run)
        decision = replace(ledger.get(Decision, known.number), run_id=run.run_id)
        gates = ledger.find(GateResult, batch_key=known.batch_key, inputs_sha256=known.gate_inputs)
        decided = _record(ledger, decision, replace(gates[-1], run_id=run.run_id), known)
    write_json(folder / "decision.json", asdict(decided))
    return decided


def _record(ledger: Ledger, decision: Decision, gate: GateResult, made: Decided) -> Decided:
    """Decision, the gate's answer and the decision's files into the ledger; gives `made` its number."""
    folder = decision.verdicts.file.parent
    number = ledger.record_verdicts(decision)
    ledger.record_gate(replace(gate, decision=number))
    decided = replace(made, number=number)
    files = {kind: file_ref(folder / name) for kind, name in EVIDENCE.items()}
    files["decision"] = manifest.ref(folder / "decision.json", decided)
    for kind, file in files.items():
        ledger.record_output(
            Output(batch_key=made.batch_key, decision=number, kind=kind, file=file, run_id=decision.run_id)
        )
    return decided


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


def _write_files(folder: Path, judgement: Judgement, entropies: Any) -> None:
    with atomic_path(folder / "verdicts.parquet") as temporary:
        pq.write_table(judgement.verdicts, temporary, compression="zstd")
    figures = judgement.threshold.to_dict() | {"policy": judgement.policy, "trust": asdict(judgement.trust)}
    write_json(folder / "threshold.json", figures)
    write_json(folder / "groups.json", [asdict(group) for group in judgement.groups])
    with atomic_path(folder / "threshold.png") as temporary:
        temporary.write_bytes(threshold_png(entropies, judgement.threshold))
