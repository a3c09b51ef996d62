"""What docs/dagster.md shows: the YAML is that of the example, which runs; the Python makes definitions that load."""

import re
import sys
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from gradsentry_assets.gates import CHECKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "dagster.md").read_text(encoding="utf-8")


def shown(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.S | re.M)


def test_the_yaml_is_that_of_the_example_in_ten_lines() -> None:
    (text,) = shown("yaml")
    assert text == (ROOT / "examples/dagster/src/shop/defs/answers/defs.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 10


@pytest.mark.parametrize("number", range(len(shown("python"))))
def test_the_python_makes_definitions_that_load(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.asset
    def collected() -> None: ...

    @dg.asset(deps=[collected])
    def trained() -> None: ...

    theirs = ModuleType("my_project")
    theirs.collected, theirs.trained = collected, trained  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_project", theirs)
    names: dict[str, dg.Definitions] = {}
    exec(compile(shown("python")[number], "dagster.md", "exec"), names)  # noqa: S102  # the project's own page
    graph = names["defs"].resolve_asset_graph()
    made = {key.to_user_string() for key in graph.materializable_asset_keys}
    assert {"collected", "trained"} < made or len(graph.asset_check_keys) == len(CHECKS) + 1


def test_every_check_is_told() -> None:
    assert [name for name in CHECKS if f"`gradsentry_{name}`" not in PAGE] == []
