"""The wheel installed as users do it: an empty environment, everything from the index, with every Python and installer
that is on this machine. Gigabytes are fetched: `make soak`.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import untold
from tests.pipeline.builder import lines, write

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def python(version: str) -> str:
    """An interpreter of that version, of the system's or pyenv's; skips where there is none."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    found = shutil.which(f"python{version}") if not pyenv else str(pyenv[-1])
    if found is None:
        pytest.skip(f"no Python {version} on this machine")
    return found


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return found


def run(*command: str | Path, **told: str) -> str:
    done = subprocess.run([*map(str, command)], env=untold() | told, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def scan(tiny_model: Callable[..., Path], tmp_path: Path) -> Callable[..., None]:
    """Scans twenty rows with a command, and looks at what came of it."""
    model = tiny_model()

    def check(*command: str | Path) -> None:
        source, out = write(tmp_path / "rows.jsonl", lines(range(20))), tmp_path / "out"
        told = {"GRADSENTRY_HOME": str(tmp_path / "store"), "GRADSENTRY_TESTED": str(tmp_path / "tested")}
        run(*command, "scan", source, "--out", out, "--model", model, **told)
        assert len((out / "clean.jsonl").read_text().splitlines()) == 20

    return check


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Path]:
    """Where a virtual environment goes, which takes gigabytes and is not kept."""
    yield tmp_path / "env"
    shutil.rmtree(tmp_path / "env", ignore_errors=True)


@pytest.mark.parametrize("version", PYTHONS)
def test_pip(version: str, wheel: Path, environment: Path, scan: Callable[..., None]) -> None:
    run(python(version), "-m", "venv", environment)
    run(environment / "bin" / "pip", "install", "--quiet", wheel)
    run(environment / "bin" / "pip", "check")
    scan(environment / "bin" / "gradsentry")


@pytest.mark.parametrize("version", PYTHONS)
def test_uv(version: str, wheel: Path, environment: Path, scan: Callable[..., None]) -> None:
    uv, interpreter = tool("uv"), python(version)
    run(uv, "venv", "--quiet", "--no-python-downloads", "--python", interpreter, environment)
    run(uv, "pip", "install", "--quiet", "--python", environment / "bin" / "python", wheel)
    scan(environment / "bin" / "gradsentry")


def test_pipx(wheel: Path, scan: Callable[..., None]) -> None:
    scan(tool("pipx"), "run", "--spec", wheel, "gradsentry")
