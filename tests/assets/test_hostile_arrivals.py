"""The landing folder is open to strangers: what they may leave there, and what becomes of it."""

import json
import os
import socket
from pathlib import Path

import dagster as dg
import pytest
from upath import UPath

from gradsentry_assets import receiving
from gradsentry_assets.arrivals import Landed, list_landing
from gradsentry_assets.receiving import find_arrival
from tests.assets.conftest import World, as_jsonl, questions

ROWS = as_jsonl(questions(4))


def landing(world: World) -> Path:
    folder = Path(world.landing)
    folder.mkdir(exist_ok=True)
    return folder


def told(result: dg.SensorResult) -> dict[str, str]:
    """What a tick tells the UI of skipped arrivals: name and reason."""
    found = {}
    for event in result.asset_events:
        said = {name: str(entry.value) for name, entry in event.metadata.items()}
        found[said["skipped_arrival"].rpartition("/")[2]] = said["reason"]
    return found


def line(result: dg.SensorResult) -> str:
    assert result.skip_reason is not None
    return result.skip_reason.skip_message or ""


def test_links_fifos_sockets_and_devices_are_skipped_by_name(world: World, tmp_path: Path) -> None:
    folder, secret = landing(world), tmp_path / "secret"
    secret.mkdir()
    (secret / "a.jsonl").write_bytes(ROWS)
    (folder / "link.jsonl").symlink_to(secret / "a.jsonl")
    (folder / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    (folder / "folder").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.jsonl")
    here = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.jsonl")
    finally:
        os.chdir(here)
    expected = {
        **dict.fromkeys(("link.jsonl", "dangling.jsonl", "folder", "loop"), "is a link, not a regular file"),
        "pipe.jsonl": "is a FIFO, not a regular file",
        "socket.jsonl": "is a socket, not a regular file",
    }
    try:
        os.mknod(folder / "zero.jsonl", 0o600 | 0o020000, os.makedev(1, 5))
        expected["zero.jsonl"] = "is a device, not a regular file"
    except PermissionError:
        pass  # only root makes devices
    world.drop("good.jsonl", questions(3))

    first = world.tick()
    assert told(first) == expected
    assert f"{len(expected)} skipped: " in line(first)
    second = world.tick()
    assert told(second) == {}  # once
    assert [request.partition_key for request in second.run_requests or []] == world.batches
    assert [batch.rpartition("-")[0] for batch in world.batches] == ["good"]
    third = world.tick()
    assert told(third) == {}
    assert f"{len(expected)} skipped: dangling.jsonl is a link" in line(third)  # but it stays to be seen
    (folder / "link.jsonl").unlink()
    world.drop("link.jsonl", questions(3, seed=2))
    assert told(world.tick()) == {}
    assert world.tick().run_requests  # the name is not banned


def test_a_tick_writes_its_observations_where_the_ui_shows_them(world: World) -> None:
    (landing(world) / "link.jsonl").symlink_to("/etc/hostname")
    for event in world.tick().asset_events:
        world.instance.report_runless_asset_event(event)
    records = world.instance.fetch_observations(dg.AssetKey("raw_samples"), limit=5).records
    assert [record.asset_observation.metadata["reason"].value for record in records] == [
        "is a link, not a regular file"
    ]


def test_what_is_exchanged_between_look_and_delivery_is_not_followed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(as_jsonl(questions(4, seed=3)))
    path, other = world.drop("team/a.jsonl", ROWS), world.drop("b.jsonl", ROWS)
    fifo = world.drop("c.jsonl", ROWS)
    world.tick()

    def listed(root: UPath, *rest: object) -> dict:
        found = list_landing(root, *rest)  # type: ignore[arg-type]
        other.unlink()
        other.symlink_to(secret)
        fifo.unlink()
        os.mkfifo(fifo)
        path.unlink()
        path.parent.rmdir()
        (tmp_path / "a.jsonl").write_bytes(secret.read_bytes())
        path.parent.symlink_to(tmp_path)
        return found

    monkeypatch.setattr("gradsentry_assets.landing.list_landing", listed)
    result = world.tick()
    assert told(result) == {
        "a.jsonl": "lies behind a link",
        "b.jsonl": "is a link, not a regular file",
        "c.jsonl": "is a FIFO, not a regular file",
    }
    assert world.batches == []
    assert not list((world.home / "batches").glob("*"))


def test_a_file_that_grows_while_it_is_taken_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.drop("a.jsonl", ROWS)
    world.tick()
    copy = receiving._copy_file

    def and_grow(*arguments: object) -> int | None:
        left = copy(*arguments)  # type: ignore[arg-type]
        with path.open("ab") as file:
            file.write(as_jsonl(questions(1, seed=8)))
        return left

    with monkeypatch.context() as patch:
        patch.setattr(receiving, "_copy_file", and_grow)
        assert not world.tick().run_requests
    assert world.batches == []
    assert not world.tick().run_requests
    assert len(world.tick().run_requests or []) == 1
    arrival = find_arrival(world.home, world.batches[0])
    assert arrival is not None
    assert (world.store.batch(arrival.batch) / arrival.path).read_bytes() == path.read_bytes()


def test_what_is_too_large_is_skipped_until_the_limit_is_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADSENTRY_MAX_BYTES", "1KiB")
    world.drop("small.jsonl", questions(3))
    large = world.drop("large.jsonl", questions(50))
    assert told(world.tick()) == {"large.jsonl": "is larger than 1,024 bytes (GRADSENTRY_MAX_BYTES)"}
    large.write_bytes(large.read_bytes() * 2)
    assert told(world.tick()) == {}
    assert len(world.batches) == 1
    monkeypatch.setenv("GRADSENTRY_MAX_BYTES", "1M")
    world.tick()
    world.tick()
    assert len(world.batches) == 2
    monkeypatch.setenv("GRADSENTRY_MAX_BYTES", "much")
    assert "GRADSENTRY_MAX_BYTES is to be a number of bytes" in line(world.tick())


def test_a_sparse_file_is_skipped_and_not_copied(world: World) -> None:
    """Within the limit, costs a supplier nothing, and would fill the store's disk."""
    path = world.drop("sparse.jsonl", questions(3))
    os.truncate(path, 40 << 30)
    world.tick()
    reason = told(world.tick()).get("sparse.jsonl", "")
    assert "has a hole of" in reason and world.batches == []


def test_names_that_are_no_text_or_that_pretend_to_be_more(world: World) -> None:
    folder = landing(world)
    names = [
        b"caf\xe9.jsonl",
        b"caf\\xe9.jsonl",
        b"line\nbreak.jsonl",
        b"**bold** <b>[x](http:e)`|.jsonl",
        b"\x1b[31mred.jsonl",
        b"zip:::a::b.jsonl",
        b"..%2f..%2fx.jsonl",
        b"..jsonl.jsonl",
        b"x" * 249 + b".jsonl",
        ("\U00020000" * 62).encode() + b".jsonl",
        "a\u202eb.jsonl".encode(),
    ]
    for index, name in enumerate(names):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(as_jsonl(questions(3, seed=index)))
    world.tick()
    asked = world.tick()
    json.loads(world.cursor or "").keys()
    hidden = 2  # two start with a dot
    assert len(world.batches) == len(names) - hidden
    assert sum(int(request.tags["gradsentry/batches"]) for request in asked.run_requests or []) == len(world.batches)
    for batch in world.batches:
        assert len(batch.encode()) < 120
        assert batch.isprintable()
        arrival = find_arrival(world.home, batch)
        assert arrival is not None
        arrival.url.encode()
        assert len(arrival.path.encode()) < 200
    for batch in (world.batches[0], next(b for b in world.batches if b.startswith("caf"))):
        assert world.run(batch, ["raw_samples"]).success
        assert world.metadata("raw_samples", batch)["arrived_as"].isprintable()


def test_members_of_a_saved_data_set_follow_the_same_rules(world: World, tmp_path: Path) -> None:
    from datasets import Dataset

    rows = Dataset.from_list(questions(10))
    for name in ("good", "linked", "piped"):
        rows.save_to_disk(f"{world.landing}/{name}")
    (shard,) = Path(world.landing, "linked").glob("*.arrow")
    shard.rename(tmp_path / shard.name)
    shard.symlink_to(tmp_path / shard.name)
    os.mkfifo(Path(world.landing, "piped", "pipe"))
    assert told(world.tick()) == {
        "linked": f"holds linked/{shard.name}, which is a link, not a regular file",
        "piped": "holds piped/pipe, which is a FIFO, not a regular file",
    }
    world.tick()
    assert [batch.rpartition("-")[0] for batch in world.batches] == ["good"]


def test_a_thousand_links_are_told_a_few_at_a_time(world: World) -> None:
    for index in range(120):
        (landing(world) / f"{index}.jsonl").symlink_to("/etc/hostname")
    counts = [len(told(world.tick())) for _ in range(4)]
    assert counts == [50, 50, 20, 0]


def test_remote_names_that_lead_elsewhere_are_refused(world: World) -> None:
    root = UPath("memory://hostile-landing")
    root.fs.store["/hostile-landing/set/../../../escape.jsonl"] = root.fs.store.get("x") or _memory(root, ROWS)
    (root / "good.jsonl").write_bytes(ROWS)
    listed = list_landing(root)
    refused = {url: file.refusal for url, file in listed.items() if file.refusal}
    assert set(refused.values()) <= {"has a name that leads elsewhere"}
    assert [url for url, file in listed.items() if not file.refusal] == ["memory://hostile-landing/good.jsonl"]


def _memory(root: UPath, content: bytes) -> object:
    (root / "made").write_bytes(content)
    return root.fs.store.pop("/hostile-landing/made")


def test_a_full_store_says_so_and_nothing_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.drop("a.jsonl", ROWS)
    world.tick()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        assert "the store cannot take in what arrives: No space left on device" in line(world.tick())
    assert world.batches == []
    assert len(world.tick().run_requests or []) == 1


def test_one_file_that_breaks_the_delivery_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        world.drop(f"{index}.jsonl", questions(3, seed=index))
    world.tick()
    deliver = receiving.receive

    def break_one(file: Landed, *rest: object) -> object:
        if file.name == "1.jsonl":
            raise RuntimeError("a fault of ours\n\x1b[2J")
        return deliver(file, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("gradsentry_assets.landing.receive", break_one)
    assert told(world.tick()) == {"1.jsonl": r"could not be taken in: RuntimeError: a fault of ours\n\x1b[2J"}
    assert sorted(batch.partition("-")[0] for batch in world.batches) == ["0", "2"]
    assert told(world.tick()) == {}


def test_a_damaged_record_of_another_batch_stops_nothing(world: World) -> None:
    first = world.take_in("a.jsonl", questions(3))
    (world.store.batch(first) / "arrival.json").write_bytes(b'{"batch": "a", "ur\xff')
    (Path(world.landing) / "a.jsonl").rename(Path(world.landing) / "b.jsonl")
    world.tick()
    assert told(world.tick()) == {}
    assert len(world.batches) == 2
    result = world.run(first, ["raw_samples"])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert "arrival.json is damaged" in failure.event_specific_data.error_display_string
