"""Second step: every sample scored, most of them perhaps long ago.

Three passes over samples.parquet, none of which holds the batch in memory:

    what is missing   sample ids against the score cache; one row of each content
    scoring           the missing rows, shard by shard, each shard kept before the next begins, here or on a cluster
    collecting        scores.parquet from the cache, in source order

So a killed run goes on where it stopped, and a batch that shares rows with an earlier one scores only the others. The
model is loaded when the first sample needs it: where nothing is missing, none is.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.errors import Damaged, NotJudgedYet
from gradsentry_lib.files import atomic_path, has_digest, sha256_json
from gradsentry_lib.pipeline.ingest import READER, Ingested, samples_of
from gradsentry_lib.pipeline.missing import WINDOW, missing_rows, shards
from gradsentry_lib.samples.arrow import batches_of
from gradsentry_lib.scoring.cache import Book, ScoreCache
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.identity import ModelIdentity
from gradsentry_lib.scoring.resident import score_with
from gradsentry_lib.scoring.score import BATCH_SCORE_SCHEMA, Score, to_table
from gradsentry_lib.store import FileRef, Run, Scan, ScoreFile, file_ref, open_ledger
from gradsentry_lib.store.paths import Store, short_key

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel

PATIENCE = 3600.0  # seconds that an hour of scoring waits for whoever holds the ledger, rather than end


@dataclass(frozen=True)
class Scored:
    """A batch's scores under one model and configuration, from the ledger's record of them.

    `computed`: scored in this run, the others came from the cache. `seconds`: spent scoring, loading the model here
    left out.
    """

    batch_key: str
    score_key: str
    scan: int  # its number in the ledger
    scores_sha256: str
    model: str
    fingerprint: str
    rows: int
    unscored: int
    computed: int
    seconds: float
    supervised_tokens: int

    @classmethod
    def of(cls, scan: Scan, computed: int = 0, seconds: float = 0.0) -> "Scored":
        identity = [scan.model_fingerprint, scan.tokenizer_fingerprint, scan.scoring.get("dtype")]
        return cls(
            batch_key=scan.batch_key,
            score_key=scan.score_key,
            scan=scan.seq,
            scores_sha256=scan.scores.sha256,
            model=scan.model,
            fingerprint=sha256_json(identity),  # as ModelIdentity has it
            rows=scan.scored + scan.unscored,
            unscored=scan.unscored,
            computed=computed,
            seconds=seconds,
            supervised_tokens=scan.supervised_tokens or 0,
        )


@dataclass(frozen=True)
class Progress:
    """Where a run is. `eta`: seconds still to go, None before there is a rate."""

    done: int
    total: int
    rate: float  # rows a second

    @property
    def eta(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None


def score_batch(
    batch: Ingested,
    store: Store,
    run: Run,
    identity: ModelIdentity,
    load: Callable[[], "AnyModel"],
    config: ScoringConfig,
    effort: Effort | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Scored:
    """Scores of a batch in scores.parquet, one line a readable row in source order.

    `load` gives the model when it is first needed; it stays the caller's to free. Raises BadInput where the batch was
    read by an earlier version: its samples may lack what is scored by now.
    """
    key = short_key(identity.fingerprint, config.key)
    path = store.scores(batch.batch_key, key)
    known = _find_scan(store, batch.batch_key, key)
    if known is not None and not known.unscored and known.samples_sha256 == batch.samples_sha256 and _is_whole(known):
        return Scored.of(known)
    if batch.reader != READER:
        raise NotJudgedYet(
            f"{batch.batch_key} was read by an earlier version: scan its file, or materialize raw_samples"
        )
    started = datetime.now(UTC)
    cache = open_cache(store, store.score_cache(identity.fingerprint, config.key), run)
    samples = samples_of(batch, store)
    wanted = missing_rows(samples, cache)
    meter = _Meter(batch.readable, batch.readable - len(wanted), on_progress)
    if len(wanted):
        for fresh in _scores(samples, wanted, identity, load, config, effort or Effort(), meter):
            cache.add(fresh)
        meter.stop()
    _collect(samples, cache, path)
    scored = pq.read_table(path, columns=["entropy", "supervised_tokens"])
    unscored = int(np.isnan(scored["entropy"].to_numpy()).sum())
    scan = Scan(
        batch_key=batch.batch_key,
        source_sha256=batch.source_sha256,
        samples_sha256=batch.samples_sha256,
        model=identity.name,
        model_fingerprint=identity.weights,
        tokenizer_fingerprint=identity.tokenizer,
        scoring={**config.to_dict(), "dtype": identity.dtype},
        score_key=key,
        scores=file_ref(path),
        scored=batch.readable - unscored,
        unscored=unscored,
        device=identity.device,
        started_at=started,
        finished_at=datetime.now(UTC),
        run_id=run.run_id,
        supervised_tokens=pc.sum(scored["supervised_tokens"]).as_py() or 0,
    )
    with open_ledger(store.ledger) as ledger:
        ledger.record_run(run)
        scan = replace(scan, seq=ledger.record_scan(scan))
    return Scored.of(scan, meter.computed, meter.seconds)


def load_scored(store: Store, batch_key: str, score_key: str) -> Scored | None:
    """A batch's scores of one configuration, None where there are none. Raises Damaged."""
    scan = _find_scan(store, batch_key, score_key)
    if scan is not None and not _is_whole(scan):
        raise Damaged(scan.scores.file, "is not what was recorded of it" if scan.scores.file.exists() else "is gone")
    return None if scan is None else Scored.of(scan)


