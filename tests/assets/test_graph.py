"""The four assets and the gate, through real Dagster, a real small model and a real ledger."""

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from gradsentry_assets import second_judge
from gradsentry_assets.definitions import defs
from gradsentry_assets.partitions import range_tags, refusal
from gradsentry_lib.errors import BadInput, BusyStore
from gradsentry_lib.pipeline import run as scan_run
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.pipeline.run import ModelChoice
from gradsentry_lib.scoring import model as scoring_model
from gradsentry_lib.scoring.identity import identify
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store
from tests.assets.conftest import World, as_jsonl, questions
from tests.scoring.test_resident import served

ASSETS = ("raw_samples", "gradient_entropy", "entropy_threshold", "clean_dataset")
BLOCK_ALL = {"judging": {"threshold": 0.0}}  # every row lies above: all are flagged


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
    """Weak references to every model that was loaded."""
    found: list[weakref.ref] = []
    real: Callable[..., Any] = scoring_model.load_model

    def load(*args: Any, **options: Any) -> Any:
        model = real(*args, **options)
        found.append(weakref.ref(model.model))
        return model

    monkeypatch.setattr(scoring_model, "load_model", load)
    return found


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Step to the message that it failed with."""
    events = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return {str(event.step_key): event.event_specific_data.error_display_string for event in events}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def test_a_batch_goes_through_the_whole_graph(world: World, loads: list[weakref.ref], tmp_path: Path) -> None:
    rows = as_jsonl(questions(60)) + b"{broken\n" + as_jsonl(questions(5, seed=1))
    batch = world.take_in("answers.jsonl", rows)
    world.resources = {"judging": {"threshold": 0.24}}
    result = world.run(batch)

    assert result.success, failures(result)
    assert all(world.materialized(asset) == {batch} for asset in ASSETS)
    assert {name: check.passed for name, check in checks(result).items()}["rows_conserved"]
    raw, clean = world.metadata("raw_samples", batch), world.metadata("clean_dataset", batch)
    assert (raw["rows_read"], raw["rows_readable"], raw["rows_rejected"]) == (66, 65, 1)
    assert clean["clean_rows"] + clean["quarantined_rows"] + clean["rejected_rows"] == 66
    assert clean["quarantined_rows"] > 0
    kept = Path(clean["clean_file"]).read_bytes().splitlines()
    quarantined = [json.loads(line) for line in Path(clean["quarantine_file"]).read_bytes().splitlines()]
    removed = {line["line"] for line in quarantined} | {61}
    assert kept == [line for number, line in enumerate(rows.splitlines(), start=1) if number not in removed]
    assert all("above threshold 0.24" in line["reasons"][0] for line in quarantined)

    decision = world.metadata("entropy_threshold", batch)
    assert decision["threshold"].startswith("![τ = 0.240 (fixed)](data:image/png;base64,")
    assert len(decision["threshold"]) < 50_000 * 4 / 3 + 100
    assert min(decision["flagged"], 15) == len(decision["top_flagged"].records)
    assert isinstance(decision["flagged_fraction"], float)

    # The model was loaded once and is gone.
    gc.collect()
    assert [load() for load in loads] == [None]

    # The command line's steps come to the same verdicts.
    alone = scan_run.scan(
        world.landing + "/answers.jsonl",
        Store(tmp_path / "other"),
        model=ModelChoice(str(world.model), device="cpu", dtype="float32"),
        decision=replace(DecisionConfig(policy="paper"), threshold=replace(DecisionConfig().threshold, fixed=0.24)),
    )
    theirs = tmp_path / "other" / "batches" / batch / "decisions" / alone.decided.decision_key / "verdicts.parquet"
    assert pq.read_table(theirs).equals(pq.read_table(decision["verdicts"]))


def test_a_failed_gate_publishes_nothing_until_a_person_accepts_it(world: World, loads: list[weakref.ref]) -> None:
    batch = world.take_in("all_long.jsonl", questions(40))
    world.resources = BLOCK_ALL
    first = world.run(batch)
    assert not first.success
    assert "clean_dataset" not in failures(first)  # it was not even started
    flagged = checks(first)["flagged_fraction"]
    assert (flagged.passed, flagged.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert flagged.metadata["observed"].value == 1.0
    assert flagged.metadata["limit"].value == 0.5
    assert checks(first)["rows_conserved"].passed
    assert world.materialized("clean_dataset") == set()

    alone = world.run(batch, ["clean_dataset"])
    assert "gate failed" in failures(alone)["clean_dataset"]
    assert not list(world.store.batch(batch).glob("clean/*"))

    with open_ledger(world.store.ledger) as ledger:
        ledger.accept_gate(batch, "Ada", "a batch of poison for the test bench")
    assert world.run(batch, ["clean_dataset"]).success
    clean = world.metadata("clean_dataset", batch)
    assert (clean["gate"], clean["gate_accepted_by"]) == ("accepted", "Ada: a batch of poison for the test bench")
    again = world.run(batch)
    assert again.success  # the check still shows the failure, but no longer blocks
    assert checks(again)["flagged_fraction"].severity == dg.AssetCheckSeverity.WARN
    assert "accepted by Ada" in str(checks(again)["flagged_fraction"].description)

    # Other verdicts are other inputs: the acceptance is void.
    world.resources = {"judging": {"threshold": 0.001}}
    assert not world.run(batch, ["entropy_threshold", "clean_dataset"]).success
    assert "gate failed" in failures(world.run(batch, ["clean_dataset"]))["clean_dataset"]
    assert len(loads) == 1  # scores are kept: only the first run needed the model


def test_looser_limits_need_a_name_which_the_checks_show(world: World, loads: list[weakref.ref]) -> None:
    """Refused before anything is scored; with a name and a reason the batch passes, and they stand beside the check."""
    batch = world.take_in("answers.jsonl", questions(20))
    loose = {"threshold": 0.0, "max_flagged": 1.0, "warn_flagged": 1.0}
    world.resources = {"judging": loose}
    refused = world.run(batch)
    assert not refused.success and loads == []
    assert "max_flagged 1 (the store's own: 0.5)" in failures(refused)["raw_samples"]
    assert "limits_by and limits_reason" in failures(refused)["raw_samples"]

    world.resources = {"judging": loose | {"limits_by": "Ada", "limits_reason": "a test bench"}}
    result = world.run(batch)
    assert result.success, failures(result)
    assert checks(result)["flagged_fraction"].metadata["limits_loosened_by"].value == "Ada: a test bench"
    assert "loosened by Ada (a test bench)" in world.metadata("entropy_threshold", batch)["remarks"]
    report = Path(world.metadata("clean_dataset", batch)["report"]).read_text()
    assert "loosened by Ada (a test bench)" in report


def test_great_expectations_has_a_say_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def objecting(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        return tuple(replace(check, passed=check.passed and check.name != "unique_rows") for check in found)

    real = second_judge.expect_gate
    monkeypatch.setattr(second_judge, "expect_gate", objecting)
    batch = world.take_in("a.jsonl", questions(40))
    result = world.run(batch)
    assert not result.success
    assert world.materialized("clean_dataset") == set()
    assert "gate failed" in failures(world.run(batch, ["clean_dataset"]))["clean_dataset"]


def test_a_gate_that_breaks_lets_nothing_through(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*args: Any, **options: Any) -> Any:
        raise dg.Failure("no expectation could be evaluated", allow_retries=False)

    monkeypatch.setattr(second_judge, "expect_gate", breaking)
    batch = world.take_in("a.jsonl", questions(40))
    assert not world.run(batch).success
    assert world.materialized("entropy_threshold") == {batch}
    assert world.materialized("clean_dataset") == set()


def test_many_batches_share_a_run_a_model_and_nothing_else(world: World, loads: list[weakref.ref]) -> None:
    for index in range(4):
        world.drop(f"part{index}.jsonl", questions(20, seed=index))
    long = [{"prompt": f"q{i}", "response": "one two three four five six seven eight " * 3} for i in range(20)]
    world.drop("only_long.jsonl", long)
    world.tick()
    (request,) = world.tick().run_requests
    assert request.tags["gradsentry/batches"] == "5"
    world.resources = {"judging": {"threshold": 0.265}}
    result = world.run(tags=range_tags(world.batches[0], world.batches[-1]))

    (refused,) = [batch for batch in world.batches if batch.startswith("only_long")]
    assert len(loads) == 1
    assert world.materialized("entropy_threshold") == set(world.batches)
    assert world.materialized("clean_dataset") == set(world.batches) - {refused}
    assert f"1 of 5 batches failed.\n{refused}: gate failed" in failures(result)["clean_dataset"]
    said = [each for each in result.get_asset_check_evaluations() if each.check_name == "flagged_fraction"]
    assert {each.partition: each.metadata["batch"].value for each in said} == {batch: batch for batch in world.batches}
    assert [each.partition for each in said if not each.passed] == [refused]
    for batch in set(world.batches) - {refused}:
        assert world.metadata("clean_dataset", batch)["clean_rows"] <= 20


def test_twenty_small_files_load_the_model_once(world: World, loads: list[weakref.ref]) -> None:
    for index in range(20):
        world.drop(f"part{index}.jsonl", questions(4, seed=index))
    world.tick()
    (request,) = world.tick().run_requests
    assert request.tags["gradsentry/batches"] == "20"
    assert world.run(assets=["raw_samples", "gradient_entropy"], tags=dict(request.tags)).success
    assert len(loads) == 1
    assert len(world.materialized("gradient_entropy")) == 20
    assert {world.metadata("gradient_entropy", batch)["computed"] for batch in world.batches} == {4}


def separate_steps() -> dg.JobDefinition:
    """The job as it is for those who want a process a step."""
    theirs = dg.Definitions(
        assets=defs.assets,
        asset_checks=defs.asset_checks,
        jobs=defs.jobs,
        resources=defs.resources,
        executor=dg.multiprocess_executor,
    )
    return theirs.resolve_job_def("scan_batch")


def test_every_step_can_have_a_process_of_its_own(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of which needs to load the model where another process keeps it loaded."""
    monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path / "cache"))
    batch = world.take_in("a.jsonl", questions(40))
    model = {"model": str(world.model), "device": "cpu", "dtype": "float32"}
    config = {"resources": {"model": {"config": model}}, "execution": {"config": {"max_concurrent": 1}}}
    tags = {"dagster/partition": batch}
    job = dg.reconstructable(separate_steps)
    with (
        served(identify(str(world.model), device="cpu", dtype="float32")) as bench,
        dg.execute_job(job, world.instance, run_config=config, tags=tags) as result,
    ):
        assert result.success and bench.passes > 0
        processes = {event.pid for event in result.all_events if event.event_type_value == "STEP_WORKER_STARTED"}
    assert len(processes) == len(ASSETS) + 1 and os.getpid() not in processes  # the gate is a step too
    assert all(world.materialized(asset) == {batch} for asset in ASSETS)


