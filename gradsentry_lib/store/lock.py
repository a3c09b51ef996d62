"""A queue before the ledger: one writing process, or any number of reading ones, and nobody starves.

DuckDB refuses a second process at once where one writes. Two advisory file locks (flock) beside the ledger turn that
into waiting. `<ledger>.queue` is a turnstile: whoever waits for the ledger holds it, so that later comers, readers
too, stand behind. `<ledger>.lock` is the ledger itself: shared by readers, exclusive for a writer. The kernel drops
both when their holder dies, however it dies; the files are never deleted and carry no state but the writer's name.
"""

import json
import logging
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from gradsentry_lib.errors import BusyStore, UnusableStore

try:
    import fcntl
except ImportError:  # no flock on Windows: there DuckDB's own lock decides, and connecting is retried
    fcntl = None  # type: ignore[assignment]

PATIENCE = 120.0  # seconds a process waits for the ledger before it gives up
QUIET = 5.0  # seconds it waits before it says so

log = logging.getLogger(__name__)


class Waiting:
    """A wait for the ledger that began now: says once for whom, and ends with BusyStore after `patience` seconds."""

    def __init__(self, ledger: Path, patience: float) -> None:
        self.ledger, self.patience, self.begun, self.said = ledger, patience, time.monotonic(), False

    def check(self, holder: Callable[[], str]) -> None:
        waited = time.monotonic() - self.begun
        if waited > self.patience:
            raise BusyStore(
                f"the ledger {self.ledger} was busy for {self.patience:g} s; {holder()}; try again when that has ended"
            )
        if waited > QUIET and not self.said:
            self.said = True
            log.warning("Waiting for the ledger %s, %g s at most: %s.", self.ledger, self.patience, holder())


def pauses() -> Iterator[float]:
    """Seconds to sleep between attempts: random, so that waiters do not march in step, and growing to 0.02 s."""
    longest = 0.004
    while True:
        yield random.uniform(0.001, longest)
        longest = min(longest * 1.5, 0.02)


@contextmanager
def hold(ledger: Path, *, shared: bool, patience: float = PATIENCE) -> Iterator[None]:
    """Holds the ledger's lock for the length of the block. Raises BusyStore after `patience` seconds."""
    waiting = Waiting(ledger, patience)
    with ExitStack() as stack:
        try:
            queue, lock = (stack.enter_context(_open(ledger, suffix)) for suffix in (".queue", ".lock"))
        except OSError as error:
            if shared:  # a store that can't be written to: nobody writes, so nobody need be waited for
                yield
                return
            raise UnusableStore(f"can't write to {ledger.parent}: {error.strerror}") from error
        if fcntl is None:
            yield
            return
        try:
            _acquire(queue, fcntl.LOCK_EX, waiting)
            _acquire(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, waiting)
        except OSError as error:
            if shared:  # nobody can lock here, so nobody writes
                yield
                return
            raise without_locks(ledger.parent, error) from error
        if not shared:
            _sign(lock)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield  # closing the files lets go


def without_locks(folder: Path, error: OSError) -> UnusableStore:
    """What to say where the file system has no flock, as some network file systems."""
    return UnusableStore(
        f"the file system of {folder} has no file locks ({error.strerror}), so two scans could destroy each other's "
        "work: nothing was written; move the store to a local disk, or mount it with locks, and set GRADSENTRY_HOME"
    )


def _open(ledger: Path, suffix: str) -> IO[str]:
    return ledger.with_name(ledger.name + suffix).open("a+", encoding="utf-8")


def _acquire(file: IO[str], kind: int, waiting: Waiting) -> None:
    for pause in pauses():
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waiting.check(lambda: _holder(waiting.ledger))
        time.sleep(pause)


def _sign(lock: IO[str]) -> None:
    """Writes who holds the lock, for the message of whoever waits in vain."""
    signature = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": Path(sys.argv[0] or "python").name,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with suppress(OSError):  # a full disk: the lock holds without it
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), json.dumps(signature).encode())


def _holder(ledger: Path) -> str:
    """The last writer's own words. It may have gone since, and readers then hold the lock."""
    try:
        said = json.loads(ledger.with_name(ledger.name + ".lock").read_text(encoding="utf-8"))
        return (
            f"the last to write was process {int(said['pid'])} ({str(said['command'])!r}) "
            f"on {str(said['host'])!r} since {str(said['since'])!r}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "other processes are reading it"
