"""The ledger: what was scanned, by which weights and settings, what came of it, and who said otherwise.

How the steps of a scan call it. Files are written and hashed first; the ledger is opened for the moment that a record
takes, never across scoring:

    run = current_run("cli")                                   # or current_run("dagster", context.run_id)
    samples = file_ref(samples_path)
    with open_ledger() as ledger:                              # one block, one transaction
        ledger.record_run(run)
        ledger.record_batch(Batch(batch_key=..., source=FileRef(path, source.sha256), samples=samples, ...))

    with open_ledger(read_only=True) as ledger:
        words = ledger.active_overrides(batch_key)             # -> judge(..., overrides=...)

    with open_ledger() as ledger:
        scan = ledger.record_scan(Scan(..., scores=file_ref(scores_path)))
        threshold = ledger.record_threshold(ThresholdRecord.of(scan, batch_key, config, found.to_dict()))
        decision = ledger.record_verdicts(
            Decision(
                scan=scan, threshold=threshold, verdicts=verdicts,       # verdicts = file_ref(verdicts_path)
                overrides=applied(words), overrides_digest=overrides_digest(words), ...
            )
        )
        inputs = gate_inputs_sha256(verdicts.sha256, limits)
        ledger.record_gate(GateResult(decision=decision, inputs_sha256=inputs, ...))

    with open_ledger(read_only=True) as ledger:
        state = ledger.gate_state(inputs, batch_key)           # publish only where state.open

    with open_ledger() as ledger:
        ledger.record_output(Output(kind="clean", file=file_ref(clean_path), ...))

A file that a record names is never written again with other content: a new content gets a new key, hence a new place.
Samples, scores and verdicts from outside the store are copied into it.
"""

from gradsentry_lib.store.ledger import (
    Ledger,
    applied,
    gate_inputs_sha256,
    open_ledger,
    overrides_digest,
    reading,
)
from gradsentry_lib.store.records import (
    Batch,
    Decision,
    FileRef,
    Findings,
    GateAcceptance,
    GateResult,
    GateState,
    LimitPolicy,
    Output,
    Override,
    Run,
    Scan,
    ScoreFile,
    ThresholdRecord,
    current_run,
    file_ref,
)

__all__ = [
    "Batch",
    "Decision",
    "FileRef",
    "Findings",
    "GateAcceptance",
    "GateResult",
    "GateState",
    "Ledger",
    "LimitPolicy",
    "Output",
    "Override",
    "Run",
    "Scan",
    "ScoreFile",
    "ThresholdRecord",
    "applied",
    "current_run",
    "file_ref",
    "gate_inputs_sha256",
    "open_ledger",
    "overrides_digest",
    "reading",
]
