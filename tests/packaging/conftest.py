"""Wheel and sdist of this checkout, and an environment that holds what the wheel asks for and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path
from zipfile import Path as ZipPath

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gradsentry_lib", "gradsentry_assets")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with wheel and sdist, as `make dist` makes them, of a copy."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return made


def untold() -> dict[str, str]:
    """The process's environment without what would lead another Python to this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


def metadata(wheel: Path) -> Distribution:
    """What the wheel says of itself."""
    return PathDistribution(next(item for item in ZipPath(wheel).iterdir() if item.name.endswith(".dist-info")))


def required(what: Path | Distribution, *extras: str) -> dict[str, Distribution]:
    """Every distribution that a wheel, or one that is installed, asks for, by name, from those installed here."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()

    def walk(package: Distribution, extras: tuple[str, ...]) -> None:
        for text in package.requires or []:
            wanted = Requirement(text)
            for extra in ("", *extras):
                if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
                    continue
                name = re.sub(r"[-_.]+", "-", wanted.name).lower()
                if (name, str(sorted(wanted.extras))) in seen:
                    continue
                seen.add((name, str(sorted(wanted.extras))))
                try:
                    found[name] = distribution(name)
                except PackageNotFoundError:
                    continue
                walk(found[name], tuple(wanted.extras))

    walk(metadata(what) if isinstance(what, Path) else what, extras)
    return found


@pytest.fixture(scope="session")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what its base install asks for: linked from here, not downloaded."""
    home = tmp_path_factory.mktemp("base")
    venv.create(home, with_pip=False, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    for package in required(wheel).values():
        for name in {path.parts[0] for path in package.files or [] if path.parts[0] not in ("..", "__pycache__")}:
            if not (packages / name).exists():
                (packages / name).symlink_to(Path(str(package.locate_file(name))))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True, env=untold())
    return home
