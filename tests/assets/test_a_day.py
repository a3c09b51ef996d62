"""Twenty-four simulated hours: files at all hours, one in twenty (at least one) damaged, runs killed at random.

The clock is the test's: every two hours some files arrive, a few are renamed at once, the landing sensor looks twice,
and what it asks for is run as Dagster's daemon would; at night the re-scan finds what was killed too often. Scoring is
a stub; everything else is real. 12 files by default; GRADSENTRY_TEST_FILES=500 for the full day: twenty minutes.
"""

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from gradsentry_assets.definitions import defs
from gradsentry_assets.rescan import run_requests
from gradsentry_lib.pipeline.decided import Decided
from gradsentry_lib.pipeline.ingest import load
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring import model as scoring_model
from gradsentry_lib.scoring import scorer
from gradsentry_lib.scoring.score import Score
from gradsentry_lib.store import open_ledger
from tests.assets.conftest import STAGE, World, as_jsonl, questions

FILES, TICKS = int(os.environ.get("GRADSENTRY_TEST_FILES", "12")), 12
KILLS = 0.05 if FILES > 100 else 0.2  # chance that scoring a batch is a worker's end


class Killed(BaseException):
    """The worker process dies: no code of the run gets to handle this."""


@dataclass
class Scoring:
    """Scores by length of the answer; dies with a given chance at every call."""

    chance: float = KILLS
    kills: int = 0


@pytest.fixture
def stub_scoring(monkeypatch: pytest.MonkeyPatch) -> Scoring:
    stub, draw = Scoring(), random.Random(1)

    def score(samples: Sequence[Sample], model: Any, config: Any, effort: Any, on_progress: Any) -> list[Score]:
        if draw.random() < stub.chance:
            stub.kills += 1
            raise Killed
        on_progress(len(samples))
        lengths = [len(sample.turns[-1].text) for sample in samples]
        return [
            Score(sample.sample_id, min(length / 60, 1.0), (), length, 1.0, False)
            for sample, length in zip(samples, lengths, strict=True)
        ]

    monkeypatch.setattr(scoring_model, "load_model", lambda identity, whole: SimpleNamespace(whole=whole))
    monkeypatch.setattr(scorer, "score_samples", score)
    return stub


def damaged(draw: random.Random, index: int) -> bytes:
    whole = as_jsonl(questions(5, seed=index))
    return draw.choice([b"", b"\xff\xfe\x00", b"{" * 50, b"[]\n" * 3, whole[: len(whole) // 9], b"\x00" * 99])


def run(world: World, request: dg.RunRequest) -> None:
    """As the daemon does: a run that was killed is started again, twice at most."""
    for _ in range(3):
        result = world.run(request.partition_key, tags=dict(request.tags))
        failed = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        if not any(failure.error and failure.error.cls_name == Killed.__name__ for failure in failed):
            return


def nightly_rescan(world: World) -> list[dg.RunRequest]:
    """What the job `rescan` finds left over, and the runs that its sensor asks for."""
    model = {"model": str(world.model), "device": "cpu", "dtype": "float32"}
    result = defs.resolve_job_def("rescan").execute_in_process(
        instance=world.instance, run_config={"resources": {"model": {"config": model}}}
    )
    stale = json.loads((world.home / "rescans" / f"{result.run_id}.json").read_text())
    return list(run_requests(STAGE, stale, world.batches, result.run_id))


@pytest.mark.timeout(7200)
def test_every_file_of_a_day_ends_somewhere(world: World, stub_scoring: Scoring) -> None:
    draw = random.Random(7)
    arrivals = sorted(draw.randrange(TICKS) for _ in range(FILES))
    broken = set(draw.sample(range(FILES), max(1, FILES // 20)))
    asked: set[str] = set()
    delivered = 0  # rows, of the files in order
    for tick in range(TICKS):
        for index in [i for i, when in enumerate(arrivals) if when == tick]:
            rows = damaged(draw, index) if index in broken else as_jsonl(questions(draw.randint(3, 40), seed=index))
            delivered += 0 if index in broken else rows.count(b"\n")
            path = world.drop(f"{draw.choice('abc')}/file{index:03}.jsonl", rows)
            if draw.random() < 0.05:
                path.rename(path.with_name(f"renamed{index:03}.jsonl"))
        for _ in range(2):
            for request in world.tick().run_requests:
                assert request.run_key not in asked
                asked.add(str(request.run_key))
                run(world, request)

    assert stub_scoring.kills > 0
    stub_scoring.chance = 0.0
    for request in nightly_rescan(world):
        run(world, request)

    ends = {"clean": 0, "refused": 0, "unreadable": 0}
    accounted = 0
    cleaned, taken_in = world.materialized("clean_dataset"), world.materialized("raw_samples")
    for batch in world.batches:
        if batch in cleaned:
            clean = world.metadata("clean_dataset", batch)
            read = world.metadata("raw_samples", batch)["rows_read"]
            assert clean["clean_rows"] + clean["quarantined_rows"] + clean["rejected_rows"] == read
            assert clean["rows_add_up"].startswith(f"{read} read = {clean['clean_rows']} clean")
            accounted += read
            ends["clean"] += 1
        elif load(world.store, batch):
            with open_ledger(world.store.ledger, read_only=True) as ledger:
                decision = Decided.of(ledger, ledger.decision(batch))
            assert not decision.gate_passed
            accounted += decision.clean + decision.flagged + decision.unscored + decision.rejected
            ends["refused"] += 1
        else:
            assert batch not in taken_in
            assert batch in failure(world, batch)
            ends["unreadable"] += 1
    contents = {path.read_bytes() for path in (world.home.parent / "landing").rglob("*.jsonl")}
    assert len(world.batches) >= len(contents)
    assert sum(ends.values()) == len(world.batches)
    assert ends["clean"] + ends["refused"] == FILES - len(broken)
    assert ends["unreadable"] > 0
    assert accounted == delivered


def failure(world: World, batch: str) -> str:
    """What the one run of a batch that can't be read says."""
    (run,) = world.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": batch}))
    (entry,) = world.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert entry.dagster_event is not None
    return str(entry.dagster_event.step_failure_data.error_display_string)
