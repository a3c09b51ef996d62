"""What the stage publishes goes to a URL besides: a folder a batch, on an S3 server of this machine."""

from pathlib import Path

import dagster as dg
import pytest
from upath import UPath

from gradsentry_assets import gradsentry_assets
from gradsentry_assets.resources import ModelResource, StoreResource
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.pipeline.deliver import deliver_batch
from tests.assets.conftest import as_jsonl, two_groups

ROWS = two_groups(40, 8)


def test_the_results_of_a_batch_lie_there_too(
    s3: str, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSENTRY_POLICY", "paper")
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(ROWS))
    defs = gradsentry_assets(
        name="answers",
        source=tmp_path / "rows.jsonl",
        store=StoreResource(home=str(tmp_path / "store"), outputs=f"{s3}/outputs/"),
        model=ModelResource(model=str(small_model), device="cpu", dtype="float32"),
    )
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.instance_for_test() as instance:
        for _ in range(2):  # again: its own are replaced
            result = job.execute_in_process(instance=instance)
            (made,) = result.asset_materializations_for_node("answers__clean_dataset")
    place = UPath(str(made.metadata["delivered_to"].value))
    assert str(place).startswith(f"{s3}/outputs/rows-")
    assert (place / "clean.jsonl").read_bytes() == as_jsonl(ROWS[:40])
    assert {"quarantine.jsonl", "report.html", "verdicts.parquet"} < {path.name for path in place.iterdir()}


@pytest.mark.parametrize("below", ["", "/results"])
def test_results_never_arrive_as_batches(below: str, tmp_path: Path) -> None:
    for landing in ("s3://bucket/in", str(tmp_path / "in")):
        with pytest.raises(UnusableOption, match="where batches arrive"):
            deliver_batch({}, f"{landing}{below}", "batch-1", tmp_path, landing)
    deliver_batch({}, str(tmp_path / "in-results"), "batch-1", tmp_path, str(tmp_path / "in"))