def test_nothing_of_the_data_acts_in_the_ui(world: World) -> None:
    hostile = "<script>alert(1)</script> ![x](http://evil.example/x.png) [a](javascript:1) \x1b[31m \u202egnp.exe"
    rows = [{"prompt": f"{hostile} {i}", "response": f"{hostile} {i}"} for i in range(30)]
    batch = world.take_in("hostile.jsonl", rows)
    world.resources = BLOCK_ALL
    result = world.run(batch)
    assert "flagged_fraction" in checks(result)
    for asset in ("raw_samples", "gradient_entropy", "entropy_threshold"):
        asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[batch])
        (record,) = world.instance.fetch_materializations(asked, limit=1).records
        assert record.asset_materialization is not None
        for name, value in record.asset_materialization.metadata.items():
            if isinstance(value, dg.MarkdownMetadataValue):
                assert name == "threshold"
                assert "evil" not in str(value.md_str)
    said = world.metadata("entropy_threshold", batch)["top_flagged"].records[0].data["response"]
    assert "\\x1b[31m" in said
    assert "\\u202e" in said
    assert "\u202e" not in said

    # What lies in a file that can't be read, and what it is called, shows as text too.
    batch = world.take_in("\u202e<script>\x1b[31m![x](a).jsonl", b"\x1b[31m <script> \xe2\x80\xae\n" * 3)
    (said,) = failures(world.run(batch, ["raw_samples"])).values()
    assert said.replace("\n", "").isprintable()
    batch = world.take_in("\u202e<script>\x1b[31m.jsonl", questions(3))
    assert world.run(batch, ["raw_samples"]).success
    assert str(world.metadata("raw_samples", batch)["arrived_as"]).endswith("/\\u202e<script>\\x1b[31m.jsonl")


