"""The stage between two assets of somebody else's: frames, tables, files; their partitions; several in one location."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pytest

from gradsentry_assets import File, Upstream, gradsentry_assets
from gradsentry_assets.resources import ModelResource
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store
from tests.assets.conftest import as_jsonl, questions, two_groups

ROWS = two_groups(40, 8)
THEIR_DAYS = dg.StaticPartitionsDefinition(["monday", "tuesday"])


@pytest.fixture
def small(small_model: Path) -> dict[str, Any]:
    """A stage's model."""
    return {"model": ModelResource(model=str(small_model), device="cpu", dtype="float32")}


def run(
    defs: dg.Definitions, instance: dg.DagsterInstance, partition: str | None = None, only: list[str] | None = None
) -> dg.ExecuteInProcessResult:
    """`only`: keys as people write them."""
    job = defs.resolve_implicit_global_asset_job_def()
    chosen = None if only is None else [dg.AssetKey.from_user_string(key) for key in only]
    result = job.execute_in_process(
        instance=instance, partition_key=partition, asset_selection=chosen, raise_on_error=False
    )
    failed = [e.event_specific_data.error_display_string for e in result.all_events if e.is_step_failure]
    assert result.success, failed
    return result


@dg.asset(partitions_def=THEIR_DAYS)
def collected(context: dg.AssetExecutionContext) -> pd.DataFrame:
    """Of somebody else's, kept by their I/O manager."""
    return pd.DataFrame(ROWS if context.partition_key == "monday" else questions(6))


@dg.asset(partitions_def=THEIR_DAYS, ins={"clean": dg.AssetIn(dg.AssetKey(["answers", "clean_dataset"]))})
def trained(context: dg.AssetExecutionContext, clean: pd.DataFrame) -> None:
    context.add_output_metadata({"rows": len(clean), "columns": list(clean.columns)})


def test_frames_go_in_and_come_out_through_their_io_manager(instance: dg.DagsterInstance, small: dict) -> None:
    stage = gradsentry_assets(name="answers", source=collected, clean_as="pandas", **small)
    defs = dg.Definitions.merge(dg.Definitions(assets=[collected, trained]), stage)
    result = run(defs, instance, "monday")
    (made,) = result.asset_materializations_for_node("trained")
    assert (made.metadata["rows"].value, made.metadata["columns"].value) == (40, ["prompt", "response"])
    assert {event.partition for event in result.get_asset_materialization_events()} == {"monday"}
    told(result, instance)
    run(defs, instance, "tuesday", only=["collected", "answers/raw_samples"])
    with open_ledger(Store.default().ledger, read_only=True) as ledger:
        assert [key.rpartition("-")[0] for key in ledger.batch_keys()] == ["collected-monday", "collected-tuesday"]


@pytest.mark.parametrize("shape", [pd.DataFrame, list])
def test_their_partitions_are_one_set_for_a_stage_that_has_none(
    instance: dg.DagsterInstance, small: dict, shape: Any
) -> None:
    """What is spread over shards is judged as the set that it is."""

    @dg.asset(partitions_def=THEIR_DAYS, name="collected")
    def shards(context: dg.AssetExecutionContext) -> Any:
        return shape(ROWS if context.partition_key == "monday" else questions(6))

    stage = gradsentry_assets(name="answers", source=dg.AssetKey("collected"), **small)
    defs = dg.Definitions.merge(dg.Definitions(assets=[shards]), stage)
    for day in ("tuesday", "monday"):
        run(defs, instance, day, only=["collected"])
    result = run(defs, instance, only=["answers/raw_samples"])
    with open_ledger(Store.default().ledger, read_only=True) as ledger:
        (batch,) = [ledger.batch(key) for key in ledger.batch_keys()]
    assert batch.readable == len(ROWS) + 6
    found = [sample for chunk in read_samples(Store.default().samples(batch.batch_key)) for sample in chunk]
    assert [sample.prompt for sample in found] == [row["prompt"] for row in [*ROWS, *questions(6)]]
    assert {event.partition for event in result.get_asset_materialization_events()} == {None}


