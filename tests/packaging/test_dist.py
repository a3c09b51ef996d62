"""Wheel and sdist: all that the packages need is in them, and a base install scans without Dagster."""

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import gradsentry_lib
from tests.packaging.conftest import PACKAGES, ROOT, metadata, required, untold
from tests.pipeline.builder import lines, write


def test_all_files_are_in_it_and_the_base_is_small(wheel: Path, built: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True).stdout.split()
    shipped = set(ZipFile(wheel).namelist())
    assert tracked and set(tracked) - shipped == set()
    assert {f"{package}/py.typed" for package in PACKAGES} < shipped
    assert not [name for name in shipped if name.startswith(("tests/", "benchmarks/"))]
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked) | {"pyproject.toml", "README.md", "LICENSE"} <= members

    about = metadata(wheel)
    assert about.version == gradsentry_lib.__version__
    assert {"dagster", "ray", "s3", "report", "dev"} <= set(about.metadata.get_all("Provides-Extra") or [])
    assert not {"dagster", "great-expectations", "ray", "pytest", "starlette"} & set(required(wheel))
    assert {"dagster", "dagster-webserver", "great-expectations"} <= set(required(wheel, "dagster"))
    assert not [line for line in about.requires or [] if line.startswith("torch") and "==" in line]


def test_a_base_install_scans_and_names_the_extra_for_the_rest(
    base: Path, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    told = {"GRADSENTRY_HOME": str(tmp_path / "store"), "GRADSENTRY_MODEL": str(tiny_model()), "OMP_NUM_THREADS": "1"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(base / "bin" / command[0]), *command[1:]],
            cwd=tmp_path,
            env=untold() | told,
            capture_output=True,
            text=True,
        )

    source = write(tmp_path / "rows.jsonl", lines(range(20)))
    done = run("gradsentry", "scan", str(source), "--out", "out", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    counted = len((tmp_path / "out" / "clean.jsonl").read_text().splitlines())
    assert counted == 20 and (tmp_path / "out" / "report.html").exists()

    where = run("python", "-c", "import gradsentry_lib; print(gradsentry_lib.__file__)").stdout
    assert where.startswith(str(base))
    review = run("gradsentry", "review")
    assert (review.returncode, "gradsentry[report]" in review.stderr) == (2, True), review.stderr
    assert "gradsentry[dagster]" in run("python", "-c", "import gradsentry_assets").stderr
