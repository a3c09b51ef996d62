"""Every option once: the library, the command, Dagster's resources and the docs are made from the same settings."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gradsentry_assets import resources
from gradsentry_lib import settings
from gradsentry_lib.cli import load_command, reference
from gradsentry_lib.detection.known import FORMAT
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.pipeline.run import ModelChoice
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.settings import OPTIONS, Settings

ROOT = Path(__file__).parents[2]
RESOURCES = {
    "store": resources.StoreResource,
    "landing": resources.LandingResource,
    "model": resources.ModelResource,
    "judging": resources.JudgingResource,
}
ARGUMENTS = {  # of `gradsentry scan`: what is said of this source and of its results, and of no other
    "source": "the source itself",
    **dict.fromkeys(("column", "role", "response_marker", "mapping", "encoding", "separator", "split"), "how it reads"),
    "limit": "which of its rows",
    "out": "where its results go",
    "overwrite": "what is replaced there",
}

OF_A_FOLDER = {"columns", "roles", "response_marker", "encoding", "separator"}  # how all that lands in it reads


def test_the_command_has_every_option_by_its_name_and_help_and_no_other() -> None:
    parameters = {each.name: each for each in load_command("scan").params if each.name != "help"}
    wanted = {name: option for name, option in OPTIONS.items() if "command" in option.places}
    assert parameters.keys() == wanted.keys() | ARGUMENTS.keys()
    for name, option in wanted.items():
        assert parameters[name].opts == [option.flag] and parameters[name].default is None
        assert parameters[name].help == option.told


def test_dagster_has_every_option_as_a_field_and_no_other() -> None:
    for group, resource in RESOURCES.items():
        wanted = {o.field: o for o in OPTIONS.values() if o.group == group and "dagster" in o.places}
        reading = OF_A_FOLDER if group == "landing" else set()
        assert resource.model_fields.keys() == wanted.keys() | reading, group
        for name, option in wanted.items():
            assert resource.model_fields[name].description == option.told
            assert resource.model_fields[name].default is None
    elsewhere = [o.name for o in OPTIONS.values() if "dagster" in o.places and o.group not in RESOURCES]
    assert not elsewhere


def another(option: settings.Option, folder: Path) -> Any:
    """A value that is not the default."""
    if option.name == "known":
        export = {"format": FORMAT, "batch": "", "source_sha256": "", "policy": "", "rows_read": 0, "groups": []}
        (folder / "groups.json").write_text(json.dumps(export))
        return str(folder / "groups.json")
    if option.choices:
        return next(choice for choice in option.choices if choice != option.default)
    return {int: 3, float: 0.25, bool: True, str: "cpu"}[option.kind]


@pytest.mark.parametrize("name", [o.name for o in OPTIONS.values() if len(o.places) == 2])
def test_the_library_heeds_every_option(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choices(said: Settings) -> tuple[Any, ...]:
        return ModelChoice.of(said), ScoringConfig.of(said), Effort.of(said), DecisionConfig.of(said)

    option = OPTIONS[name]
    with_ray = {"engine": "ray"} if name in ("ray_address", "workers") else {}
    usual = choices(settings.read(**with_ray))
    other = another(option, tmp_path)
    assert choices(settings.read(**with_ray, **{name: other})) != usual
    monkeypatch.setenv(option.variable, str(other))
    assert getattr(settings.read(), name) == other  # and in the environment
    resource = RESOURCES[option.group](**{option.field: other})
    if option.group == "judging":
        assert resource.decision == DecisionConfig.of(settings.read(**{name: other}))
    else:
        assert getattr(resource.said, name) == other


def test_only_the_settings_read_the_environment() -> None:
    """Each variable of the project's has one reader, and each that is read is an option."""
    found = []
    for path in [*ROOT.glob("gradsentry_lib/**/*.py"), *ROOT.glob("gradsentry_assets/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        found += [f"{path.name}: {line}" for line in re.findall(r".*environ\W.*GRADSENTRY_\w+.*", text)]
    assert not found
    assert len({option.variable for option in OPTIONS.values()}) == len(fields(Settings)) == len(OPTIONS)


def test_an_option_that_is_not_everywhere_says_why() -> None:
    for option in OPTIONS.values():
        if option.only:
            place, _, why = option.only.partition(": ")
            assert place in ("command", "dagster", "environment") and len(why.split()) > 4, option.name


def test_given_over_environment_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.value("k") == 16 and settings.value("max_flagged") is None
    monkeypatch.setenv("GRADSENTRY_K", "5")
    monkeypatch.setenv("GRADSENTRY_LANDING_MARKER", "yes")
    assert (settings.value("k"), settings.value("k", 3), settings.value("landing_marker")) == (5, 3, True)
    assert settings.value("landing_marker", False) is False
    monkeypatch.setenv("GRADSENTRY_POLICY", "paper")
    assert DecisionConfig.of(settings.read()).policy == "paper"
    assert settings.read(policy="").policy == "paper"  # an empty field of Dagster's is none


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("k", "1", "GRADSENTRY_K 1: give at least 2 singular values"),
        ("max_flagged", "1.5", "GRADSENTRY_MAX_FLAGGED must lie between 0 and 1, not 1.5"),
        ("max_flagged", "half", "GRADSENTRY_MAX_FLAGGED is no number: 'half'"),
        ("max_flagged", "nan", "GRADSENTRY_MAX_FLAGGED must lie between 0 and 1, not nan"),
        ("landing_marker", "maybe", "GRADSENTRY_LANDING_MARKER is neither 1 nor 0: 'maybe'"),
        ("engine", "spark", "unknown GRADSENTRY_ENGINE 'spark': choose one of local, ray"),
    ],
)
def test_a_wrong_variable_is_named_in_one_line(
    name: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPTIONS[name].variable, text)
    with pytest.raises(UnusableOption) as error:
        settings.value(name)
    assert str(error.value) == told


def test_a_value_out_of_range_is_refused_by_the_object_itself() -> None:
    with pytest.raises(UnusableOption, match="crop 0: give at least 1"):
        Settings(crop=0)
    with pytest.raises(UnusableOption, match="unknown control tokens 'drop': choose one of quarantine, keep"):
        Settings(control_tokens="drop")
    with pytest.raises(UnusableOption, match="max_tokens 1: give at least 2 tokens"):
        ScoringConfig(max_tokens=1)


def test_the_tables_in_docs_are_those_of_the_code() -> None:
    """`make reference` writes them."""
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == reference.options()
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == reference.errors()
