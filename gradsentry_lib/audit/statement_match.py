"""A clean set and the statement beside it: do they belong together, and are they the batch's last?"""

import json
from collections.abc import Sequence
from pathlib import Path

from gradsentry_lib.files import sha256_file
from gradsentry_lib.store.paths import PublishedFiles
from gradsentry_lib.store.records import Output


def later(output: Output, outputs: Sequence[Output]) -> int:
    """The batch's last published decision where a set or statement is of an earlier one, else 0: it is as good as it
    was, and not the last word."""
    if output.kind not in ("clean", "attestation"):
        return 0
    published = [item.decision for item in outputs if item.batch_key == output.batch_key and item.kind == "clean"]
    last = max(published, default=0)
    return last if last > output.decision else 0


def mismatch(file: Path, output: Output, outputs: Sequence[Output]) -> str:
    """That an unaltered set and the statement that lies beside it do not belong together, in words; empty where they
    do, or where none lies there. `output`: what the ledger knows `file` as."""
    if output.kind not in ("clean", "attestation"):
        return ""
    beside = PublishedFiles(file.parent).attestation
    statement = file if output.kind == "attestation" else beside
    try:
        said = json.loads(statement.read_bytes())["subject"][0]
        name, digests = Path(str(said["name"])).name, set(said["digest"].values())
        clean = file.parent / name if output.kind == "attestation" else file
        if not clean.is_file() or not statement.is_file():
            return ""
        clean_sha256, statement_sha256 = sha256_file(clean), sha256_file(statement)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return f"the statement beside it, {beside.name}, can't be read" if beside.is_file() else ""
    if clean_sha256 in digests:
        return ""
    sets = [item for item in outputs if item.kind == "clean" and item.file.sha256 == clean_sha256]
    statements = [item for item in outputs if item.kind == "attestation" and item.file.sha256 == statement_sha256]
    if not statements:
        return f"the statement beside it, {statement.name}, is not of this set, and the ledger does not know it"
    stated = statements[-1]
    if sets and stated.batch_key == sets[-1].batch_key and stated.decision < sets[-1].decision:
        return (
            f"{statement.name} is an older statement, of decision {stated.decision}; the set beside it, {clean.name}, "
            f"is of decision {sets[-1].decision}"
        )
    return f"{statement.name} is a statement of another set, of decision {stated.decision} (batch {stated.batch_key})"
