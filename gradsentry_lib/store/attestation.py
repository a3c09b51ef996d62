"""What a clean file is, where it comes from and how it was made, in a form that a third party's tools can check.

An in-toto Statement v1 (https://in-toto.io/Statement/v1) with the clean file as its subject and a provenance predicate
after SLSA v1 (https://slsa.dev/provenance/v1): the source, the model, the tokenizer, the settings and the batch's
previous attestation are resolved dependencies, the ledger's head at that moment is a by-product. Each attestation
names the digest of the one before it, so a batch's attestations are a chain of their own, and each pins the ledger's.
docs/ledger.md describes the build type.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableFile
from gradsentry_lib.files import read_json, sha256_json, write_json
from gradsentry_lib.store.columns import store_path
from gradsentry_lib.store.ledger import Ledger
from gradsentry_lib.store.records import (
    Batch,
    Decision,
    FileRef,
    GateAcceptance,
    GateResult,
    Output,
    Run,
    Scan,
    ThresholdRecord,
    file_ref,
)

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:gradsentry:scan:v1"
FILES = "gradsentryFiles"  # the digest of a folder: SHA-256 over the sorted names and digests of its files


def publish_attestation(
    ledger: Ledger, decision: int, clean: FileRef, path: Path, run_id: str = "", key: Path | None = None
) -> FileRef:
    """Writes the attestation of a clean file to `path` and records it.

    Call it once the file's own record is kept, in a block of its own: what a killed process wrote and did not record
    can be recorded later (attestation_repair.py) only if the head that it names is still the ledger's.

    A copy stays in the store. `key`: an ed25519 private key to sign with (default: GRADSENTRY_SIGNING_KEY, if set);
    the signature lies beside each as `*.dsse.json`. Publishing the same file of the same decision again gives back the
    attestation that is there.
    """
    batch_key = ledger.get(Decision, decision).batch_key
    known = [file for file in attestations(ledger, batch_key) if file.file.exists()]
    if known and _is_about(known[-1], decision, clean):
        made = read_json(known[-1].file)
    else:
        made = statement(ledger, decision, clean)
    kept = ledger.paths.attestations(batch_key) / f"{sha256_json(made)[:16]}.json"
    key = key or settings.signing_key()
    for place in (kept, path):
        write_json(place, made)
        _record(ledger, decision, "attestation", file_ref(place), run_id)
        if key:
            from gradsentry_lib.store import signing

            _record(ledger, decision, "signature", signing.sign_file(place, key), run_id)
    return file_ref(path)


def sign_attestation(ledger: Ledger, path: Path, key: Path) -> list[Path]:
    """Signs an attestation that the ledger knows, wherever it lies, and the store's copy of it; gives the envelopes'
    paths. Raises BadInput for any other file."""
    sha256 = file_ref(path).sha256
    known = ledger.find(Output, kind="attestation", file_sha256=sha256)
    if not known:
        raise UnusableFile(f"{path} is no attestation in this ledger, or it was altered")
    places = {output.file.file for output in known if output.file.file.exists()} | {path.absolute()}
    from gradsentry_lib.store import signing

    signed = [signing.sign_file(place, key) for place in sorted(places) if file_ref(place).sha256 == sha256]
    for envelope in signed:
        _record(ledger, known[-1].decision, "signature", envelope, "")
    return [envelope.file for envelope in signed]


def statement(ledger: Ledger, decision: int, clean: FileRef) -> dict[str, Any]:
    """The Statement, as JSON values."""
    decided = ledger.get(Decision, decision)
    batch = ledger.batch(decided.batch_key)
    scan = ledger.get(Scan, decided.scan)
    threshold = ledger.get(ThresholdRecord, decided.threshold)
    gates = ledger.find(GateResult, decision=decision)
    runs = ledger.find(Run, run_id=decided.run_id)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_subject(clean)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": settings_of(batch, scan, threshold, decided),
                "internalParameters": {
                    "batch": decided.batch_key,
                    "scan": scan.seq,
                    "decision": decision,
                    "tau": threshold.tau,
                    "thresholdMethod": threshold.method,
                    "device": scan.device,
                    "rows": {
                        "read": batch.rows_read,
                        "rejected": batch.rejected_rows,
                        "clean": decided.clean,
                        "flagged": decided.flagged,
                        "unscored": decided.unscored,
                    },
                    **({"truncated": batch.truncated} if batch.truncated else {}),
                    "overrides": list(decided.overrides),
                    "gate": _gate(ledger, gates[-1] if gates else None),
                },
                "resolvedDependencies": _dependencies(ledger, batch, scan, threshold, decided),
            },
            "runDetails": {
                "builder": _builder(runs[-1] if runs else None),
                "metadata": {
                    "invocationId": decided.run_id,
                    "startedOn": _time(scan.started_at),
                    "finishedOn": _time(datetime.now(UTC)),
                },
                "byproducts": _byproducts(ledger, scan, decided),
            },
        },
    }


def settings_of(batch: Batch, scan: Scan, threshold: ThresholdRecord, decision: Decision) -> dict[str, Any]:
    """All that a person chose: together with source and model it determines the clean file."""
    return {
        "source": {"name": batch.name, "kind": batch.kind, "options": batch.options},
        "model": scan.model,
        "scoring": scan.scoring,
        "threshold": threshold.config,
        "policy": decision.policy,
        "decision": decision.settings,
    }


def attestations(ledger: Ledger, batch_key: str) -> list[FileRef]:
    """The store's copies of a batch's attestations, oldest first, each once."""
    found = {output.file.file: output.file for output in ledger.find(Output, batch_key=batch_key, kind="attestation")}
    return [file for path, file in found.items() if path.parent == ledger.paths.attestations(batch_key)]


def dependency(made: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The resolved dependency of that name."""
    found = made["predicate"]["buildDefinition"]["resolvedDependencies"]
    return next((item for item in found if item.get("name") == name), None)