def told(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> None:
    """What the catalogue and the list of runs say of that run."""
    (raw,) = result.asset_materializations_for_node("answers__raw_samples")
    (clean,) = result.asset_materializations_for_node("answers__clean_dataset")
    rows = [made.metadata["dagster/partition_row_count"].value for made in (raw, clean)]
    assert rows == [48, 40] and int(str(clean.metadata["dagster/size_bytes"].value)) > 0
    for made, upstream in ((raw, ["collected"]), (clean, ["answers", "raw_samples"])):
        columns, lineage = (made.metadata[f"dagster/column_{what}"].value for what in ("schema", "lineage"))
        assert isinstance(columns, dg.TableSchema) and isinstance(lineage, dg.TableColumnLineage)
        assert [column.name for column in columns.columns] == ["prompt", "response"]
        assert lineage.deps_by_column["prompt"] == [dg.TableColumnDep(dg.AssetKey(upstream), "prompt")]
    tags = instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert tags["gradsentry/answers_batch"] == raw.metadata["batch"].value
    assert clean.metadata["decision_key"].value == tags["gradsentry/answers_decision"]
    assert {check.partition for check in result.get_asset_check_evaluations()} == {"monday"}


def test_a_file_that_their_metadata_names_without_partitions(
    instance: dg.DagsterInstance, small: dict, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.jsonl"

    @dg.asset
    def exported() -> dg.MaterializeResult:
        path.write_bytes(as_jsonl(ROWS))
        return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(path)})

    stage = gradsentry_assets(name="answers", source=Upstream(exported.key, file="path"), **small)
    defs = dg.Definitions.merge(dg.Definitions(assets=[exported]), stage)
    result = run(defs, instance)
    (clean,) = result.asset_materializations_for_node("answers__clean_dataset")
    assert Path(str(clean.metadata["clean_file"].value)).read_bytes() == as_jsonl(ROWS[:40])

    path.write_bytes(as_jsonl(questions(4)))
    alone = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(["answers", "clean_dataset"])], raise_on_error=False
    )
    assert "has changed since it was read" in str(alone.failure_data_for_node("answers__clean_dataset"))


def test_a_file_for_each_of_their_partitions(instance: dg.DagsterInstance, small: dict, tmp_path: Path) -> None:
    (tmp_path / "day=monday.jsonl").write_bytes(as_jsonl(ROWS))
    source = File(f"{tmp_path}/day={{partition}}.jsonl")
    defs = gradsentry_assets(name="days", source=source, partitions_def=THEIR_DAYS, clean_as="polars", **small)
    result = run(defs, instance, "monday")
    made = result.output_for_node("days__clean_dataset")
    assert isinstance(made, pl.DataFrame) and made.to_dicts() == ROWS[:40]
    job = defs.resolve_implicit_global_asset_job_def()
    missing = job.execute_in_process(instance=instance, partition_key="tuesday", raise_on_error=False)
    assert not missing.success and missing.failure_data_for_node("days__raw_samples")


def names_of(defs: dg.Definitions) -> set[str]:
    """Everything that could clash with somebody else's."""
    repository = defs.get_repository_def()
    graph = defs.resolve_asset_graph()
    assets = {key.path[0] for key in graph.materializable_asset_keys}
    nodes = {each.node_def.name for each in repository.assets_defs_by_key.values() if each.is_executable}
    pools = {pool for each in repository.assets_defs_by_key.values() for pool in each.op.pools}
    dynamic = {each.partitions_def.name for each in repository.assets_defs_by_key.values()}
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    groups = {graph.get(key).group_name for key in graph.materializable_asset_keys}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    schedules = {schedule.name for schedule in repository.schedule_defs}
    return assets | nodes | pools | dynamic | jobs | groups | sensors | schedules | set(defs.resources or {})


def test_no_name_is_outside_the_prefix(tmp_path: Path) -> None:
    found = names_of(gradsentry_assets(name="answers", source=tmp_path))
    assert {name for name in found if not name.startswith("answers")} == set()
    assert {"answers_landing", "answers_batches", "answers_gpu", "answers_store", "answers_scan_batch"} <= found


