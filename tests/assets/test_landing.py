"""The landing sensor: what it takes in, what it leaves, and what it remembers."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from upath import UPath

from gradsentry_assets.arrivals import Landing, list_landing
from gradsentry_assets.partitions import MAX_TOGETHER, neighbours
from gradsentry_assets.receiving import find_arrival
from gradsentry_lib.pipeline import naming
from gradsentry_lib.pipeline.ingest import ingest, load
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.store import current_run
from tests.assets.conftest import World, as_jsonl, questions


def asked(world: World) -> list[str]:
    """What one tick asks for: the batch of each run, or how many share one."""
    return [r.partition_key or f"{r.tags['gradsentry/batches']} together" for r in world.tick().run_requests]


def test_a_file_is_taken_in_when_two_looks_find_it_unchanged(world: World) -> None:
    path = world.drop("team/a.jsonl", questions(5))
    assert asked(world) == []
    with path.open("ab") as file:
        file.write(as_jsonl(questions(1, seed=9)))  # still being written
    assert asked(world) == []
    (batch,) = asked(world)
    assert batch == world.batches[0]
    assert batch.startswith("a-")
    assert asked(world) == []
    arrival = find_arrival(world.home, batch)
    assert arrival is not None
    assert (world.store.batch(batch) / arrival.path).read_bytes() == path.read_bytes()


def test_a_marker_says_that_a_file_is_complete(world: World) -> None:
    world.done_marker = True
    world.drop("a.jsonl", questions(5))
    assert [asked(world) for _ in range(3)] == [[], [], []]
    world.drop("a.jsonl.done", b"")
    assert len(asked(world)) == 1
    assert asked(world) == []


def test_changed_content_is_a_new_batch_and_a_touched_file_is_not(world: World) -> None:
    first = world.take_in("a.jsonl", questions(5))
    (Path(world.landing) / "a.jsonl").touch()
    assert asked(world) + asked(world) == _again(world, first)
    second = world.take_in("a.jsonl", questions(5, seed=1))
    assert second != first


def as_read(world: World, batch: str) -> None:
    """What the batch's run does first."""
    arrival = find_arrival(world.home, batch)
    assert arrival is not None
    ingest(open_source(str(world.store.batch(batch) / arrival.path)), world.store, current_run("test"), key=batch)


def _again(world: World, batch: str) -> list[str]:
    """A batch whose first run has not read it yet is asked for again, under a key that Dagster takes only once."""
    return [] if load(world.store, batch) else [batch]


def test_renamed_dropped_again_and_deleted_files(world: World) -> None:
    folder = Path(world.landing)
    batch = world.take_in("a.jsonl", questions(5))
    as_read(world, batch)  # as after its run
    (folder / "a.jsonl").rename(folder / "b.jsonl")
    assert asked(world) + asked(world) == []
    assert world.batches == [batch]
    arrival = find_arrival(world.home, batch)
    assert arrival is not None
    assert arrival.url.endswith("b.jsonl")

    (folder / "b.jsonl").unlink()
    assert asked(world) == []
    world.drop("b.jsonl", questions(5))
    assert asked(world) + asked(world) == []
    assert world.batches == [batch]

    # A copy beside the original is a delivery of its own.
    world.drop("copy.jsonl", questions(5))
    assert asked(world) == []
    assert len(asked(world)) == 1


def test_a_file_that_vanishes_while_it_is_read_is_nobodys_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.drop("a.jsonl", questions(5))
    world.tick()
    monkeypatch.setattr("gradsentry_assets.landing.list_landing", lambda *a: _listed_then_deleted(path, *a))
    assert asked(world) == []
    assert world.batches == []


def _listed_then_deleted(path: Path, root: UPath, pattern: str, limit: int) -> dict:
    listed = list_landing(root, pattern, limit)
    path.unlink()
    return listed


def test_an_unreadable_file_becomes_one_failed_partition_and_is_taken_in_once_it_can_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop("secret.jsonl", questions(5))
    world.tick()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("gradsentry_assets.receiving._copy", refuse)
        (failed,) = asked(world)
        assert [asked(world) for _ in range(3)] == [[], [], []]
    result = world.run(failed)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert "could not be read: Permission denied" in failure.event_specific_data.error_display_string
    (good,) = asked(world)
    assert good != failed


