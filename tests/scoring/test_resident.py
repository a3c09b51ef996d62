"""A scorer that stays loaded: found and asked by other processes, shared, bounded, forgetful of who hangs up."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from gradsentry_lib.pipeline.run import ModelChoice, scan
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring import resident, resident_wire, service
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.identity import ModelIdentity, identify
from gradsentry_lib.scoring.model import ScoringModel, load_model
from gradsentry_lib.scoring.resident import Remote, find, open_model, place, score_with
from gradsentry_lib.scoring.score import Score
from gradsentry_lib.scoring.scorer import score_samples
from gradsentry_lib.scoring.service import Bench, Full, Job, announced, make_app
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, write
from tests.running import running

CONFIG = ScoringConfig(k=4)


def rows(count: int, first: int = 0) -> list[Sample]:
    return [
        Sample(i, i + 1, "prompt", (Turn("prompt", f"question {i}"), Turn("response", f"answer {i} of some words")))
        for i in range(first, first + count)
    ]


@pytest.fixture
def identity(tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelIdentity:
    monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path / "cache"))
    return identify(str(tiny_model()), device="cpu", dtype="float32")


@contextmanager
def served(identity: ModelIdentity, bench: Bench | None = None, port: int | None = None) -> Iterator[Bench]:
    bench = bench or Bench(lambda: load_model(identity))
    worker = threading.Thread(target=bench.run, daemon=True)
    worker.start()
    with announced(identity, port) as (listening, token):
        app = make_app(bench, token, resident.about(identity))
        with running(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1), listening):
            yield bench
    bench.end()
    worker.join(10)


def not_here() -> ScoringModel:
    raise AssertionError("the model was loaded in this process")


def wait_for(what: Callable[[], Any]) -> None:
    while not what():
        time.sleep(0.01)


@pytest.mark.parametrize("port", [None, 0])
def test_scores_are_those_of_a_model_loaded_here(identity: ModelIdentity, port: int | None) -> None:
    own = score_samples(rows(30), load_model(identity), CONFIG)
    told: list[int] = []
    with served(identity, port=port):
        remote = find(identity, not_here)
        assert remote is not None and remote.address.startswith("unix:" if port is None else "port:")
        assert score_with(remote, rows(30), CONFIG, None, told.append) == own
        assert sum(told) == 30
        other = identify(str(identity.folder), device="cpu", dtype="float64")
        assert find(other, not_here) is None  # of another number format
    assert find(identity, not_here) is None and not place(identity).exists()


def test_several_clients_go_through_the_model_together(identity: ModelIdentity) -> None:
    model, seen = load_model(identity), []

    def score(samples: list[Sample], *told: Any) -> list[Score]:
        seen.append(len(samples))
        return score_samples(samples, *told)

    frames: dict[str, list[bytes]] = {"ana": [], "ben": [], "eve": []}
    bench = Bench(lambda: model, score)
    for name, config in (("ana", CONFIG), ("ben", CONFIG), ("eve", ScoringConfig(k=2))):
        bench.put(Job(rows(5, len(name)), config, frames[name].append))
    worker = threading.Thread(target=bench.run, daemon=True)
    worker.start()
    wait_for(lambda: bench.passes == 2)
    bench.end()
    worker.join(10)
    assert seen == [10, 5] and all(told[-1][:1] == service.SCORES for told in frames.values())


def test_no_more_rows_wait_than_allowed(identity: ModelIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAITING", 8)
    bench = Bench(not_here)
    bench.put(Job(rows(5), CONFIG, print))
    with pytest.raises(Full):
        bench.put(Job(rows(5), CONFIG, print))
    bench.put(Job(rows(3), CONFIG, print))


@pytest.mark.slow
def test_a_full_queue_is_waited_for_and_then_done_without(
    identity: ModelIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "put", lambda self, job: (_ for _ in ()).throw(Full))
    monkeypatch.setattr(resident_wire, "PATIENCE", 0.1)
    with served(identity):
        remote = find(identity, lambda: load_model(identity))
        assert remote is not None and len(score_with(remote, rows(3), CONFIG)) == 3
        assert remote.loaded is not None


def test_who_hangs_up_is_forgotten_and_its_pass_ended(identity: ModelIdentity) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(samples: list[Sample], model: Any, config: Any, effort: Any, report: Callable[[int], None]) -> None:
        begun.set()
        try:
            while True:
                report(0)
                time.sleep(0.01)
        except service.Abandoned:
            ended.set()
            raise

    with served(identity, Bench(lambda: None, endless)) as bench:  # type: ignore[arg-type, return-value]
        remote = find(identity, not_here)
        assert remote is not None
        body = resident_wire.request_of(rows(3), CONFIG)
        with resident_wire.answer(remote.address, remote.token, "POST", "/score", body, timeout=5.0):
            begun.wait(10)
            bench.put(waiting := Job(rows(3), CONFIG, print))
            waiting.cancelled.set()
        assert ended.wait(10)
        wait_for(lambda: not bench._jobs)


def test_a_scorer_that_goes_away_half_way_costs_time_alone(
    identity: ModelIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(identity)
    own = [score for first in (0, 10) for score in score_samples(rows(10, first), model, CONFIG)]
    monkeypatch.setattr(resident, "ROWS", 10)
    passes = []

    def once(samples: list[Sample], *told: Any) -> list[Score]:
        passes.append(1)
        if len(passes) > 1:
            raise MemoryError("gone")
        return score_samples(samples, *told)

    told: list[int] = []
    with served(identity, Bench(lambda: model, once)):
        remote = find(identity, lambda: load_model(identity))
        assert remote is not None
        assert score_with(remote, rows(20), CONFIG, None, told.append) == own
        assert remote.loaded is not None and sum(told) == 20


def test_no_one_else_is_believed_or_answered(identity: ModelIdentity) -> None:
    with served(identity):
        path = place(identity)
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
        remote = find(identity, not_here)
        assert remote is not None
        with pytest.raises(resident_wire.Gone, match="403"):
            Remote(remote.address, "guess", not_here).about()
        path.chmod(0o666)
        assert find(identity, not_here) is None
        path.chmod(0o600)
        path.write_text(json.dumps({**json.loads(path.read_text()), "token": "another"}))
        assert find(identity, not_here) is None


def test_a_killed_one_leaves_a_file_that_nobody_minds(identity: ModelIdentity) -> None:
    place(identity).parent.mkdir(parents=True, mode=0o700)
    for address in ("unix:/nowhere/socket", "port:9"):
        place(identity).write_text(json.dumps({"address": address, "token": "t", "pid": 1}))
        place(identity).chmod(0o600)
        assert isinstance(open_model(identity), ScoringModel)


def test_the_model_goes_when_there_is_nothing_to_do_and_comes_back(identity: ModelIdentity) -> None:
    with served(identity, Bench(lambda: load_model(identity), idle=0.05)) as bench:
        remote = find(identity, not_here)
        assert remote is not None
        for _ in range(2):
            assert len(score_with(remote, rows(2), CONFIG)) == 2
            wait_for(lambda: bench.model is None)


PROGRAM = """
import sys, atexit
atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr))
from gradsentry_lib.cli import main
main()
"""


@pytest.mark.slow
def test_the_command_serves_scans_until_it_is_interrupted(identity: ModelIdentity, tmp_path: Path) -> None:
    """As a person would: one terminal serves, scans in others score with its model and never import torch."""
    told = os.environ | {"GRADSENTRY_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    model = ["--model", str(identity.folder), "--device", "cpu", "--dtype", "float32"]

    def run(*given: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, *given, *model]
        return subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    serving = run("serve")
    assert serving.stdout is not None and "stays loaded" in serving.stdout.readline()
    source = write(tmp_path / "rows.jsonl", lines(range(20)))
    scanning = run("scan", str(source), "--out", str(tmp_path / "out"))
    _, said = scanning.communicate(timeout=300)
    assert scanning.returncode == 0 and re.findall("True|False", said)[-1] == "False", said
    choice = ModelChoice(str(identity.folder), device="cpu", dtype="float32", resident="off")
    alone = scan(str(source), Store(tmp_path / "alone"), model=choice)
    assert alone.published is not None
    assert alone.published.clean.read_bytes() == (tmp_path / "out" / "clean.jsonl").read_bytes()
    serving.send_signal(signal.SIGINT)
    assert serving.wait(30) in (0, 130, -signal.SIGINT) and not place(identity).exists()
