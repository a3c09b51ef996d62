"""The gate on a data set that somebody else's asset makes: what is downstream waits for it."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from gradsentry_assets import gradsentry_checks
from gradsentry_assets.checks import NEWS
from gradsentry_assets.resources import JudgingResource, ModelResource
from tests.assets.conftest import as_jsonl, questions, two_groups

DAYS = dg.StaticPartitionsDefinition(["monday", "tuesday"])
Results = dict[str, dg.AssetCheckEvaluation]


@pytest.fixture
def model(small_model: Path) -> ModelResource:
    return ModelResource(model=str(small_model), device="cpu", dtype="float32")


def run(
    assets: list[Any], checks: dg.AssetChecksDefinition, instance: dg.DagsterInstance, partition: str | None = None
) -> tuple[set[str], Results]:
    """Which assets were made, and what the checks said."""
    job = dg.Definitions(assets=assets, asset_checks=[checks]).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, partition_key=partition, raise_on_error=False)
    made = {
        str(event.asset_key and event.asset_key.to_user_string()) for event in result.get_asset_materialization_events()
    }
    return made, {said.check_name.removeprefix("gradsentry_"): said for said in result.get_asset_check_evaluations()}


def missed(said: Results) -> set[str]:
    """The checks that did not pass, but for the one that says whether so few rows show anything."""
    return {name for name, check in said.items() if not check.passed} - {"score_trusted"}


def test_what_is_downstream_waits_and_new_rows_are_told(instance: dg.DagsterInstance, model: ModelResource) -> None:
    """A data set grows: first honest, then with a few rows that stand out, then with too many of them."""
    grown = [two_groups(40, 0), two_groups(40, 8), two_groups(40, 60)]
    today = iter(grown)

    @dg.asset
    def collected() -> pd.DataFrame:
        return pd.DataFrame(next(today))

    @dg.asset(deps=[collected])
    def trained() -> None: ...

    checks = gradsentry_checks(asset=collected, model=model)
    made, said = run([collected, trained], checks, instance)
    assert made == {"collected", "trained"} and missed(said) == set()
    assert "first good data set" in str(said[NEWS].description)

    made, said = run([collected, trained], checks, instance)
    assert made == {"collected", "trained"}
    assert not said[NEWS].passed and said[NEWS].severity == dg.AssetCheckSeverity.WARN
    told = {name: entry.value for name, entry in said[NEWS].metadata.items()}
    assert (told["new_rows"], told["gone_rows"], told["new_rows_not_clean"]) == (8, 0, 8)
    assert str(told["since"]).startswith("collected-")

    made, said = run([collected, trained], checks, instance)
    assert made == {"collected"}  # nobody trains on it
    refused = said["flagged_fraction"]
    assert (refused.passed, refused.severity, refused.blocking) == (False, dg.AssetCheckSeverity.ERROR, True)
    assert "gradsentry gate accept collected-" in str(refused.metadata["to_accept"].value)


def test_a_file_of_theirs_by_partition_with_limits_of_ours(
    instance: dg.DagsterInstance, model: ModelResource, tmp_path: Path
) -> None:
    @dg.asset(partitions_def=DAYS)
    def exported(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        path = tmp_path / f"{context.partition_key}.jsonl"
        path.write_bytes(as_jsonl(questions(9)) + b"{broken\n")
        return dg.MaterializeResult(metadata={"path": str(path)})

    checks = gradsentry_checks(
        asset=exported, file="path", model=model, judging=JudgingResource(max_rejected=0.01), blocking=False
    )
    made, said = run([exported], checks, instance, "monday")
    assert made == {"exported"}
    assert missed(said) == {"rejected_fraction"}
    assert {check.partition for check in said.values()} == {"monday"}
    assert not any(check.blocking for check in said.values())
    assert str(said["rejected_fraction"].metadata["batch"].value).startswith("monday-")


def test_what_can_not_be_scanned_fails_in_one_line(instance: dg.DagsterInstance, model: ModelResource) -> None:
    @dg.asset
    def collected() -> int:
        return 3

    job = dg.Definitions(
        assets=[collected], asset_checks=[gradsentry_checks(asset="collected", model=model)]
    ).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "can't scan a builtins.int; give a path, a URL" in str(failed.event_specific_data.error_display_string)  # type: ignore[union-attr]