def test_only_a_busy_ledger_is_tried_again() -> None:
    assert refusal({"a": BusyStore("busy"), "b": BadInput("bad")}, of=2).allow_retries
    assert not refusal({"b": BadInput("bad")}, of=1).allow_retries


def test_dagster_agrees_on_what_is_stale(world: World, tiny_model: Callable[..., Path]) -> None:
    batch = world.take_in("a.jsonl", questions(40))
    assert world.run(batch).success
    assert set(staleness(world, batch).values()) == {StaleStatus.FRESH}
    assert world.run(batch, ["gradient_entropy"]).success  # the same scores again
    assert set(staleness(world, batch).values()) == {StaleStatus.FRESH}
    world.model = tiny_model(seed=5)
    assert world.run(batch, ["gradient_entropy"]).success
    assert [name for name, status in staleness(world, batch).items() if status == StaleStatus.STALE] == [
        "entropy_threshold"  # Dagster looks one step back
    ]
    assert world.run(batch).success
    assert set(staleness(world, batch).values()) == {StaleStatus.FRESH}


def test_dagster_finds_batches_of_one_run_fresh_and_one_of_them_scanned_again(world: World) -> None:
    batches = [world.take_in(f"{name}.jsonl", questions(5, seed=seed)) for seed, name in enumerate("abc")]
    assert world.run(tags=range_tags(batches[0], batches[-1])).success
    assert world.run(batches[1]).success
    assert {status for batch in batches for status in staleness(world, batch).values()} == {StaleStatus.FRESH}


