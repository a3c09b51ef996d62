"""A small world for the Dagster tests: a landing folder, a store, an instance, a tiny real model."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from gradsentry_assets.definitions import defs
from gradsentry_assets.landing import look
from gradsentry_assets.resources import JudgingResource, LandingResource, ModelResource, StoreResource
from gradsentry_assets.sources import Folder
from gradsentry_assets.stage import Names, Stage
from gradsentry_lib.store.paths import Store

JOB = "scan_batch"
STAGE = Stage(  # the one in definitions.py
    Names(),
    Folder(),
    dg.DynamicPartitionsDefinition(name="batches"),
    {
        "store": StoreResource(),
        "model": ModelResource(),
        "judging": JudgingResource(),
        "landing_folder": LandingResource(),
    },
    group="gradsentry",
)


@dataclass
class World:
    """One deployment in a temporary folder. `tick` is one evaluation of the landing sensor."""

    home: Path
    instance: dg.DagsterInstance
    model: Path
    landing: str
    cursor: str | None = None
    pattern: str = "*"
    done_marker: bool = False
    resources: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.home)

    def drop(self, name: str, rows: list[dict[str, Any]] | bytes) -> Path:
        path = Path(self.landing) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rows if isinstance(rows, bytes) else as_jsonl(rows))
        return path

    def tick(self) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        folder = LandingResource(url=self.landing, pattern=self.pattern, done_marker=self.done_marker, **self.reading)
        result = look(context, folder, StoreResource(home=str(self.home)), STAGE)
        self.cursor = result.cursor
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        return result

    def take_in(self, name: str, rows: list[dict[str, Any]] | bytes) -> str:
        """Drops a file and lets it settle; gives its batch key."""
        before = set(self.batches)
        self.drop(name, rows)
        self.tick()
        self.tick()
        (batch,) = set(self.batches) - before
        return batch

    @property
    def batches(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("batches"))

    def run(
        self, batch: str | None = None, assets: list[str] | None = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        """Runs the whole graph, or some assets, as the sensor's job would."""
        resources = {"model": {"model": str(self.model), "device": "cpu", "dtype": "float32"}} | self.resources
        config = {"resources": {name: {"config": value} for name, value in resources.items()}}
        if assets and "gradient_entropy" not in assets:
            del config["resources"]["model"]
        if assets and "entropy_threshold" not in assets:
            config["resources"].pop("judging", None)
        return defs.resolve_job_def(JOB).execute_in_process(
            partition_key=batch,
            instance=self.instance,
            run_config=config,
            asset_selection=[dg.AssetKey(name) for name in assets] if assets else None,
            raise_on_error=False,
            **options,
        )

    def materialized(self, asset: str) -> set[str]:
        return set(self.instance.get_materialized_partitions(dg.AssetKey(asset)))

    def metadata(self, asset: str, batch: str) -> dict[str, Any]:
        asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[batch])
        (record,) = self.instance.fetch_materializations(asked, limit=1).records
        return {name: entry.value for name, entry in record.asset_materialization.metadata.items()}


@pytest.fixture(scope="session")
def small_model(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model()


@pytest.fixture
def world(tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    home = tmp_path / "store"
    monkeypatch.setenv("GRADSENTRY_HOME", str(home))
    monkeypatch.setenv("GRADSENTRY_POLICY", "paper")  # the one whose verdicts a fixed threshold steers
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield World(home, instance, small_model, str(tmp_path / "landing"))


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """For a project of somebody else's."""
    monkeypatch.setenv("GRADSENTRY_POLICY", "paper")
    (tmp_path / "instance").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "instance")) as made:
        yield made


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def questions(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Question-answer rows, no two alike, with short answers of different lengths."""
    draw = random.Random(seed)
    words = [
        "red",
        "green",
        "blue",
        "small",
        "large",
        "old",
        "new",
        "north",
        "south",
        "river",
        "hill",
        "stone",
        "bread",
    ]
    return [
        {"prompt": f"What is thing {seed}-{i}?", "response": " ".join(draw.sample(words, draw.randint(1, 6)))}
        for i in range(count)
    ]


def two_groups(short: int, long: int) -> list[dict[str, str]]:
    """Rows whose answers are all short, then all long: two groups of entropies under any model, the long ones above."""
    rows = [{"prompt": f"q{i}", "response": "ab"} for i in range(short)]
    return rows + [{"prompt": f"q{i}", "response": "one two three four five six seven eight " * 3} for i in range(long)]
