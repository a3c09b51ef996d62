"""Scoring on a Ray cluster: the same scores, whatever happens to a worker."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.errors import BadInput
from gradsentry_lib.pipeline.run import ModelChoice
from gradsentry_lib.pipeline.score import Progress
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.table import write_samples
from gradsentry_lib.scoring import ray_engine, ray_search
from gradsentry_lib.scoring.config import Cluster, Effort, ScoringConfig
from gradsentry_lib.scoring.ray_engine import plan, score_on_cluster
from gradsentry_lib.scoring.ray_search import searching
from gradsentry_lib.store.paths import Store
from tests.detection.planted import Batch, Model
from tests.pipeline.builder import OPEN, lines, run, verdicts, write

pytestmark = pytest.mark.xdist_group("ray")  # on one of pytest's workers: one cluster for all


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def workers(name: str = "MapWorker") -> list[int]:
    """Process ids of the actors that score, or search."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if name in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(
    cluster: None, tmp_path: Path, tiny_model: Callable[..., Path], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first scores come in, a worker is killed at once, and all the same every row gets its score, once. Rows of
    several blocks are searched there too, for one decision."""
    model = tiny_model(hidden_size=256, intermediate_size=512, num_hidden_layers=6)
    source = write(tmp_path / "rows.jsonl", lines([*range(160), *range(10)]))
    killed: list[int] = []
    seen: list[Progress] = []

    def kill(at: Progress) -> None:
        seen.append(at)
        if at.done > 10 and not killed:
            killed.extend(workers()[:1])
            os.kill(killed[0], signal.SIGKILL)

    searched: list[Cluster] = []
    real = ray_search.search_on_cluster
    spy = lambda cluster, *given: searched.append(cluster) or real(cluster, *given)  # noqa: E731
    monkeypatch.setattr(ray_search, "search_on_cluster", spy)
    effort = Effort(rows_per_shard=8, cluster=Cluster(workers=2))
    decision = replace(OPEN, policy="auto", detection=DetectionConfig(computing=Computing(block=90)))
    result = run(source, model, store, effort=effort, decision=decision, on_progress=kill)
    assert searched and all(cluster == effort.cluster for cluster in searched)
    assert killed and killed[0] not in workers()
    assert any(10 < at.done < 170 for at in seen) and seen[-1].done == 170
    assert (result.scored.computed, result.scored.unscored) == (160, 0)

    alone = Store(tmp_path / "alone")
    expected = verdicts(run(source, model, alone, decision=decision), alone)
    found = verdicts(result, store)
    assert found["row"].to_pylist() == list(range(170))
    assert found["verdict"].to_pylist() == expected["verdict"].to_pylist()
    np.testing.assert_allclose(found["entropy"].to_numpy(), expected["entropy"].to_numpy(), rtol=0, atol=1e-6)
    kept = [
        i for path in (store.home / "scores").rglob("*.parquet") for i in pq.read_table(path)["sample_id"].to_pylist()
    ]
    assert len(kept) == len(set(kept)) == 160
    assert run(source, model, store).scored.computed == 0  # found again by a scan without a cluster


@pytest.mark.slow
def test_only_the_wanted_rows_are_scored(cluster: None, tmp_path: Path, model: Path, store: Store) -> None:
    source = open_source(str(write(tmp_path / "rows.jsonl", ["{broken", *lines(range(30))])))
    write_samples(source, tmp_path / "samples.parquet", tmp_path / "rejected.jsonl")
    samples = {s.row: s.sample_id for s in source.rows() if hasattr(s, "sample_id")}
    identity = ModelChoice(str(model), dtype="float32").identify()
    wanted = np.array([2, 3, 17, 30])
    effort = Effort(cluster=Cluster(workers=1))
    tables = list(score_on_cluster(tmp_path / "samples.parquet", wanted, identity, ScoringConfig(), effort))
    ids = [i for table in tables for i in table["sample_id"].to_pylist()]
    assert sorted(ids) == sorted(samples[row] for row in wanted)

    elsewhere = replace(identity, weights="0" * 64)
    with pytest.raises(BadInput, match="holds another model on this node"):
        list(score_on_cluster(tmp_path / "samples.parquet", wanted, elsewhere, ScoringConfig(), effort))


@pytest.mark.slow
def test_a_worker_that_dies_before_it_has_begun_loses_nothing(
    cluster: None, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine is lost while it starts: Ray Data ends the stream then, and what is left is streamed anew."""
    import ray

    source = open_source(str(write(tmp_path / "rows.jsonl", lines(range(24)))))
    write_samples(source, tmp_path / "samples.parquet", tmp_path / "rejected.jsonl")
    identity, effort = ModelChoice(str(model), dtype="float32").identify(), Effort(rows_per_shard=6)
    effort = replace(effort, cluster=Cluster(workers=1))
    real, asked = ray_engine._streamed, list[int]()

    def dies(at: Any, samples: Path, wanted: np.ndarray, *given: Any) -> Iterator[pa.Table]:
        asked.append(len(wanted))
        stream = real(at, samples, wanted, *given)
        if len(asked) != 2:  # the second time none comes
            yield next(stream)
        if len(asked) < 4:
            raise ray.exceptions.ActorDiedError()
        yield from stream

    monkeypatch.setattr(ray_engine, "_streamed", dies)
    wanted = np.arange(24)
    tables = list(score_on_cluster(tmp_path / "samples.parquet", wanted, identity, ScoringConfig(), effort))
    ids = [s.sample_id for s in source.rows()]
    assert sorted(i for table in tables for i in table["sample_id"].to_pylist()) == sorted(ids)
    assert asked[0] == 24 > asked[1] == asked[2] > asked[3]

    asked.clear()
    monkeypatch.setattr(ray_engine, "MOST_LOST", 1)
    monkeypatch.setattr(ray_engine, "_streamed", lambda *_: _never(ray, asked))
    with pytest.raises(BadInput, match="scoring on Ray failed"):
        list(score_on_cluster(tmp_path / "samples.parquet", wanted, identity, ScoringConfig(), effort))
    assert len(asked) == 2


