"""Dagster's steps score with the model that `gradsentry serve` keeps loaded, where there is one and it is wanted."""

import pytest

from gradsentry_lib.scoring.identity import identify
from tests.assets.conftest import World, two_groups
from tests.scoring.test_resident import served


@pytest.mark.parametrize("resident", ["auto", "off"])
def test_a_step_uses_the_resident_model_where_it_is_wanted(
    world: World, resident: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GRADSENTRY_RESIDENT", resident)
    with served(identify(str(world.model), device="cpu", dtype="float32")) as bench:
        batch = world.take_in("mixed.jsonl", two_groups(40, 8))
        assert world.run(batch).success
        assert (bench.passes > 0) == (resident == "auto")
    assert batch in world.materialized("clean_dataset")
