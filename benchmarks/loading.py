"""What the component costs a Dagster project that loads: processor seconds with it, beside those without.

    python -m benchmarks.loading [--rounds 7] [--write]

A project as `create-dagster` makes it, with two assets of its own, is loaded as a code location is: its module is
imported, its definitions are resolved into a repository. Every load is a process of its own; a round loads the project
without the component, with it, and with two, so that a machine whose speed drifts drifts for all alike. Told are
medians, and the medians of the rounds' own ratios. Also: which of the heavy libraries were imported.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import section, table

HEAVY = (
    "torch",
    "transformers",
    "great_expectations",
    "datasets",
    "ray",
    "pandas",
    "pyarrow",
    "scipy",
    "duckdb",
    "numpy",
)
LOAD = """
import time
begin = time.perf_counter()
import json, sys
from pathlib import Path
from dagster import load_from_defs_folder
defs = load_from_defs_folder(path_within_project=Path(sys.argv[1]))
found = len(defs.get_repository_def().assets_defs_by_key)
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = [name for name in sys.argv[2].split() if name in sys.modules]
print(json.dumps({"processor": used.ru_utime + used.ru_stime, "wall": time.perf_counter() - begin,
                  "modules": len(sys.modules), "mb": used.ru_maxrss >> 10, "assets": found, "heavy": heavy}))
"""
THEIRS = """
import dagster as dg

@dg.asset
def collected() -> list: ...

@dg.asset(deps=[collected])
def trained() -> None: ...
"""
COMPONENT = """type: gradsentry_assets.GradSentryComponent
attributes:
  name: {name}
  source: {{asset: collected}}
"""
ASKED = 1.2  # at most so many times the time without it


def project(folder: Path, components: int) -> Path:
    """A project of Dagster's with so many stages; the folder of its package."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "0"\n[tool.dg]\ndirectory_type = "project"\n'
        '[tool.dg.project]\nroot_module = "shop"\n'
    )
    defs = folder / "src" / "shop" / "defs"
    defs.mkdir(parents=True)
    (defs.parent / "__init__.py").touch()
    (defs / "__init__.py").touch()
    (defs / "theirs.py").write_text(THEIRS)
    for number in range(components):
        (defs / f"stage{number}").mkdir()
        (defs / f"stage{number}" / "defs.yaml").write_text(COMPONENT.format(name=f"stage{number}"))
    return defs.parent


def load(package: Path) -> dict[str, Any]:
    """One load, in a process of its own."""
    paths = os.pathsep.join([str(package.parent), *filter(None, sys.path)])
    command = [sys.executable, "-c", LOAD, str(package), " ".join(HEAVY)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        cwd=package.parents[1],
    )
    return json.loads(done.stdout)


def measured(rounds: int) -> list[dict[str, Any]]:
    """A line each for none, one and two stages."""
    with tempfile.TemporaryDirectory() as folder:
        packages = [project(Path(folder) / f"with{count}", count) for count in range(3)]
        for package in packages:
            load(package)  # byte code and disk caches
        times = [[load(package) for package in packages] for _ in range(rounds)]
    lines = []
    for count in range(3):
        of = [one[count] for one in times]
        ratios = [one[count]["processor"] / one[0]["processor"] for one in times]
        lines.append(
            {
                "stages": str(count),
                "assets": of[0]["assets"],
                "processor s": statistics.median(one["processor"] for one in of),
                "wall s": statistics.median(one["wall"] for one in of),
                "times without": statistics.median(ratios),
                "modules": of[0]["modules"],
                "MB": of[0]["mb"],
                "imported of the heavy": ", ".join(of[0]["heavy"]) or "none",
            }
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="its section of benchmarks/RESULTS.md")
    told = parser.parse_args()
    lines = measured(told.rounds)
    shown = table(lines)
    print(shown)
    if told.write:
        asked = f"Asked: with one, at most {ASKED} times the processor seconds without, and neither torch nor "
        section("loading", "Loading a Dagster project", [asked + "great_expectations imported.", shown])
    return 0 if lines[1]["times without"] <= ASKED else 1


if __name__ == "__main__":
    sys.exit(main())