def byproduct(made: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = made["predicate"]["runDetails"]["byproducts"]
    return next((item for item in found if item.get("name") == name), None)


def schema() -> dict[str, Any]:
    """The JSON schema that every attestation satisfies."""
    return json.loads((resources.files(__package__) / "attestation.schema.json").read_text(encoding="utf-8"))


def broken_rules(made: Any) -> str:
    """The first rule of the schema that this breaks; empty where it is sound."""
    import jsonschema

    error = next(iter(jsonschema.Draft202012Validator(schema()).iter_errors(made)), None)
    return f"{error.json_path}: {error.message[:120]}" if error else ""


def _subject(clean: FileRef) -> dict[str, Any]:
    return {"name": clean.file.name, "digest": _digest(clean)}


def _digest(file: FileRef) -> dict[str, str]:
    return {"sha256" if file.file.is_file() else FILES: file.sha256}


def _dependencies(
    ledger: Ledger, batch: Batch, scan: Scan, threshold: ThresholdRecord, decision: Decision
) -> list[dict[str, Any]]:
    settings = settings_of(batch, scan, threshold, decision)
    found = [
        {"name": "source", "digest": _digest(batch.source), "annotations": {"file": batch.source.file.name}},
        {"name": "model", "digest": {FILES: scan.model_fingerprint}, "annotations": {"model": scan.model}},
        {"name": "tokenizer", "digest": {FILES: scan.tokenizer_fingerprint}},
        {"name": "settings", "digest": {"sha256": sha256_json(settings)}, "mediaType": "application/json"},
    ]
    earlier = attestations(ledger, batch.batch_key)
    if earlier:
        media = "application/vnd.in-toto+json"
        found.append({"name": "previous", "digest": {"sha256": earlier[-1].sha256}, "mediaType": media})
    return found


def _byproducts(ledger: Ledger, scan: Scan, decision: Decision) -> list[dict[str, Any]]:
    head = ledger.head()
    files = {"scores": scan.scores.sha256, "verdicts": decision.verdicts.sha256}
    for output in ledger.find(Output, decision=decision.seq):
        if output.kind in ("quarantine", "rejected"):
            files[output.kind] = output.file.sha256
    found: list[dict[str, Any]] = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in files.items()]
    return [*found, {"name": "ledger", "digest": {"sha256": head.sha256}, "annotations": {"seq": head.seq}}]


def _gate(ledger: Ledger, result: GateResult | None) -> dict[str, Any]:
    if result is None:
        return {"status": "never run"}
    state = ledger.gate_state(result.inputs_sha256, result.batch_key)
    accepted: GateAcceptance | None = state.acceptance
    return (
        {"status": state.status, "limits": result.limits}
        | (
            {"acceptedBy": accepted.made_by, "reason": accepted.reason, "accepted": accepted.accepted}
            if accepted
            else {}
        )
        | ({"loosened": result.loosened} if result.loosened else {})
    )


def _builder(run: Run | None) -> dict[str, Any]:
    if run is None:
        return {"id": "urn:gradsentry:host:unknown"}
    versions = {"gradsentry": run.code_version, "python": run.python_version, **run.packages}
    return {"id": f"urn:gradsentry:host:{quote(run.host, safe='')}", "version": versions}


def _is_about(file: FileRef, decision: int, clean: FileRef) -> bool:
    """Whether this intact attestation says what a new one would say."""
    if file_ref(file.file).sha256 != file.sha256:
        return False
    made = read_json(file.file)
    same_decision = made["predicate"]["buildDefinition"]["internalParameters"]["decision"] == decision
    return same_decision and made["subject"] == [_subject(clean)]


def _record(ledger: Ledger, decision: int, kind: Any, file: FileRef, run_id: str) -> None:
    """Unless that is what the ledger says of this file already."""
    batch_key = ledger.get(Decision, decision).batch_key
    known = ledger.find(Output, file_path=store_path(file.path, ledger.store))
    if not known or known[-1].file.sha256 != file.sha256:
        ledger.record_output(Output(batch_key=batch_key, decision=decision, kind=kind, file=file, run_id=run_id))


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
