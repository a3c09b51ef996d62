"""Errors that a user can act on: one clear line, no traceback, a fixed exit code."""

from pathlib import Path


class GradSentryError(Exception):
    """Base of every error whose message is written for the user. `exit_code` is what the CLI ends with."""

    exit_code = 2


class BadInput(GradSentryError):
    """The source, an option or the environment is unusable; the message says what to do."""


class GateFailed(GradSentryError):
    """The batch was scored, but a gate refused it: nothing was written as clean."""

    exit_code = 3


class Damaged(BadInput):
    """A file of the store is not what was recorded of it, or gone."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}: scan the batch again")


class SourceChanged(BadInput):
    """The source is not what it was when it was opened or judged: nothing was published from it.

    `then`, `now`: its digests; without them it is gone.
    """

    exit_code = 4

    def __init__(self, path: Path | str, then: str = "", now: str = "") -> None:
        what = f"has changed since it was read (SHA-256 {then[:16]}... then, {now[:16]}... now)" if now else "is gone"
        super().__init__(f"{path} {what}; nothing was published. Scan it again, once nobody writes to it")
