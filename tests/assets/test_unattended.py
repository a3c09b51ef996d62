"""What runs without anybody looking: re-scans, publishing when a gate opens, alerts, pruning."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from gradsentry_assets.alerts import tell_refusals
from gradsentry_assets.automation import is_open
from gradsentry_assets.definitions import defs
from gradsentry_assets.history import prune
from gradsentry_assets.partitions import range_tags
from gradsentry_assets.rescan import requests, run_requests
from gradsentry_assets.resources import StoreResource
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.files import write_json
from gradsentry_lib.pipeline import decide
from gradsentry_lib.store import Override, open_ledger
from tests.assets.conftest import STAGE, World, questions

CLOSED = {"judging": {"threshold": 0.0}}


def plan(world: World, force: bool = False, **resources: Any) -> dict[str, str]:
    """A run of the job `rescan`: what is stale, and why."""
    model = {"model": str(world.model), "device": "cpu", "dtype": "float32"} | resources.pop("model", {})
    config: dict[str, Any] = {"resources": {"model": {"config": model}}}
    config["resources"] |= {name: {"config": value} for name, value in resources.items()}
    config["ops"] = {"find_stale_batches": {"config": {"force": force}}}
    result = defs.resolve_job_def("rescan").execute_in_process(instance=world.instance, run_config=config)
    (output,) = [e for e in result.all_events if e.event_type_value == "STEP_OUTPUT"]
    found = json.loads((world.home / "rescans" / f"{result.run_id}.json").read_text())
    assert output.event_specific_data.metadata["stale_batches"].value == len(found)
    return found


def test_only_what_is_out_of_date_is_scanned_again(
    world: World, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = (world.take_in(f"{name}.jsonl", questions(40, seed)) for name, seed in (("a", 0), ("b", 1)))
    assert plan(world) == {}  # nothing was read yet: there is nothing to re-scan
    for batch in (first, second):
        assert world.run(batch).success
    assert plan(world) == {}
    assert plan(world, force=True) == {first: "forced", second: "forced"}
    other = str(tiny_model(seed=5))
    assert plan(world, model={"model": other}) == dict.fromkeys((first, second), "model changed")
    assert plan(world, model={"max_tokens": 64}) == dict.fromkeys((first, second), "scoring settings changed")
    reader = tmp_path / "same weights, other tokenizer"
    shutil.copytree(world.model, reader)
    (reader / "special_tokens_map.json").write_text("{}")
    assert plan(world, model={"model": str(reader)}) == dict.fromkeys((first, second), "tokenizer changed")
    assert plan(world, judging={"policy": "auto"}) == dict.fromkeys((first, second), "policy changed")
    with pytest.MonkeyPatch.context() as later:
        later.setattr(decide, "RULES", RULES + 1)
        assert plan(world) == dict.fromkeys((first, second), "rules changed")
    changed = {"threshold": 0.9, "max_flagged": 0.4}
    assert set(plan(world, judging=changed).values()) == {"threshold settings changed, gate limits changed"}

    verdicts = pq.read_table(world.metadata("entropy_threshold", first)["verdicts"])
    with open_ledger(world.store.ledger) as ledger:
        sample = verdicts["sample_id"][0].as_py()
        word = Override(sample_id=sample, action="flag", made_by="Ada", reason="seen in the wild")
        ledger.record_overrides([word])
    assert plan(world) == {first: "overrides changed"}
    assert world.run(first).success
    assert plan(world) == {}
    assert world.metadata("clean_dataset", first)["quarantined_rows"] == 1


def test_a_batch_whose_run_died_is_scanned_again(world: World) -> None:
    batch = world.take_in("a.jsonl", questions(40))
    assert world.run(batch, ["raw_samples"]).success
    assert plan(world) == {batch: "no verdict yet"}


def test_stale_neighbours_share_a_run() -> None:
    batches = [f"k{i}" for i in range(6)]
    stale = {"k0": "model changed", "k1": "model changed", "k2": "overrides changed", "k5": "forced"}
    together, alone = run_requests(STAGE, stale, batches, "run")
    assert together.tags["dagster/asset_partition_range_end"] == "k2"
    assert together.tags["gradsentry/rescan"] == "model changed (2); overrides changed (1)"
    assert alone.partition_key == "k5"


RUNS_IN_FLIGHT: dict[str, tuple[dict[str, Any], set[str]]] = {
    "queued": ({"status": dg.DagsterRunStatus.QUEUED, "tags": {"dagster/partition": "k1"}}, {"k1"}),
    "started": ({"status": dg.DagsterRunStatus.STARTED, "tags": {"dagster/partition": "k1"}}, {"k1"}),
    "over a range": ({"status": dg.DagsterRunStatus.QUEUED, "tags": range_tags("k1", "k3")}, {"k1", "k2", "k3"}),
    "by hand": (
        {
            "status": dg.DagsterRunStatus.STARTED,
            "job_name": "__ASSET_JOB",
            "tags": {"dagster/partition": "k4"},
            "asset_selection": {dg.AssetKey("entropy_threshold")},
        },
        {"k4"},
    ),
    "which only publishes": (
        {
            "status": dg.DagsterRunStatus.STARTED,
            "tags": {"dagster/partition": "k1"},
            "asset_selection": {dg.AssetKey("clean_dataset")},
        },
        set(),
    ),
    "ended": ({"status": dg.DagsterRunStatus.FAILURE, "tags": {"dagster/partition": "k1"}}, set()),
    "of another job": ({"status": dg.DagsterRunStatus.STARTED, "job_name": "rescan"}, set()),
}


@pytest.mark.parametrize("case", RUNS_IN_FLIGHT)
def test_a_rescan_leaves_out_what_a_run_has_or_awaits(case: str, world: World) -> None:
    """The work of a run that was not through yet when `rescan` looked is not done twice."""
    told, theirs = RUNS_IN_FLIGHT[case]
    batches = [f"k{number}" for number in range(6)]
    world.instance.add_dynamic_partitions("batches", batches)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "scan_batch")
    create_run_for_test(world.instance, **{"job_name": "scan_batch", "remote_job_origin": origin} | told)
    ended = create_run_for_test(world.instance, "rescan", status=dg.DagsterRunStatus.SUCCESS)
    write_json(world.home / "rescans" / f"{ended.run_id}.json", dict.fromkeys(batches, "no verdict yet"))
    event = dg.DagsterEvent("PIPELINE_SUCCESS", "rescan")
    context = dg.build_run_status_sensor_context("start_rescans", event, world.instance, ended)
    asked = list(requests(context, STAGE, world.store))
    wanted = [batch for batch in batches if batch not in theirs]
    runs = [request for request in asked if isinstance(request, dg.RunRequest)]
    assert [covered for request in runs for covered in covers(request, batches)] == wanted


def covers(request: dg.RunRequest, batches: list[str]) -> list[str]:
    first = request.tags.get("dagster/asset_partition_range_start", request.partition_key)
    last = request.tags.get("dagster/asset_partition_range_end", request.partition_key)
    return batches[batches.index(str(first)) : batches.index(str(last)) + 1]


def test_a_batch_is_published_by_itself_once_its_gate_is_accepted(world: World) -> None:
    world.resources = CLOSED
    refused = world.take_in("refused.jsonl", questions(40))
    cursor = evaluate(world, None).cursor
    assert not world.run(refused).success
    result = evaluate(world, cursor)
    assert result.total_requested == 0
    assert not is_open(world.instance, STAGE, refused)
    with open_ledger(world.store.ledger) as ledger:
        ledger.accept_gate(refused, "Ada", "known")
    result = evaluate(world, result.cursor)
    assert result.get_requested_partitions(dg.AssetKey("clean_dataset")) == {refused}
    assert evaluate(world, result.cursor).total_requested == 0  # asked for once


def evaluate(world: World, cursor: Any) -> dg.EvaluateAutomationConditionsResult:
    return dg.evaluate_automation_conditions(defs=defs, instance=world.instance, cursor=cursor)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A server that notes what is posted to it; it fails while `FAIL` is among its notes."""
    notes: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            dead = {"FAIL": True} in notes
            if not dead:
                notes.append(body)
            self.send_response(503 if dead else 200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GRADSENTRY_WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook")
    monkeypatch.setenv("GRADSENTRY_UI_URL", "https://dagster.example/")
    yield notes
    server.shutdown()
    server.server_close()


def alert_tick(world: World, cursor: str | None) -> tuple[str, str]:
    context = dg.build_sensor_context(instance=world.instance, cursor=cursor)
    result = tell_refusals(context, StoreResource(home=str(world.home)))
    assert isinstance(result, dg.SensorResult)
    assert result.skip_reason is not None
    return result.cursor or "", result.skip_reason.skip_message or ""


def test_a_refused_gate_is_told_once_and_a_dead_webhook_is_tried_again(world: World, webhook: list[dict]) -> None:
    passing = world.take_in("fine.jsonl", questions(40))
    assert world.run(passing).success
    cursor, _ = alert_tick(world, None)
    world.resources = CLOSED
    refused = world.take_in("refused.jsonl", questions(40, seed=1))
    run = world.run(refused)

    webhook.append({"FAIL": True})
    said = []
    for _ in range(4):
        cursor, reason = alert_tick(world, cursor)
        said.append(reason)
    assert "failed 1 times: HTTP Error 503" in said[0]
    assert "failed 2 times" in said[1]
    assert "next attempt" in said[2]
    assert "failed 3 times" in said[3]
    webhook.clear()
    for _ in range(6):
        cursor, reason = alert_tick(world, cursor)
    (told,) = webhook
    assert told["batch"] == refused
    assert told["link"] == f"https://dagster.example/runs/{run.run_id}"
    assert (told["checks"][0]["observed"], told["checks"][0]["limit"]) == (1.0, 0.5)
    assert "100.0% of the readable rows are flagged" in told["text"]


def test_a_webhook_that_is_not_there_blocks_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.resources = CLOSED
    for url in ("http://127.0.0.1:9/hook", "file:///etc/hostname", "nonsense"):
        monkeypatch.setenv("GRADSENTRY_WEBHOOK", url)
        if not world.batches:  # a refused run ends like any other, whatever becomes of the message
            assert not world.run(world.take_in("refused.jsonl", questions(40))).success
        cursor, said = alert_tick(world, json.dumps({"seq": 0}))
        assert "the webhook failed 1 times" in said
        assert json.loads(cursor) == {"seq": 0, "attempts": 1, "pause": 0}  # kept, to be told later


def test_old_runs_go_unless_their_results_are_the_latest(world: World) -> None:
    batch = world.take_in("a.jsonl", questions(40))
    old = world.run(batch)
    world.instance.add_dynamic_partitions("batches", ["nobody"])
    failed = world.run("nobody", ["raw_samples"])
    new = world.run(batch)
    later = datetime.now(UTC) + timedelta(days=1)
    assert prune(world.instance, datetime.now(UTC) - timedelta(days=1)) == (0, 0)
    assert prune(world.instance, later) == (2, 1)
    assert [run.run_id for run in world.instance.get_runs()] == [new.run_id]
    assert old.run_id != new.run_id != failed.run_id
    assert world.materialized("clean_dataset") == {batch}