def staleness(world: World, batch: str) -> dict[str, StaleStatus]:
    graph = defs.resolve_asset_graph()
    asked = CachingStaleStatusResolver(world.instance, graph, LoadingContextForTest(world.instance))
    return {name: asked.get_status(dg.AssetKey(name), batch) for name in ASSETS}


def test_materializing_out_of_order_says_what_to_do(world: World) -> None:
    batch = world.take_in("a.jsonl", questions(40))
    said = failures(world.run(batch, ["entropy_threshold"]))["entropy_threshold"]
    assert f"gradient_entropy was not materialized for batch {batch}" in said
    world.instance.add_dynamic_partitions("batches", ["typed-by-hand"])
    said = failures(world.run("typed-by-hand", ["raw_samples"]))["raw_samples"]
    assert "put one into the landing folder" in said


def test_the_code_location_loads_without_the_heavy_libraries() -> None:
    heavy = ("torch", "transformers", "datasets", "great_expectations", "ray", "matplotlib", "faiss")
    code = f"import sys, gradsentry_assets.definitions; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"
    assert "Warning" not in done.stderr


def test_an_unknown_policy_is_refused_before_the_model_is_loaded(
    world: World, loads: list[weakref.ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = world.take_in("answers.jsonl", as_jsonl(questions(8)))
    monkeypatch.setenv("GRADSENTRY_POLICY", "paprika")
    assert "unknown GRADSENTRY_POLICY 'paprika'" in failures(world.run(batch))["raw_samples"]
    assert not loads
