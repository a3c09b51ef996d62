"""Errors that a user can act on: one clear line, no traceback. What kind it is says what happened and what to do.

The message of each is one sentence on this very case, with the way out of it. The class says the same of the kind:
`title` (what happened), `advice` (what to do), `exit_code` (what the command ends with), `retry` (whether the same
again may do, without anybody's help). The command and Dagster read these off the class; docs/errors.md lists them.
"""

from pathlib import Path
from typing import ClassVar


class GradSentryError(Exception):
    """Base of every error whose message is written for the user; raise one of the kinds below."""

    title: ClassVar[str] = "GradSentry can't go on"
    advice: ClassVar[str] = "do what the message says, then run the same again: what was finished is kept"
    exit_code: ClassVar[int] = 2
    retry: ClassVar[bool] = False


class BadInput(GradSentryError):
    """Somebody has to put something right first: the same again fails again. One of the kinds below says what."""

    title = "What was given can't be used"
    advice = "mend what the message names, then run the same again"


class UnusableInput(BadInput):
    """The source of samples: not there, of no known kind, damaged, too large, with options that do not fit it."""

    title = "The source can't be read"
    advice = "mend or convert the file; `gradsentry formats FILE` shows in a second how it would be read"


class UnusableOption(BadInput):
    """An option, a resource's field or an environment variable: out of range, unknown, not with that other one."""

    title = "An option can't be used"
    advice = "give another value; docs/options.md lists every option with its range"


class UnusableModel(BadInput):
    """The scoring model: not to be had, not whole, or of a kind whose gradients can't be taken."""

    title = "The model can't score"
    advice = "give a causal language model that is whole; docs/models.md says which work"


class UnusableCluster(BadInput):
    """The Ray cluster: not there, without what is asked for, or its workers fail."""

    title = "Scoring on Ray failed"
    advice = "look into the cluster's own logs, or leave --engine ray out; what was scored is kept"


class UnusableFile(BadInput):
    """Another file that a command was given: a key, an attestation, heads, a list of samples, a place for results."""

    title = "A file that was named can't be used"
    advice = "check the path and its content, or name another file"


class NotFound(BadInput):
    """The store knows no batch, sample, decision or file of that name, or several."""

    title = "The store knows nothing of that name"
    advice = "`gradsentry audit` finds files, batches, samples and texts; GRADSENTRY_HOME says which store is asked"


class InTheWay(BadInput):
    """Something lies where results are to go, and is not replaced unasked."""

    title = "Something is in the way of the results"
    advice = "name another folder, or say --overwrite"


class SourceChanged(BadInput):
    """The source is not what it was when it was opened or judged: nothing was published from it.

    `then`, `now`: its digests; without them it is gone.
    """

    title = "The source changed while it was scanned"
    advice = "scan it again, once nobody writes to it"
    exit_code = 4

    def __init__(self, path: Path | str, then: str = "", now: str = "") -> None:
        what = f"has changed since it was read (SHA-256 {then[:16]}... then, {now[:16]}... now)" if now else "is gone"
        super().__init__(f"{path} {what}; nothing was published. Scan it again, once nobody writes to it")


class NotJudgedYet(BadInput):
    """A step that has to come first was not taken for this batch: not read, not scored, not judged, no gate yet."""

    title = "A step that comes first is missing"
    advice = "scan the batch, or materialize the assets before this one"


class UnusableStore(BadInput):
    """No store can be here: no folder, no permission, no locks, or it is of a newer version."""

    title = "The store can't be used"
    advice = "check the folder that GRADSENTRY_HOME names"


class DamagedStore(BadInput):
    """Something that the store recorded is gone, or is not what was recorded. Nothing is derived from it."""

    title = "The store is damaged"
    advice = "`gradsentry audit verify` names all that was altered; restore it from a backup, or scan the batch again"


class Damaged(DamagedStore):
    """A file of the store is not what was recorded of it, or gone."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}: scan the batch again")


class BusyStore(GradSentryError):
    """Another process holds the store, for longer than one waits."""

    title = "Another process holds the store"
    advice = "wait for the process that the message names, then run the same again"
    retry = True


class GateFailed(GradSentryError):
    """The batch was scored, but its gate is closed: nothing was written as clean."""

    title = "The gate refused the batch"
    advice = "`gradsentry gate show BATCH`; then mend the data, release rows, or `gradsentry gate accept BATCH`"
    exit_code = 3


class EvidenceAltered(GradSentryError):
    """What is looked at is not what the ledger has of it."""

    title = "The evidence does not hold"
    advice = "find out who altered what is named; restore it from a backup"
    exit_code = 4


class MachineTrouble(GradSentryError):
    """The machine refuses: memory, space, permission, a failing disk (system_errors.py says it in a line)."""

    title = "The machine refuses"
    advice = "free memory or space, or mend the permissions, then run the same again: what was finished is kept"