def _never(ray: Any, asked: list[int]) -> Iterator[pa.Table]:
    asked.append(0)
    raise ray.exceptions.ActorDiedError()
    yield


@pytest.mark.slow
def test_blocks_searched_apart_give_the_same_verdicts(cluster: None) -> None:
    """Though an actor is killed while a question is answered: nothing of its block counts twice."""
    batch, config = Batch(11), DetectionConfig(computing=Computing(block=60, together=30))
    batch.honest(90)
    batch.triggered(30)
    rows, reason = batch.rows(), Model(2.0, 2.0)
    asked: dict[bool, set[Any]] = {False: set(), True: set()}
    lost: list[int] = []

    def answer(apart: bool, questions: Any) -> Any:
        asked[apart].update(questions)
        if apart and not lost:
            lost.extend(workers("Searcher")[:1])
            os.kill(lost[0], signal.SIGKILL)
        return reason(questions)

    here = detect_all(rows, config, partial(answer, False))
    with searching(Cluster(workers=2)):
        apart = detect_all(rows, config, partial(answer, True))
    assert lost and lost[0] not in workers("Searcher")
    assert here.flagged.sum() == 30 and apart.flagged.tolist() == here.flagged.tolist()
    assert [repr(trigger) for trigger in apart.triggers] == [repr(trigger) for trigger in here.triggers]
    assert asked[True] == asked[False] != set()


@pytest.mark.slow
def test_no_cluster_at_an_address(tmp_path: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refuse(**options: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    effort = Effort(cluster=Cluster(address="10.9.8.7:6379"))
    with pytest.raises(BadInput, match=r"no Ray cluster at 10\.9\.8\.7:6379: nobody answers"):
        run(write(tmp_path / "rows.jsonl", lines(range(3))), model, store, effort=effort)


@pytest.mark.parametrize("cpus", [1, 2, 3, 16, 128])
@pytest.mark.parametrize("workers", [None, 1, 2, 64])
def test_actors_leave_a_cpu_to_the_readers(cpus: int, workers: int | None) -> None:
    pool = plan({"CPU": cpus}, "cpu", workers)
    assert pool.workers == (workers or max(1, cpus - 1))
    assert 0 < pool.workers * pool.cpus <= max(cpus - 1, cpus / 2) and pool.cpus <= 1
    assert pool.gpus == 0 and pool.threads >= 1


def test_one_actor_a_gpu() -> None:
    assert plan({"CPU": 64, "GPU": 8}, "cuda", None).workers == 8
    assert plan({"CPU": 64, "GPU": 8}, "cuda:3", 2).workers == 2
    assert plan({"CPU": 64, "GPU": 8}, "cuda", 20).workers == 8
    pool = plan({"CPU": 8, "GPU": 8}, "cuda", None)
    assert pool.gpus == 1 and pool.workers * pool.cpus <= 7
    with pytest.raises(BadInput, match="no GPU"):
        plan({"CPU": 8}, "cuda", None)
