"""The command's parts are imported when they are called; what it says of them is what they say of themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradsentry_lib import cli
from tests.store import builder

HEAVY = {"torch", "transformers", "scipy", "sklearn", "matplotlib", "datasets", "pandas", "dagster", "cryptography"}
TOLD = "import sys; print('\\n'.join({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"


def imported(home: Path, *arguments: str) -> set[str]:
    """The packages that a command has imported when it ends."""
    program = f"import atexit; atexit.register(lambda: exec({TOLD!r})); from gradsentry_lib.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"GRADSENTRY_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_help_imports_nothing_that_it_does_not_show(tmp_path: Path) -> None:
    assert imported(tmp_path, "--help") & (HEAVY | {"numpy", "pyarrow", "duckdb"}) == set()


@pytest.mark.slow
def test_a_sample_is_looked_up_without_what_a_scan_needs(tmp_path: Path) -> None:
    store = builder.Store(tmp_path / "store")
    batch = builder.read_in(store, "alpha")
    decided, _ = builder.decide_and_publish(store, batch, builder.score(store, batch))
    sample = builder.sample_ids(store, batch, "flagged", decided)[0]
    for subject in (sample, sample[:12], batch.batch_key):
        found = imported(store.home, "audit", subject)
        assert "duckdb" in found
        assert found & HEAVY == set()


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_list_of_commands_says_what_the_commands_say(name: str) -> None:
    said = " ".join(cli.load_command(name).help.split("\n\n")[0].split())
    assert cli.COMMANDS[name][1] == said


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_shows_its_own_help(name: str) -> None:
    shown = CliRunner().invoke(cli.app, [name, "--help"], env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    assert f"gradsentry {name}" in shown.output and "--help" in shown.output
    assert "--by" in shown.output or name not in ("release", "flag", "unset")


def test_an_unknown_command_is_told_with_the_nearest() -> None:
    shown = CliRunner().invoke(cli.app, ["audti"])
    assert shown.exit_code == 2 and "audit" in shown.output


def test_the_version() -> None:
    assert CliRunner().invoke(cli.app, ["--version"]).output.startswith("gradsentry ")
