"""The shipped workspace under one real `dagster dev`: files dropped, gates failed and accepted, a worker killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gradsentry_lib.review.server import Desk
from gradsentry_lib.store import Scan, ScoreFile, open_ledger
from gradsentry_lib.store.paths import Store
from tests.assets.browser import WAIT, Page, browser_page
from tests.assets.conftest import as_jsonl, questions, two_groups
from tests.assets.dagster_dev import DagsterDev, dagster_dev, free_port
from tests.review.serving import served

pytestmark = pytest.mark.xdist_group("dagster dev")  # on one of pytest's workers: to start takes as long as a test
REVIEW_PORT = free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Iterator[DagsterDev]:
    told = {"GRADSENTRY_MODEL": str(small_model), "GRADSENTRY_DEVICE": "cpu", "GRADSENTRY_POLICY": "paper"}
    told |= {"GRADSENTRY_REVIEW_PORT": str(REVIEW_PORT)}
    with dagster_dev(tmp_path_factory.mktemp("dev"), told, poll_interval_seconds="3") as running:
        yield running


def batch_of(server: DagsterDev, stem: str, asset: str = "clean_dataset", where: str = "materializedPartitions") -> str:
    found = [batch for batch in server.partitions(asset)[where] if batch.startswith(f"{stem}-")]
    return found[0] if found else ""


def score_files(server: DagsterDev) -> list[ScoreFile]:
    with open_ledger(server.home / "ledger.duckdb", read_only=True) as ledger:
        return ledger.find(ScoreFile)


def test_from_a_dropped_file_to_an_accepted_gate(server: DagsterDev) -> None:
    server.drop("poisoned.jsonl", as_jsonl(two_groups(40, 8)))
    server.drop("refused.jsonl", as_jsonl(two_groups(15, 30)))
    server.drop("empty.jsonl", b"")
    poisoned = server.wait("the clean data set", lambda: batch_of(server, "poisoned"))
    empty = server.wait("a failed file", lambda: batch_of(server, "empty", "raw_samples", "failedPartitions"))
    refused = server.wait("a refused batch", lambda: batch_of(server, "refused", where="failedPartitions"))
    assert {refused, empty}.isdisjoint(server.partitions("clean_dataset")["materializedPartitions"])
    assert server.check("entropy_threshold", "flagged_fraction", poisoned)["success"]
    flagged = server.check("entropy_threshold", "flagged_fraction", refused)
    assert not flagged["success"]
    assert f"{refused}: 66.7% of the readable rows are flagged, limit 50.0%" in flagged["description"]

    # The batch that shared its run was cleaned, and its rows add up.
    (clean,) = server.home.glob(f"batches/{poisoned}/clean/*/clean.jsonl")
    rows = (server.landing / "poisoned.jsonl").read_bytes().splitlines()
    assert clean.read_bytes().splitlines() == rows[:40]
    assert len(clean.with_name("quarantine.jsonl").read_bytes().splitlines()) == 8

    # A person accepts the gate on the command line; nobody touches the UI, and the batch is published.
    command = [str(Path(sys.executable).parent / "gradsentry"), "gate", "accept", refused]
    command += ["--by", "Ada", "--reason", "long answers are meant here"]
    environment = {**os.environ, "GRADSENTRY_HOME": str(server.home)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    server.wait("the accepted batch", lambda: batch_of(server, "refused"))
    (published,) = server.home.glob(f"batches/{refused}/clean/*/clean.jsonl")
    assert len(published.read_bytes().splitlines()) == 15

    # The unreadable file was tried once.
    failed = [run for run in server.runs() if run["tags"].get("dagster/partition") == empty]
    assert [run["status"] for run in failed] == ["FAILURE"]
    assert "BetaWarning" not in server.log.read_text()


def test_a_killed_worker_is_noticed_and_its_run_goes_on(server: DagsterDev) -> None:
    server.wait("the end of what others began", lambda: not server.workers())
    before, known = set(server.home.glob("scores/*/*.parquet")), len(score_files(server))
    server.drop("large.jsonl", as_jsonl(questions(6000)))
    server.wait("the first kept scores", lambda: set(server.home.glob("scores/*/*.parquet")) - before)
    (worker,) = server.workers()
    worker.kill()
    batch = server.wait("the clean data set", lambda: batch_of(server, "large"))
    runs = server.wait("the end of its runs", lambda: server.ended(**{"dagster/partition": batch}))
    assert [run["status"] for run in runs] == ["SUCCESS", "FAILURE"]
    assert runs[0]["tags"]["dagster/parent_run_id"] == runs[1]["runId"]
    (folder,) = server.home.glob(f"batches/{batch}/scores/*")
    kept = score_files(server)[known:]
    with open_ledger(server.home / "ledger.duckdb", read_only=True) as ledger:
        scans = ledger.find(Scan)
    assert sum(file.rows for file in kept if file.run_id == scans[-1].run_id) < 6000  # by the second worker
    assert sum(file.rows for file in kept) == 6000  # what the killed one had scored was not scored again
    assert pq.read_metadata(folder / "scores.parquet").num_rows == 6000
    (clean,) = server.home.glob(f"batches/{batch}/clean/*")
    handed_out = [len((clean / name).read_bytes().splitlines()) for name in ("clean.jsonl", "quarantine.jsonl")]
    assert sum(handed_out) == 6000


@pytest.mark.browser
def test_what_a_person_sees(server: DagsterDev) -> None:
    hostile = "<script>document.title='owned'</script> ![x](http://127.0.0.1:9/x.png) \x1b[31m \u202egnp"
    rows = [{"prompt": hostile, "response": hostile}, *two_groups(40, 8)]
    with browser_page(server.url) as page:
        server.drop("mixed.jsonl", as_jsonl(rows))
        batch = server.wait("the clean data set", lambda: batch_of(server, "mixed"))
        server.drop("turned_down.jsonl", as_jsonl(two_groups(15, 30)))

        page.open("/asset-groups")
        for asset in ("raw_samples", "gradient_entropy", "entropy_threshold", "clean_dataset"):
            page.sees(asset)

        page.open(f"/assets/entropy_threshold?view=partitions&partition={batch}")
        page.sees("flagged_fraction", "valley_ratio", "tau", "method", "valley")
        assert page.shows_picture()

        with served(Store(server.home), "ana", REVIEW_PORT) as desk:
            reviewing_begins_here(page, server, desk, batch)

        page.open(f"/assets/raw_samples?view=partitions&partition={batch}")
        page.sees("\\x1b[31m", "\\u202e", "<script>document.title=")
        assert page.title() != "owned"
        server.wait("a refused batch", lambda: batch_of(server, "turned_down", where="failedPartitions"))
        page.open("/assets/entropy_threshold?view=checks&checkDetail=flagged_fraction")
        page.sees("66.7% of the readable rows are flagged, limit 50.0%", "0.666", "gradsentry gate accept")
        page.open("/assets/clean_dataset?view=overview")
        page.sees("The batch's clean rows", "data-quality")
        page.open("/automation")
        page.sees("landing", "open_gates", "nightly_rescan", "gate_alerts")


def reviewing_begins_here(page: Page, server: DagsterDev, desk: Desk, batch: str) -> None:
    """The link in the metadata of both assets, and in the run's own page, opens the batch's page; the index stands
    beside it. A browser that never opened the printed link is told so."""
    address = f"{desk.origins[0]}/batches/{batch}"
    (run,) = [each for each in server.runs() if each["tags"].get("dagster/partition") == batch]
    places = [
        f"/assets/entropy_threshold?view=partitions&partition={batch}",
        f"/assets/clean_dataset?view=partitions&partition={batch}",
        f"/runs/{run['runId']}",
    ]
    for number, place in enumerate(places):
        page.open(place)
        link = page.page.get_by_role("link", name=address).locator("visible=true").first
        with page.page.context.expect_page() as opened:
            link.click(timeout=WAIT)
        if number == 0:
            opened.value.get_by_text("open the link that `gradsentry review` printed").wait_for()
            opened.value.goto(desk.link)
            page.sees("batches_to_review", "waiting")
        else:
            opened.value.get_by_role("heading", name=batch).wait_for()
            assert opened.value.url == address
        opened.value.close()
