"""Attestations: what they say against the ledger, their chain, their signatures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradsentry_lib.audit.evidence import Finding, Records
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.files import sha256_json
from gradsentry_lib.store import attestation, signing
from gradsentry_lib.store.records import Output


def kept_attestations(records: Records) -> list[Output]:
    """The store's own copies, oldest first, each once."""
    kept = {
        o.file.file: o
        for o in records.outputs.values()
        if o.kind == "attestation" and o.file.file.parent == records.paths.attestations(o.batch_key)
    }
    return list(kept.values())


def check_attestations(records: Records, kept: Sequence[Output], key: Path | None) -> Iterator[Finding]:
    """What they say against the ledger, their chain, their signatures, and that the ledger knows them all."""
    previous: dict[str, str] = {}
    for output in kept:
        subject = f"attestation {records.short(output.file)} (batch {output.batch_key})"
        try:
            made = json.loads(output.file.file.read_bytes())
            said = attestation.broken_rules(made)
        except (OSError, ValueError) as error:
            yield Finding(subject, f"can't be read: {error}")
            continue
        if said:
            yield Finding(subject, f"is no in-toto statement with a provenance: {said}")
            continue
        link = attestation.dependency(made, "previous")
        if (link["digest"].get("sha256") if link else None) != previous.get(output.batch_key):
            yield Finding(subject, "its chain is broken: it does not name the batch's attestation before it")
        previous[output.batch_key] = output.file.sha256
        yield from _check_statement(records, output, subject, made)
        if key is not None:
            yield from _check_signature(records, output, subject, key)
    known = {output.file.file for output in kept}
    for path in records.paths.kept_attestations():
        if path not in known:
            message = (
                "the ledger does not know it: records were taken out of the ledger, or a run was killed in the moment "
                "of publishing (then scan the batch again)"
            )
            yield Finding(f"attestation {records.short(path)}", message)


def check_published(records: Records) -> Iterator[Finding]:
    """Every clean set has a statement: the ledger knows which were published."""
    stated = {output.decision for output in records.outputs.values() if output.kind == "attestation"}
    clean = {output.decision: output for output in records.outputs.values() if output.kind == "clean"}
    for decision, output in clean.items():
        if decision not in stated:
            message = (
                "was published without an attestation: records were taken out of the ledger, or a run was killed in "
                "the moment of publishing (then scan the batch again)"
            )
            yield Finding(f"clean file of decision {decision} (batch {output.batch_key})", message)


def _check_statement(records: Records, output: Output, subject: str, made: Mapping[str, Any]) -> Iterator[Finding]:
    decision = records.decisions.get(output.decision)
    scan = records.scans.get(decision.scan) if decision else None
    clean = {o.file.sha256 for o in records.outputs.values() if o.kind == "clean" and o.decision == output.decision}
    if not clean & set(made["subject"][0]["digest"].values()):
        yield Finding(subject, "its subject is no clean file of this decision")
    if decision is not None and scan is not None:
        told = {
            "source": scan.source_sha256,
            "model": scan.model_fingerprint,
            "tokenizer": scan.tokenizer_fingerprint,
            "settings": sha256_json(made["predicate"]["buildDefinition"]["externalParameters"]),
        }
        for name, expected in told.items():
            named = attestation.dependency(made, name)
            if named is None or expected not in named["digest"].values():
                yield Finding(subject, f"its {name} is not what the ledger has")
        verdicts = attestation.byproduct(made, "verdicts")
        if verdicts is None or verdicts["digest"].get("sha256") != decision.verdicts.sha256:
            yield Finding(subject, "its verdicts are not what the ledger has")
    pinned = attestation.byproduct(made, "ledger") or {}
    number = pinned.get("annotations", {}).get("seq")
    if records.lines.get(number) != pinned.get("digest", {}).get("sha256"):
        yield Finding("ledger journal", f"does not contain record {number} as {subject} saw it")


def _check_signature(records: Records, output: Output, subject: str, key: Path) -> Iterator[Finding]:
    """One valid signature on these bytes is enough, beside the store's copy or beside a copy handed out."""
    copies = {
        o.file.file for o in records.outputs.values() if o.kind == "attestation" and o.file.sha256 == output.file.sha256
    }
    reasons = []
    for path in sorted(signing.envelope_path(copy) for copy in copies):
        if not path.exists():
            continue
        try:
            if signing.open_envelope(path, key) == output.file.file.read_bytes():
                return
            reasons.append(f"{records.short(path)} signs other content")
        except (GradSentryError, OSError) as error:
            reasons.append(str(error))
    yield Finding(subject, "; ".join(reasons) or f"is not signed by {key}")
