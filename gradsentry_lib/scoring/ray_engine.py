"""Scoring on a Ray cluster: the same scorer as a pool of actors, each with a model of its own.

    samples.parquet -> read tasks -> wanted rows -> blocks of one shard -> actors -> scores, back to whoever asked

Ray Data does the distribution: it streams, so that neither the driver nor the object store holds the batch, and it
gives a dead worker's block to another; where a worker dies before it has begun, what is left is streamed anew. The
driver writes every block of scores to the cache as it comes in. Workers read samples.parquet and the model folder by
their paths: on several machines both lie on a file system that all share.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.errors import UnusableCluster, UnusableOption
from gradsentry_lib.samples.table import SAMPLE_COLUMNS, from_batch
from gradsentry_lib.scoring.config import Cluster, Effort, ScoringConfig
from gradsentry_lib.scoring.fingerprint import digests
from gradsentry_lib.scoring.identity import SPREAD, ModelIdentity, first_line
from gradsentry_lib.scoring.score import to_table

MOST_LOST = 8  # actors in a row of which none ends a block: then it is the block, or the cluster
# A cluster started for one scan has no dashboard: nobody reads its metrics, which cost two workers some 4 % here.
UNWATCHED = {
    "RAY_enable_metrics_collection": "0",
    "RAY_metrics_report_interval_ms": "60000",
    "RAY_task_events_report_interval_ms": "0",
}


@dataclass(frozen=True)
class Pool:
    """How many actors, and what each is given. `threads`: of torch, where it works on the CPU."""

    workers: int
    cpus: float
    gpus: float
    threads: int


def plan(resources: dict[str, float], device: str, workers: int | None) -> Pool:
    """The pool for a cluster of these resources. Raises BadInput where the cluster has no GPU and one is asked for.

    Together the actors leave some CPU to the tasks that read: a cluster full of actors would wait for ever.
    """
    cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    if device.startswith("cuda"):
        if gpus < 1:
            raise UnusableCluster("the Ray cluster has no GPU: add nodes that have, or scan with --device cpu")
        count = min(workers or int(gpus), int(gpus))
        return Pool(count, min(1.0, _spared(cpus) / count), 1.0, 1)
    count = workers or max(1, int(cpus) - 1)
    return Pool(count, min(1.0, _spared(cpus) / count), 0.0, max(1, int(cpus) // count))


def _spared(cpus: float) -> float:
    """What actors may take of so many CPUs."""
    return max(cpus - 1, cpus / 2)


def score_on_cluster(
    samples: Path, wanted: np.ndarray, identity: ModelIdentity, config: ScoringConfig, effort: Effort
) -> Iterator[pa.Table]:
    """Scores (SCORE_SCHEMA) of the samples at the `wanted` row numbers, in any order, each exactly once.

    Raises BadInput where there is no such cluster, or where the workers can't do their work.
    """
    if identity.device == SPREAD:
        raise UnusableOption(
            "a model spread over devices is scored in this process: leave --engine ray or the device out"
        )
    cluster = effort.cluster or Cluster()
    left, lost = wanted, 0
    with joined(cluster.address) as ray:
        while len(left):
            done: list[pa.ChunkedArray] = []
            try:
                for scores in _streamed(ray, samples, left, identity, config, effort):
                    if scores.num_rows:
                        done.append(scores["sample_id"])
                        yield scores
                return
            except ray.exceptions.RayError as error:
                lost = 1 if done else lost + 1
                died = isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed
                if not died or lost > MOST_LOST:
                    raise UnusableCluster(f"scoring on Ray failed: {cause(error)}") from error
            left = _without(left, samples, done)


def _streamed(
    ray: Any, samples: Path, wanted: np.ndarray, identity: ModelIdentity, config: ScoringConfig, effort: Effort
) -> Iterator[pa.Table]:
    """The same in one stream, which ends with an actor that dies before it has begun: only the blocks of those that
    have does Ray Data give to others."""
    pool = plan(ray.cluster_resources(), identity.device, effort.cluster.workers if effort.cluster else None)
    rows = max(1, min(effort.rows_per_shard, -(-len(wanted) // (4 * pool.workers))))  # all workers end together
    kept = ray.put(wanted)
    folders = replace(identity, folder=identity.folder.absolute(), base=identity.base and identity.base.absolute())
    threads = int(os.environ.get("OMP_NUM_THREADS") or pool.threads)
    table = (
        ray.data.read_parquet(str(samples.absolute()), columns=SAMPLE_COLUMNS)
        .map_batches(_only, batch_format="pyarrow", fn_args=[kept], batch_size=None)
        .repartition(target_num_rows_per_block=rows)
        .map_batches(
            Worker,
            batch_format="pyarrow",
            batch_size=rows,
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=pool.workers, max_tasks_in_flight_per_actor=2),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
            fn_constructor_args=[folders, config, replace(effort, cluster=None), threads],
        )
    )
    yield from table.iter_batches(batch_size=None, batch_format="pyarrow")


class Worker:
    """An actor: one loaded model. Batches of samples in, tables of scores out."""

    def __init__(self, identity: ModelIdentity, config: ScoringConfig, effort: Effort, threads: int) -> None:
        import torch

        from gradsentry_lib.scoring.model import load_model

        self.config, self.effort = config, effort
        if identity.device.startswith("cuda"):
            identity = replace(identity, device="cuda")  # Ray shows an actor its own GPU alone
        else:
            torch.set_num_threads(threads)
        found = digests(identity.folder, identity.gguf, identity.base)
        if found != (identity.weights, identity.tokenizer):
            raise UnusableCluster(f"{identity.folder} holds another model on this node than where the scan was started")
        self.model = load_model(identity, whole=config.module is not None)

    def __call__(self, batch: pa.Table) -> pa.Table:
        from gradsentry_lib.scoring.scorer import score_samples

        samples = [sample for part in batch.to_batches() for sample in from_batch(part)]
        return to_table(score_samples(samples, self.model, self.config, self.effort))


def _only(batch: pa.Table, kept: Any) -> pa.Table:
    """The wanted rows of a block. `kept`: (M,) sorted row numbers, as an array or a reference to one."""
    if not isinstance(kept, np.ndarray):
        import ray

        kept = ray.get(kept)
    rows = batch["row"].to_numpy()
    at = np.minimum(np.searchsorted(kept, rows), len(kept) - 1)
    return batch.filter(pa.array(kept[at] == rows))


def _without(wanted: np.ndarray, samples: Path, done: list[pa.ChunkedArray]) -> np.ndarray:
    """Those of the wanted rows whose samples are not among the ids that have scores."""
    ids = pa.chunked_array([chunk for part in done for chunk in part.chunks], pa.string())
    left = [wanted[:0]]
    for batch in pq.ParquetFile(samples).iter_batches(columns=["row", "sample_id"]):
        some = _only(pa.Table.from_batches([batch]), wanted)
        left.append(some["row"].to_numpy()[~pc.is_in(some["sample_id"], ids).to_numpy()])
    return np.concatenate(left)


@contextmanager
def joined(address: str | None) -> Iterator[Any]:
    """Joins a cluster, or starts one on this machine, quietly; leaves it again, unless it had been joined before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UnusableCluster("scoring on Ray needs the extra: pip install 'gradsentry[ray]'") from error
    joined = ray.is_initialized()
    if not joined:
        place = address or os.environ.get("RAY_ADDRESS") or "local"
        if place == "local":
            for name, value in UNWATCHED.items():
                os.environ.setdefault(name, value)
        try:
            ray.init(
                address=place,
                include_dashboard=False if place == "local" else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise UnusableCluster(f"no Ray cluster at {place}: {first_line(error)}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # "Progress bars disabled"
    try:
        yield ray
    finally:
        if not joined:
            ray.shutdown()


def cause(error: Exception) -> str:
    """The last line that says something: the exception that a worker raised, rather than where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