def test_garbage_fails_alone_with_its_reason(world: World) -> None:
    for index in range(3):
        world.drop(f"good{index}.jsonl", questions(3, seed=index))
    world.drop("empty.jsonl", b"")
    world.drop("binary.parquet", b"\x00\x01\x02 no parquet")
    world.drop("rejects.jsonl", b"{broken\n" * 3)
    world.tick()
    found = asked(world)
    assert found[0] == "3 together"
    assert sorted(batch.split("-")[0] for batch in found[1:]) == ["binary", "empty", "rejects"]
    assert asked(world) == []  # once
    for batch, reason in zip(sorted(found[1:]), ("cannot read", "is empty", "can be read"), strict=True):
        result = world.run(batch, ["raw_samples"])
        (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
        assert reason in failure.event_specific_data.error_display_string
    assert world.materialized("raw_samples") == set()


def test_a_thousand_files_at_once(world: World) -> None:
    row = as_jsonl(questions(1))
    for index in range(1000):
        world.drop(f"day/{index:04}.jsonl", row.replace(b"thing", b"thing %d" % index))
    requests = []
    for _ in range(8):  # a tick delivers for a limited time; a slow disk needs several
        requests += world.tick().run_requests
        if len(world.batches) == 1000:
            break
    assert len(world.batches) == 1000
    covered: list[str] = []
    for request in requests:
        first, last = (
            request.tags["dagster/asset_partition_range_start"],
            request.tags["dagster/asset_partition_range_end"],
        )
        one = world.batches[world.batches.index(first) : world.batches.index(last) + 1]
        assert len(one) == int(request.tags["gradsentry/batches"]) <= MAX_TOGETHER
        covered += one
    assert covered == world.batches
    assert len({request.run_key for request in requests}) == len(requests)
    assert len(json.loads(world.cursor or "")["files"]) == 1000


def test_large_files_get_a_tick_each_after_the_small_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradsentry_assets.landing.LARGE", 2000)
    for name, count in (("a", 60), ("b", 60), ("c", 3), ("d", 3)):
        world.drop(f"{name}.jsonl", questions(count, seed=ord(name)))
    world.tick()
    asked_for = [[batch[0] for batch in (world.tick(), world.batches)[1]] for _ in range(4)]
    assert asked_for == [["c", "d"], ["c", "d", "a"], ["c", "d", "a", "b"], ["c", "d", "a", "b"]]


def test_only_what_could_be_a_batch_is_looked_at(world: World) -> None:
    for name in ("README.md", ".hidden.jsonl", "_tmp/a.jsonl", "x.jsonl.done", "a.jsonl.tmp"):
        world.drop(name, questions(3))
    world.drop("team-a/good.jsonl", questions(3))
    world.drop("team-b/good.CSV", b"prompt,response\na,b\n")
    assert sorted(Path(url).name for url in list_landing(UPath(world.landing))) == ["good.CSV", "good.jsonl"]
    world.pattern = "team-a/*"
    world.tick()
    assert len(asked(world)) == 1


def test_a_saved_data_set_is_one_batch(world: World) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list(questions(10))
    DatasetDict({"train": rows, "test": rows}).save_to_disk(f"{world.landing}/both")
    rows.save_to_disk(f"{world.landing}/one")
    world.tick()
    assert asked(world) == ["2 together"]
    assert {batch.split("-")[0] for batch in world.batches} == {"both", "one"}
    for batch in world.batches:
        assert world.run(batch, ["raw_samples"]).success
    assert {world.metadata("raw_samples", batch)["rows_read"] for batch in world.batches} == {10, 20}


def test_any_file_system(world: World) -> None:
    root = UPath("memory://landing-zone")
    (root / "deep/a.jsonl").write_bytes(as_jsonl(questions(4)))
    world.landing = str(root)
    assert asked(world) == []
    (batch,) = asked(world)
    assert world.run(batch, ["raw_samples"]).success
    assert world.metadata("raw_samples", batch)["arrived_as"] == "memory://landing-zone/deep/a.jsonl"
    (root / "deep/a.jsonl").write_bytes(as_jsonl(questions(4, seed=3)))
    assert asked(world) == []
    assert len(asked(world)) == 1


def test_a_lost_or_broken_cursor_forgets_nothing_that_matters(world: World) -> None:
    batch = world.take_in("a.jsonl", questions(5))
    as_read(world, batch)
    for cursor in (None, "", "{", "[]", '{"files": 3}', '{"files": {"x": [1, 2, 3, 4]}, "looks": 1}'):
        world.cursor = cursor
        assert asked(world) + asked(world) == []
        assert world.batches == [batch]
    state = Landing.from_cursor(world.cursor)
    assert Landing.from_cursor(state.to_cursor()) == state


def test_the_clock_plays_no_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.drop("a.jsonl", questions(5))
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert asked(world) == []
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert len(asked(world)) == 1
    for seed, changed in ((1, 4_000_000_000), (2, 1)):  # files from the future, then from the past
        os.utime(world.drop("a.jsonl", questions(5, seed)), (changed, changed))
        assert asked(world) == []
        assert len(asked(world)) == 1


def test_neighbours() -> None:
    keys = [f"k{i}" for i in range(120)]
    chosen = {"k0", "k1", "k5", *keys[20:90]}
    groups = list(neighbours(keys, chosen))
    assert [len(group) for group in groups] == [2, 1, 50, 20]
    assert [key for group in groups for key in group] == [key for key in keys if key in chosen]


def test_a_clash_of_names_is_a_failed_partition_that_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two contents that get the same name are never one batch, whatever was said of the first."""
    monkeypatch.setattr(naming, "DIGITS", 1)
    seen: dict[str, bytes] = {}
    for number in range(20):
        rows = as_jsonl(questions(3, seed=number))
        first = seen.setdefault(hashlib.sha256(rows).hexdigest()[0], rows)
        if first != rows:
            break
    batch = world.take_in("a/rows.jsonl", first)
    other = world.take_in("b/rows.jsonl", rows)
    assert other == f"rows-{hashlib.sha256(rows).hexdigest()}"
    result = world.run(other, ["raw_samples"])
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert "stands for other content already" in failed.event_specific_data.error_display_string
    assert world.run(batch, ["raw_samples"]).success
    copy = world.store.batch(batch) / find_arrival(world.home, batch).path  # type: ignore[union-attr]
    assert copy.read_bytes() == first
    copy.write_bytes(rows)  # nor by who writes into the store
    assert not world.run(batch, ["raw_samples"]).success


def test_a_batch_of_an_earlier_version_keeps_its_partition(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under keys of eight digits: taken in but not read yet, renamed, and dropped again once it was read."""
    with monkeypatch.context() as before:
        before.setattr(naming, "DIGITS", 8)
        batch = world.take_in("a.jsonl", questions(5))
        assert len(batch) == 10
    folder = Path(world.landing)
    (folder / "a.jsonl").rename(folder / "b.jsonl")
    assert (asked(world) + asked(world))[-1:] == [batch]
    assert world.run(batch, ["raw_samples"]).success
    (folder / "b.jsonl").rename(folder / "a.jsonl")
    assert asked(world) + asked(world) == []
    assert world.batches == [batch]


def test_the_landing_folder_says_how_its_files_are_read(world: World, tmp_path: Path) -> None:
    """What was said when a file arrived stays with its batch, and is part of what the batch is."""
    rows = [{"ask": row["prompt"], "say": row["response"]} for row in questions(5)]
    table = "".join(f"{row['ask']}~{row['say']}\n" for row in [{"ask": "ask", "say": "say"}, *rows]).encode("utf-16")
    unread = world.take_in("rows.csv", table)
    assert not (find_arrival(world.home, unread) or pytest.fail("it did not arrive")).usable
    world.reading = {"columns": {"prompt": "ask", "response": "say"}, "separator": "~"}
    (Path(world.landing) / "rows.csv").unlink()
    batch = world.take_in("rows.csv", table + "\n".encode("utf-16-le"))
    arrival = find_arrival(world.home, batch)
    assert arrival is not None and arrival.usable and arrival.told == world.reading
    assert world.run(batch, ["raw_samples"]).success
    assert world.metadata("raw_samples", batch)["rows_readable"] == 5
    (tmp_path / "axolotl.yaml").write_text(
        "datasets:\n- path: turns.jsonl\n  type: chat_template\n  roles: {assistant: [narrator], user: [guest]}\n"
    )
    world.reading = {"mapping": str(tmp_path / "axolotl.yaml")}
    chat = [{"role": "guest", "content": "Hi"}, {"role": "narrator", "content": "Yo"}]
    arrival = find_arrival(world.home, world.take_in("turns.jsonl", [{"messages": chat}]))
    assert arrival is not None and arrival.usable and arrival.told["roles"]["narrator"] == "assistant"
