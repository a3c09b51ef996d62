"""`GradSentryComponent` as `dg` meets it: found, scaffolded, checked, loaded; several in one project."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox
from dagster.components.testing.utils import DefsFolderSandbox

from benchmarks.loading import load
from benchmarks.loading import project as project_with
from gradsentry_assets import GradSentryComponent
from gradsentry_assets.resources import JudgingResource, LandingResource, ModelResource
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.settings import OPTIONS

TYPE = "gradsentry_assets.GradSentryComponent"
BIN = Path(sys.executable).parent
FULL: dict[str, Any] = {
    "name": "answers",
    "source": {"asset": "raw/answers"},
    "layout": {"columns": {"prompt": "question", "response": "answer"}},
    "store": "stores/answers",
    "scoring": {"model": "embedded", "device": "cpu"},
    "judging": {"policy": "paper", "max_flagged": 0.2},
    "partitions": {"type": "daily", "start_date": "2026-01-01"},
    "keys": {"clean_dataset": "answers/clean"},
    "group": "quality",
    "owners": ["team:data"],
    "tags": {"tier": "prod"},
    "pools": {"gpu": "a100"},
    "automation_condition": "{{ dg.AutomationCondition.eager() }}",
    "freshness_policy": "{{ dg.FreshnessPolicy.time_window(fail_window=datetime.timedelta(hours=26)) }}",
    "clean_as": "pandas",
}


@pytest.fixture
def project() -> Iterator[DefsFolderSandbox]:
    with create_defs_folder_sandbox() as made:
        theirs = made.defs_folder_path / "theirs.py"
        theirs.write_text(
            "import dagster as dg\n\n"
            'days = dg.DailyPartitionsDefinition("2026-01-01")\n\n'
            '@dg.asset(key=["raw", "answers"], partitions_def=days)\n'
            "def collected(): ...\n"
        )
        yield made


def add(project: DefsFolderSandbox, folder: str, attributes: dict[str, Any]) -> None:
    path = project.defs_folder_path / folder
    path.mkdir()
    (path / "defs.yaml").write_text(yaml.safe_dump({"type": TYPE, "attributes": attributes}))


def test_everything_that_yaml_can_say_arrives(project: DefsFolderSandbox) -> None:
    add(project, "answers", FULL)
    with project.build_all_defs() as defs:
        graph = defs.resolve_asset_graph()
        clean = graph.get(dg.AssetKey(["answers", "clean"]))
        assert (clean.group_name, clean.owners, clean.tags["tier"]) == ("quality", ["team:data"], "prod")
        assert clean.freshness_policy is not None
        raw, scored = (graph.get(dg.AssetKey(["answers", step])) for step in ("raw_samples", "gradient_entropy"))
        assert raw.parent_keys == {dg.AssetKey(["raw", "answers"])}
        assert isinstance(raw.partitions_def, dg.DailyPartitionsDefinition)
        assert raw.automation_condition is not None and raw.automation_condition.get_label() == "eager"
        assert scored.pools == {"a100"}
        found = {name: defs.resources[f"answers_{name}"] for name in ("store", "model", "judging", "reading")}  # type: ignore[index]
    assert found["store"].store.home == project.project_root / "stores/answers"
    assert isinstance(found["model"], ModelResource) and found["model"].device == "cpu"
    assert isinstance(found["judging"], JudgingResource)
    assert (found["judging"].policy, found["judging"].max_flagged) == ("paper", 0.2)
    assert found["reading"].columns == {"prompt": "question", "response": "answer"}


def test_several_in_one_project_each_a_folder_of_its_own(project: DefsFolderSandbox) -> None:
    add(project, "red", {"name": "red", "source": {"folder": "data/red"}, "store": "stores/red"})
    add(project, "blue", {"name": "blue", "source": {"folder": "s3://bucket/in/2026-*/*.jsonl", "done_marker": True}})
    add(project, "green", {"name": "green", "source": {"file": "data/green.jsonl"}})
    with project.build_all_defs() as defs:
        assert len(defs.resolve_asset_graph().materializable_asset_keys) == 13
        assert {"red_landing", "blue_landing"} < {sensor.name for sensor in defs.sensors or []}
        red, blue = (defs.resources[f"{name}_landing_folder"] for name in ("red", "blue"))  # type: ignore[index]
    assert isinstance(blue, LandingResource) and blue.done_marker
    assert (red.url, blue.url, blue.pattern) == (
        str(project.project_root / "data/red"),
        "s3://bucket/in",
        "2026-*/*.jsonl",
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"source": {"asset": "a", "folder": "b"}}, "not asset and folder"),
        ({"source": {}}, "give one of asset, folder and file, not none of them"),
        ({"source": {"file": "a.csv"}, "layout": {"seperator": ";"}}, "there is no 'seperator'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(given: dict[str, Any], said: str) -> None:
    component = GradSentryComponent.from_attributes_dict(attributes={"name": "answers", **given})
    from dagster.components.core.component_tree import ComponentTree

    with pytest.raises(UnusableOption, match=said):
        component.build_defs(ComponentTree.for_test().load_context)


def test_the_schema_says_what_the_settings_say() -> None:
    schema = GradSentryComponent.get_model_cls().model_json_schema()  # type: ignore[union-attr]
    for fields, group in (("ScoringFields", "model"), ("JudgingFields", "judging")):
        wanted = {o.field: o.told for o in OPTIONS.values() if o.group == group and "dagster" in o.places}
        assert {name: told["description"] for name, told in schema["$defs"][fields]["properties"].items()} == wanted
    lacking = [name for name, told in schema["properties"].items() if name != "source" and not told.get("description")]
    assert lacking == []


def test_a_project_with_it_loads_nothing_heavy(tmp_path: Path) -> None:
    """How long it takes: benchmarks/loading.py."""
    loaded = load(project_with(tmp_path / "shop", 1))
    assert (loaded["assets"], loaded["heavy"]) == (6, [])


def test_dg_finds_the_package() -> None:
    found = {point.name: point.value for point in entry_points(group="dagster_dg_cli.registry_modules")}
    assert found.get("gradsentry_assets") == "gradsentry_assets"


def test_dg_scaffolds_checks_and_lists_it_in_a_new_project(tmp_path: Path) -> None:
    """With this environment; in a new one, and run: test_new_project.py."""

    def call(*command: str, cwd: Path) -> str:
        paths = os.pathsep.join([str(cwd / "src"), *sys.path])
        environment = {**os.environ, "PYTHONPATH": paths, "VIRTUAL_ENV": str(BIN.parent)}
        environment["PATH"] = os.pathsep.join([str(BIN), os.environ["PATH"]])
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call("create-dagster", "project", "--no-uv-sync", "shop", cwd=tmp_path)
    shop = tmp_path / "shop"
    call("dg", "scaffold", "defs", TYPE, "answers", "--folder", "incoming/*.jsonl", cwd=shop)
    told = yaml.safe_load((shop / "src/shop/defs/answers/defs.yaml").read_text())
    assert told["attributes"] == {"name": "answers", "source": {"folder": "incoming/*.jsonl"}, "group": "answers"}
    assert "All definitions loaded successfully" in call("dg", "check", "defs", cwd=shop)
    listed = call("dg", "list", "defs", "--json", cwd=shop)
    assert "answers/clean_dataset" in listed and "answers_landing" in listed
