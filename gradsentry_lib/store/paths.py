"""Where everything is in a store. Nobody else joins these names.

ledger.duckdb, ledger.heads            the records; a line for every time that they grew
model_digests.json                     remembered digests of model files
scores/<model and configuration>/      the score cache: files named by their SHA-256
batches/<batch>/                       one batch
    samples.parquet, rejected.jsonl    what was read of it
    sample_ids.u64                     which samples those are (sample_index.py)
    arrival.json, source/              how it came through the landing folder, and its bytes
    scores/<model and configuration>/  scores.parquet
    decisions/<decision>/              verdicts, what led to them, and what the scan would have found
    clean/<decision>/                  what was published
    attestations/                      a copy of every statement ever made
given/<digest>/                        data that came from memory or a URL
incoming/, locks/, landing/, rescans/  work at hand
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableOption, UnusableStore
from gradsentry_lib.files import sha256_json
from gradsentry_lib.store.lock import without_locks

try:
    import fcntl
except ImportError:  # no flock on Windows: there two scans of one batch at once are the user's to avoid
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


LAYOUT = 2  # of the folder; raised when files of it move. 1: version 0.3.0, where each step left a JSON file of its own
STEP_FILES = ("decisions/*/decision.json", "scores/*/scores.json", "batch.json")
VERDICT_FILES = "batches/*/decisions/*/verdicts.parquet"  # every verdict file in a store, as a pattern


@dataclass(frozen=True)
class DecisionFiles:
    """What a decision left in its folder."""

    folder: Path

    @property
    def verdicts(self) -> Path:
        return self.folder / "verdicts.parquet"

    @property
    def threshold(self) -> Path:
        return self.folder / "threshold.json"

    @property
    def plot(self) -> Path:
        return self.folder / "threshold.png"

    @property
    def groups(self) -> Path:
        return self.folder / "groups.json"

    @property
    def swapped(self) -> Path:
        """What the model said of swapped prompts."""
        return self.folder / "swapped.json"

    @property
    def power(self) -> Path:
        """What the scan would have found."""
        return self.folder / "power.json"

    @property
    def rows(self) -> Path:
        """What the review page lists, a line a row."""
        return self.folder / "listed.jsonl"

    @property
    def said(self) -> Path:
        """Of version 0.3.0: what the ledger has by now."""
        return self.folder / "decision.json"

    @property
    def report(self) -> Path:
        """Of a batch that the gate refused."""
        return self.folder / "report.html"


@dataclass(frozen=True)
class PublishedFiles:
    """What is handed out of a batch."""

    folder: Path

    def clean(self, suffix: str) -> Path:
        """`suffix`: the source's own."""
        return self.folder / f"clean{suffix}"

    @property
    def quarantine(self) -> Path:
        return self.folder / "quarantine.jsonl"

    @property
    def attestation(self) -> Path:
        return self.folder / "attestation.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


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

    @property
    def heads(self) -> Path:
        """A line for every time that the ledger grew: its newest record, so that cutting it off shows. Ship it
        elsewhere, line by line, and nobody who can write to the store can take records out unseen."""
        return self.home / "ledger.heads"

    @property
    def incoming(self) -> Path:
        """Copies of sources while they are read."""
        return self.home / "incoming"

    @property
    def given(self) -> Path:
        """Data that came from memory or a URL, as files named by their digest."""
        return self.home / "given"

    @property
    def landing(self) -> Path:
        """Where batches arrive, unless another place is named."""
        return self.home / "landing"

    def rescan_plan(self, run_id: str) -> Path:
        """The batches that a run found stale."""
        return self.home / "rescans" / f"{run_id}.json"

    def score_cache(self, fingerprint: str, config_key: str) -> Path:
        return self.home / "scores" / short_key(fingerprint, config_key)

    def canary_cache(self, fingerprint: str, config_key: str) -> Path:
        """Scores of copies of rows that attacks were planted into: no sample of any batch is looked for here."""
        return self.home / "scores" / f"{short_key(fingerprint, config_key)}-canaries"

    def cached_scores(self) -> list[Path]:
        """Every file of the score cache that is there."""
        return sorted(self.home.glob("scores/*/*.parquet"))

    def batch(self, batch_key: str) -> Path:
        return self.home / "batches" / _plain(batch_key, "a batch's key")

    def samples(self, batch_key: str) -> Path:
        return self.batch(batch_key) / "samples.parquet"

    def rejected(self, batch_key: str) -> Path:
        return self.batch(batch_key) / "rejected.jsonl"

    def sample_ids(self, batch_key: str) -> Path:
        return self.batch(batch_key) / "sample_ids.u64"

    def arrival(self, batch_key: str) -> Path:
        return self.batch(batch_key) / "arrival.json"

    def scores(self, batch_key: str, score_key: str) -> Path:
        return self.batch(batch_key) / "scores" / _plain(score_key, "a scan's key") / "scores.parquet"

    def decision(self, batch_key: str, decision_key: str) -> DecisionFiles:
        return DecisionFiles(self.batch(batch_key) / "decisions" / _plain(decision_key, "a decision's key"))

    def published(self, batch_key: str, decision_key: str) -> PublishedFiles:
        return PublishedFiles(self.batch(batch_key) / "clean" / _plain(decision_key, "a decision's key"))

    def step_files(self, batch_key: str) -> list[Path]:
        """Of version 0.3.0: where each step said what it did. The ledger has all of it, nobody reads them."""
        folder = self.batch(batch_key)
        return [path for name in STEP_FILES for path in sorted(folder.glob(name))]

    def attestations(self, batch_key: str) -> Path:
        """The folder with a copy of every attestation ever made of a batch."""
        return self.batch(batch_key) / "attestations"

    def kept_attestations(self, batch_key: str = "*") -> list[Path]:
        """The copies that are there, without their signatures."""
        found = self.home.glob(f"batches/{batch_key}/attestations/*.json")
        return sorted(path for path in found if not path.name.endswith(".dsse.json"))

    @contextmanager
    def alone(self, batch_key: str) -> Iterator[None]:
        """Holds a batch for the length of the block: two scans of the same batch go one after the other, and the
        second finds the work done. The lock goes with the process that holds it; nobody holds the ledger meanwhile."""
        path = self.home / "locks" / batch_key  # outside the batch, which may not be there yet
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


def _plain(key: str, what: str) -> str:
    """A key that stays inside its folder. Raises BadInput."""
    if not key or key != Path(key).name or key == "..":
        raise UnusableOption(f"{key!r} can't be {what}: it is no file name")
    return key


def short_key(*parts: object) -> str:
    """16 hex digits that name a combination of settings."""
    return sha256_json(list(parts))[:16]
