"""Where things are in the store."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableStore
from gradsentry_lib.files import sha256_json
from gradsentry_lib.store.lock import without_locks

try:
    import fcntl
except ImportError:  # no flock on Windows: there two scans of one batch at once are the user's to avoid
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """The store's folder; `GRADSENTRY_HOME` unless given."""

    home: Path

    @classmethod
    def default(cls) -> "Store":
        return cls(settings.home())

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.duckdb"

    def score_cache(self, fingerprint: str, config_key: str) -> Path:
        return self.home / "scores" / short_key(fingerprint, config_key)

    def batch(self, batch_key: str) -> Path:
        return self.home / "batches" / batch_key

    @contextmanager
    def alone(self, batch_key: str) -> Iterator[None]:
        """Holds a batch for the length of the block: two scans of the same batch go one after the other, and the
        second finds the work done. The lock goes with the process that holds it; nobody holds the ledger meanwhile."""
        path = self.home / "locks" / batch_key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        except OSError as error:
            raise UnusableStore(f"can't write to {self.home}: {error.strerror}") from error
        with file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    log.warning("Batch %s is being scanned by another process: waiting for it.", batch_key)
                    fcntl.flock(file, fcntl.LOCK_EX)
                except OSError as error:
                    raise without_locks(self.home, error) from error
            yield


def short_key(*parts: object) -> str:
    """16 hex digits that name a combination of settings."""
    return sha256_json(list(parts))[:16]
