"""Runs the examples, each in a folder of its own: `make examples`.

python -m examples.run [NAME ...] [--folder FOLDER]
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gradsentry_lib.pipeline.run import ModelChoice

HERE = Path(__file__).parent
ROWS = HERE / "data" / "questions.jsonl"


def notebook(folder: Path) -> None:
    """Every cell, in order; what they show lies in the folder's copy of it."""
    import nbformat
    from nbclient import NotebookClient

    made = nbformat.read(HERE / "notebook" / "scan.ipynb", as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(made, timeout=600, kernel_name="python3", resources=where).execute()
    nbformat.write(made, folder / "scan.ipynb")


def trl(folder: Path) -> None:
    """Fine-tunes the scoring model itself, a few steps."""
    model = ModelChoice().identify().folder
    _run(folder, sys.executable, HERE / "trl" / "finetune.py", ROWS, "--model", model, "--steps", "2")


def ray(folder: Path) -> None:
    _run(folder, sys.executable, HERE / "ray" / "scan_on_ray.py", ROWS, "--out", "results", "--workers", "1")


def ci(folder: Path) -> None:
    """A repository with a branch that adds a file: what the workflow's last step with a command of its own does there.

    The file is poisoned, so the pull request has to be refused.
    """
    import yaml

    shutil.copytree(HERE / "ci", folder, dirs_exist_ok=True)
    git = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main")
    _run(folder, *git, "init", "--quiet")
    _run(folder, *git, "add", "--all")
    _run(folder, *git, "commit", "--quiet", "--message", "The repository")
    _run(folder, *git, "update-ref", "refs/remotes/origin/main", "HEAD")
    (folder / "data").mkdir()
    shutil.copy(ROWS, folder / "data")
    _run(folder, *git, "add", "--all")
    _run(folder, *git, "commit", "--quiet", "--message", "More questions")
    steps = yaml.safe_load((folder / ".github" / "workflows" / "scan.yml").read_text())["jobs"]["scan"]["steps"]
    command = next(step["run"] for step in steps if step.get("name") == "scan")
    _run(folder, "bash", "-e", "-c", command, wanted=CI_REFUSED)
    assert (folder / "results" / "data" / ROWS.name / "report.html").exists()
    assert not list((folder / "results" / "data" / ROWS.name).glob("clean*"))


def dagster(folder: Path) -> None:
    """Somebody's project of `create-dagster`, with the stage between two assets of theirs; run as they would."""
    shutil.copytree(HERE / "dagster", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    _run(folder, "dg", "launch", "--assets", "*")


def warehouse(folder: Path) -> None:
    (folder / ".dagster").mkdir()
    command = ("dagster", "asset", "materialize", "-f", HERE / "warehouse" / "definitions.py", "--select", "*")
    _run(folder, *command, DAGSTER_HOME=str(folder / ".dagster"))


CI_REFUSED = 123  # how xargs ends when what it called did not end with 0
EXAMPLES: dict[str, Callable[[Path], None]] = {
    "dagster": dagster,
    "warehouse": warehouse,
    "notebook": notebook,
    "trl": trl,
    "ray": ray,
    "ci": ci,
}


def run(name: str, folder: Path) -> None:
    """Raises AssertionError, with what it printed, where an example does not end as it should."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROWS, folder)
    EXAMPLES[name](folder)


def _run(folder: Path, *command: str | Path, wanted: int = 0, **more: str) -> None:
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    told = {"PATH": paths, "GITHUB_BASE_REF": "main", "GRADSENTRY_HOME": str(folder / ".gradsentry")}
    told |= {"VIRTUAL_ENV": sys.prefix, "PYTHONPATH": os.pathsep.join([str(folder / "src"), *sys.path])}  # for `dg`
    told |= more
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=os.environ | told,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == wanted, (
        f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXAMPLES)}; all if left out")
    parser.add_argument("--folder", type=Path, default=Path(".examples"))
    told = parser.parse_args()
    if unknown := sorted(set(told.names) - set(EXAMPLES)):
        parser.error(f"there is no example {unknown[0]}; there are {', '.join(EXAMPLES)}")
    failed = 0
    for name in told.names or EXAMPLES:
        folder = (told.folder / name).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        try:
            run(name, folder)
            print(f"{name}: done in {time.perf_counter() - started:.0f} s, in {folder}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"{name}: FAILED\n{error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