def test_several_in_one_location_with_their_own_stores_or_a_shared_one(
    instance: dg.DagsterInstance, small: dict, tmp_path: Path
) -> None:
    for name in ("red", "blue", "green"):
        (tmp_path / f"{name}.jsonl").write_bytes(as_jsonl(questions(5, seed=len(name))))
    stores = {"red": tmp_path / "shared", "blue": tmp_path / "shared", "green": tmp_path / "own"}
    stages = [
        gradsentry_assets(name=name, source=tmp_path / f"{name}.jsonl", store=store, **small)
        for name, store in stores.items()
    ]
    landing = gradsentry_assets(name="arriving", source=f"{tmp_path}/in/*.jsonl")
    own = gradsentry_assets(name="", source=tmp_path)
    run(dg.Definitions.merge(*stages), instance, only=[f"{name}/raw_samples" for name in stores])
    assert len(dg.Definitions.merge(*stages, landing, own).resolve_asset_graph().materializable_asset_keys) == 20
    for store, batches in ((tmp_path / "shared", 2), (tmp_path / "own", 1)):
        with open_ledger(Store(store).ledger, read_only=True) as ledger:
            assert len(ledger.batch_keys()) == batches


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a b"}, "letters, digits and underscores"),
        ({"source": 3}, "give an asset or its key"),
        ({"clean_as": "excel"}, "choose one of path, pandas, polars, arrow"),
        ({"keys": {"clean": "x"}}, "no asset 'clean'"),
        ({"pools": {"tpu": "x"}}, "no pool 'tpu'"),
        ({"source": "in/*.jsonl", "partitions_def": THEIR_DAYS}, "leave partitions_def out"),
    ],
)
def test_what_cannot_be_says_so_when_the_location_loads(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableOption, match=said):
        gradsentry_assets(**{"name": "answers", **given})


def test_keys_owners_and_the_like_are_theirs_to_choose() -> None:
    made = gradsentry_assets(
        name="answers",
        source=dg.AssetKey(["raw", "answers"]),
        keys={"clean_dataset": "answers/clean"},
        group="quality",
        owners=["team:data"],
        tags={"tier": "prod"},
        pools={"gpu": "a100"},
        automation_condition=dg.AutomationCondition.eager(),
    )
    theirs = dg.Definitions(assets=[dg.AssetSpec(["raw", "answers"])])
    graph = dg.Definitions.merge(theirs, made).resolve_asset_graph()
    clean, scored = (graph.get(dg.AssetKey(["answers", name])) for name in ("clean", "gradient_entropy"))
    assert (clean.group_name, clean.owners, clean.tags["tier"]) == ("quality", ["team:data"], "prod")
    assert scored.pools == {"a100"} and scored.automation_condition.get_label() == "eager"
    assert graph.get(dg.AssetKey(["answers", "raw_samples"])).parent_keys == {dg.AssetKey(["raw", "answers"])}


def test_their_rows_can_be_anything_that_a_scan_takes(
    instance: dg.DagsterInstance, small: dict, tmp_path: Path
) -> None:
    values = {"rows": ROWS, "frame": pl.DataFrame(ROWS), "path": str(tmp_path / "file.jsonl")}
    (tmp_path / "file.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    @dg.multi_asset(outs={name: dg.AssetOut() for name in values})
    def theirs():  # type: ignore[no-untyped-def]  # Dagster wants a tuple of known length
        return tuple(values.values())

    stages = [gradsentry_assets(name=f"of_{name}", source=dg.AssetKey(name), **small) for name in values]
    read = [f"of_{name}/raw_samples" for name in values]
    result = run(dg.Definitions.merge(dg.Definitions(assets=[theirs]), *stages), instance, only=[*values, *read])
    for name in values:
        (made,) = result.asset_materializations_for_node(f"of_{name}__raw_samples")
        assert made.metadata["rows_readable"].value == 48
