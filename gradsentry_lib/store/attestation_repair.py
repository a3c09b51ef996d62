"""Attestations that a killed process left half published: a file that the ledger does not know, or a record without
its file.

Only what the ledger itself bears out is put right. A file is recorded if the ledger would say the same of that
decision today, word for word but for the time, and if it has the head that the file names; a record gets its file back
from a copy with the recorded digest. Anything else stays as it is, for the verification to name.
"""

import json
import shutil
from pathlib import Path

from gradsentry_lib.files import atomic_path, has_digest, sha256_json
from gradsentry_lib.store.attestation import attestations, broken_rules, byproduct, statement
from gradsentry_lib.store.ledger import Ledger
from gradsentry_lib.store.records import Decision, Output, file_ref


def repair(ledger: Ledger, batch_key: str) -> None:
    """Puts a batch's attestations right; to be called before the next one is made, since each names the one before."""
    kept = attestations(ledger, batch_key)
    for file in kept:
        if not file.file.exists():
            _bring_back(ledger, file.file, file.sha256)
    known = {file.file for file in kept}
    for path in ledger.paths.kept_attestations(batch_key):
        if path in known:
            continue
        decision = _borne_out(ledger, batch_key, path)
        if decision is not None:
            run_id = ledger.get(Decision, decision).run_id
            ledger.record_output(
                Output(
                    batch_key=batch_key, decision=decision, kind="attestation", file=file_ref(path), run_id=run_id
                )
            )  # fmt: skip


def _bring_back(ledger: Ledger, path: Path, sha256: str) -> None:
    for output in ledger.find(Output, kind="attestation", file_sha256=sha256):
        if has_digest(output.file.file, sha256):
            with atomic_path(path) as temporary:
                shutil.copyfile(output.file.file, temporary)
            return


def _borne_out(ledger: Ledger, batch_key: str, path: Path) -> int | None:
    """The decision that an unrecorded attestation is about, where the ledger says what the attestation says."""
    try:
        made = json.loads(path.read_bytes())
        if broken_rules(made) or path.stem != sha256_json(made)[:16]:
            return None
        decision = made["predicate"]["buildDefinition"]["internalParameters"]["decision"]
        finished = made["predicate"]["runDetails"]["metadata"]["finishedOn"]
        if decision not in {known.seq for known in ledger.find(Decision, batch_key=batch_key)}:
            return None
        head = byproduct(made, "ledger")
        for output in ledger.find(Output, decision=decision, kind="clean"):
            expected = statement(ledger, decision, output.file)
            details = expected["predicate"]["runDetails"]
            details["metadata"]["finishedOn"] = finished
            details["byproducts"][-1] = head
            if sha256_json(expected) == sha256_json(made) and head is not None and _has_head(ledger, head):
                return int(decision)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _has_head(ledger: Ledger, pinned: object) -> bool:
    lines = ledger.connection.execute("SELECT seq, sha256 FROM journal").fetchall()
    return any(
        pinned == {"name": "ledger", "digest": {"sha256": sha256}, "annotations": {"seq": seq}} for seq, sha256 in lines
    )
