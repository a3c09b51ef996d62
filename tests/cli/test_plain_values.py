"""Options come to a command as Typer itself would hand them over."""

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from gradsentry_lib.cli.plain_values import plain_values

SAID: dict[str, Any] = {}


def command(
    source: Annotated[str, typer.Argument()],
    rows: Annotated[list[str] | None, typer.Option("--row")] = None,
    name: Annotated[str | None, typer.Option("--name")] = None,
    share: Annotated[float | None, typer.Option("--share", min=0)] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1)] = None,
    folder: Annotated[Path | None, typer.Option("--folder")] = None,
    yes: Annotated[bool, typer.Option("--yes")] = False,
) -> None:
    SAID.update(locals())


LINES = (
    ["a"],
    ["", "--name", " x "],
    ["a", "--row", "1", "--row", "2", "--share", "0.25", "--limit", "3", "--folder", "b", "--yes"],
    [],
    ["a", "--limit", "0"],
    ["a", "--share", "much"],
    ["a", "--name"],
)


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_the_same_values_and_the_same_complaints(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    outcomes = []
    for plain in (False, True):
        made: Any = get_command(app)
        if plain:
            parameters = made.get_params
            made.get_params = lambda context, parameters=parameters: plain_values(parameters(context))
        SAID.clear()
        try:
            code = made.main(line, standalone_mode=True)
        except SystemExit as end:
            code = end.code
        outcomes.append((code, dict(SAID), capsys.readouterr()))
    assert outcomes[0] == outcomes[1]