def _find_scan(store: Store, batch_key: str, score_key: str) -> Scan | None:
    with open_ledger(store.ledger, read_only=True) as ledger:
        found = ledger.find(Scan, batch_key=batch_key, score_key=score_key)
    return found[-1] if found else None


def _is_whole(scan: Scan) -> bool:
    return has_digest(scan.scores.file, scan.scores.sha256)


def read_scores(path: Path) -> pa.Table:
    """A batch's scores without the sketches, which are most of the file."""
    there = set(pq.read_schema(path).names)  # an older version kept less
    return pq.read_table(path, columns=[name for name in BATCH_SCORE_SCHEMA.names if name in there - {"sketch"}])


def read_sketches(path: Path) -> Iterator[bytes | None]:
    """The sketches of a batch's rows, in order, a little at a time."""
    with pq.ParquetFile(path) as file:
        for part in batches_of(file, 4096, ["sketch"]):
            yield from part["sketch"].to_pylist()


def open_cache(store: Store, folder: Path, run: Run) -> ScoreCache:
    """A cache whose book is the ledger, which is held for the moment that an entry takes."""

    def known() -> set[str]:
        with open_ledger(store.ledger, read_only=True) as ledger:
            return ledger.score_files(folder.name)

    def enter(path: Path, sha256: str, rows: int) -> None:
        with open_ledger(store.ledger, patience=PATIENCE) as ledger:
            ledger.record_run(run)
            ledger.record_score_file(
                ScoreFile(cache=folder.name, file=FileRef(path, sha256), rows=rows, run_id=run.run_id)
            )

    return ScoreCache(folder, Book(known, enter))


def _scores(
    samples: Path,
    wanted: np.ndarray,
    identity: ModelIdentity,
    load: Callable[[], "AnyModel"],
    config: ScoringConfig,
    effort: Effort,
    meter: "_Meter",
) -> Iterator[pa.Table]:
    """Scores of the wanted rows, a shard at a time: in order if scored here, as they come in from a cluster."""
    if effort.cluster is not None:
        from gradsentry_lib.scoring.ray_engine import score_on_cluster

        meter.start()
        for scores in score_on_cluster(samples, wanted, identity, config, effort):
            meter.scored(scores.num_rows)
            yield scores
        return
    model = load()
    meter.start()
    for shard in shards(samples, wanted, effort.rows_per_shard):
        yield to_table(score_with(model, shard, config, effort, meter.scored))


def _collect(samples: Path, cache: ScoreCache, path: Path) -> None:
    """Writes every readable row's score, in source order. A row whose score is gone is unscored, never left out."""
    with (
        pq.ParquetFile(samples) as file,
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, BATCH_SCORE_SCHEMA, compression="zstd") as writer,
    ):
        for part in batches_of(file, WINDOW, ["row", "sample_id"]):
            ids = part["sample_id"].to_pylist()
            known = cache.lookup(ids)
            gone = set(ids).difference(known["sample_id"].to_pylist())
            known = pa.concat_tables([known, to_table([_gone(sample_id) for sample_id in gone])])
            at = pc.index_in(part["sample_id"], value_set=known["sample_id"].combine_chunks())
            writer.write_table(known.take(at).add_column(0, "row", part["row"]).cast(BATCH_SCORE_SCHEMA))


def _gone(sample_id: str) -> Score:
    reason = "its score could not be read back from the cache; scan again"
    return Score(sample_id, np.nan, (), 0, np.nan, truncated=False, failure=reason)


class _Meter:
    """Counts rows and time, and tells whoever listens. `done`: rows that need no scoring."""

    def __init__(self, total: int, done: int, listener: Callable[[Progress], None] | None) -> None:
        self.total, self.done, self.listener = total, done, listener
        self.computed = 0
        self.seconds = 0.0
        self._since = 0.0
        self._tell()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._since

    def scored(self, rows: int) -> None:
        self.done += rows
        self.computed += rows
        self.stop()
        self._tell()

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener(Progress(self.done, self.total, self.computed / self.seconds if self.seconds else 0.0))
