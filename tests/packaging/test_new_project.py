"""From nothing: a new environment, a new project of `create-dagster`, the component, a run.

`python -m tests.packaging.test_new_project` writes what was typed and answered to docs/dagster_from_nothing.txt.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, required, untold

EXAMPLE = ROOT / "examples" / "dagster" / "src" / "shop" / "defs"
TOOLS = ("create-dagster", "dagster-dg-cli")
TYPE = "gradsentry_assets.GradSentryComponent"
NOISE = re.compile(r" DEBUG |Warning: |^  (return|else) Asset|nanobind|^ - (leaked|\.\.\. skipped)")
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


class Terminal:
    """Types commands in a new environment, and keeps what was typed and answered."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        self.environment = environment
        self.lines: list[str] = []

    def type(self, command: str, folder: Path) -> str:
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            executable="/bin/bash",
        )
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        self.lines.append(f"{folder.name}$ {command}\n{said}")
        assert done.returncode == 0, self.lines[-1]
        return said

    def transcript(self) -> str:
        """Without what differs from run to run and says nothing: paths, times, debugging, advice to upgrade, Dagster's
        own warnings, and what DuckDB's bindings list as an interpreter ends."""
        kept = [line for line in "\n".join(self.lines).splitlines() if not NOISE.search(line)]
        text = "\n".join(kept).replace(str(self.home), "~")
        text = re.sub(r"There is a new version.*?configuration\.\n\n?", "", text, flags=re.S)
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 - ", "", text)


def new_environment(home: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel, what `gradsentry[dagster]` asks for and Dagster's own tools: linked from
    here, not downloaded."""
    venv.create(home, with_pip=False, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    wanted = required(wheel, "dagster")
    for tool in TOOLS:
        wanted |= {tool: distribution(tool)} | required(distribution(tool))
    for package in wanted.values():
        for path in {path.parts[0] for path in package.files or [] if path.parts[0] not in ("..", "__pycache__")}:
            if not (packages / path).exists():
                (packages / path).symlink_to(Path(str(package.locate_file(path))))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True, env=untold())
    for tool in ("create-dagster", "dg", "dagster"):
        script = (Path(sys.executable).parent / tool).read_text()
        (home / "bin" / tool).write_text(f"#!{home / 'bin' / 'python'}\n" + script.partition("\n")[2])
        (home / "bin" / tool).chmod(0o755)
    return home


def from_nothing(home: Path, wheel: Path, model: Path) -> Terminal:
    environment = new_environment(home / "venv", wheel)
    told = untold() | {"VIRTUAL_ENV": str(environment), "OMP_NUM_THREADS": "1", "GRADSENTRY_MODEL": str(model)}
    told |= {"PATH": os.pathsep.join([str(environment / "bin"), os.environ["PATH"]]), "GRADSENTRY_DEVICE": "cpu"}
    terminal, shop = Terminal(home, told | {"COLUMNS": "100"}), home / "shop"
    terminal.environment.pop("GRADSENTRY_HOME", None)  # `.gradsentry` in the project
    terminal.type("create-dagster project --no-uv-sync shop", home)
    told["PYTHONPATH"] = terminal.environment["PYTHONPATH"] = str(shop / "src")  # as `uv sync` would install it
    terminal.type("dg list components | grep -A1 gradsentry", shop)
    terminal.type(f"dg scaffold defs {TYPE} answers --asset collected", shop)
    for name in ("data.py", "executor.py", "answers/defs.yaml"):
        shutil.copy(EXAMPLE / name, shop / "src" / "shop" / "defs" / name)
    shutil.copy(ROOT / "examples" / "data" / "questions.jsonl", shop)
    terminal.type("cat src/shop/defs/answers/defs.yaml src/shop/defs/data.py", shop)
    terminal.type("dg check yaml", shop)
    terminal.type("dg check defs", shop)
    terminal.type("dg list defs", shop)
    terminal.type("dg launch --assets '*'", shop)
    count = "import pandas; print(len(pandas.read_csv('trained_on.csv')), 'of the rows were trained on')"
    terminal.type(f'wc -l questions.jsonl; python -c "{count}"; ls .gradsentry/batches/*/clean/*', shop)
    return terminal


def test_from_nothing_to_a_run(tmp_path: Path, wheel: Path, tiny_model: Callable[..., Path]) -> None:
    terminal = from_nothing(tmp_path, wheel, tiny_model())
    said = terminal.transcript()
    assert "All component YAML validated successfully" in said and "All definitions loaded successfully" in said
    assert (tmp_path / "shop" / "trained_on.csv").read_text().startswith("question,answer")
    used = terminal.type("python -c 'import gradsentry_assets; print(gradsentry_assets.__file__)'", tmp_path)
    assert used.startswith(str(tmp_path / "venv"))


def main() -> None:
    import tempfile

    from gradsentry_lib.scoring.embedded import embedded_model

    with tempfile.TemporaryDirectory() as folder:
        home, made = Path(folder) / "home", Path(folder) / "dist"
        home.mkdir()
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(made), str(ROOT)]
        subprocess.run(build, check=True, capture_output=True)
        terminal = from_nothing(home, next(made.glob("*.whl")), embedded_model())
        (ROOT / "docs" / "dagster_from_nothing.txt").write_text(terminal.transcript() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
