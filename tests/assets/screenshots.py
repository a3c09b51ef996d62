"""Takes the pictures of README and docs from a real deployment that scans the demo batch.

python -m tests.assets.screenshots [component]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.assets.browser import browser_page
from tests.assets.conftest import as_jsonl
from tests.assets.dagster_dev import ROOT, dagster_dev
from tests.assets.test_dagster_dev import batch_of

IMAGES = ROOT / "docs" / "images"
EXAMPLE, QUESTIONS = ROOT / "examples" / "dagster", ROOT / "examples" / "data" / "questions.jsonl"
CHECK = "view=checks&checkDetail=flagged_fraction"
COMPONENT_PAGES = (  # picture, page, what is to be seen on it, its size
    ("graph", "/assets/answers/clean_dataset?view=lineage&lineageDepth=5", ["collected", "trained"], (1700, 700)),
    ("clean", "/assets/answers/clean_dataset?view=overview", ["question", "Open defs.yaml in editor"], (1400, 760)),
    ("gate", f"/assets/answers/entropy_threshold?{CHECK}", ["This is a", "observed"], (1400, 720)),
    ("runs", "/runs", ["gradsentry/answers_batch"], (1400, 420)),
)
DEMO = ROOT / "gradsentry_assets" / "demo_data" / "demo_questions.jsonl"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, dagster_dev(Path(folder)) as server:
        server.drop("questions.jsonl", DEMO.read_bytes())
        questions = server.wait("the clean data set", lambda: batch_of(server, "questions"))
        (plot,) = server.home.glob(f"batches/{questions}/decisions/*/threshold.png")
        IMAGES.mkdir(parents=True, exist_ok=True)
        shutil.copy(plot, IMAGES / "threshold.png")
        with browser_page(server.url, 1500, 620) as page:
            page.open("/asset-groups")
            page.sees("clean_dataset")
            page.page.wait_for_timeout(4000)
            page.save(IMAGES / "lineage.png")
        with browser_page(server.url, 1300, 1000) as page:
            page.open(f"/assets/entropy_threshold?view=partitions&partition={questions}")
            page.sees("flagged_fraction")
            page.save(IMAGES / "verdicts.png")
            page.open(f"/assets/clean_dataset?view=partitions&partition={questions}")
            page.sees("clean_file")
            page.save(IMAGES / "clean.png")
    refused_gate()


def refused_gate() -> None:
    """Long prose under the paper's policy: what the gate is there for."""
    words = (ROOT / "LICENSE").read_text().split()
    prose = [{"prompt": f"Write section {i}.", "response": " ".join(words[i * 35 : i * 35 + 70])} for i in range(40)]
    with tempfile.TemporaryDirectory() as folder, dagster_dev(Path(folder), {"GRADSENTRY_POLICY": "paper"}) as server:
        server.drop("prose.jsonl", as_jsonl(prose))
        server.wait("a refused batch", lambda: batch_of(server, "prose", where="failedPartitions"))
        with browser_page(server.url, 1300, 800) as page:
            page.open("/assets/entropy_threshold?view=checks&checkDetail=flagged_fraction")
            page.sees("limit 50.0%")
            page.page.wait_for_timeout(2000)
            page.save(IMAGES / "gate.png")


def component() -> None:
    """Somebody's project with the component between two assets of theirs: examples/dagster."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        shutil.copytree(EXAMPLE, shop)
        shutil.copy(QUESTIONS, shop)
        settings = {"PYTHONPATH": os.pathsep.join([str(shop / "src"), *sys.path])}
        with dagster_dev(Path(folder), settings, project=shop) as server:
            launched = os.environ | settings | {"DAGSTER_HOME": f"{folder}/dagster_home", "VIRTUAL_ENV": sys.prefix}
            launched |= {"GRADSENTRY_HOME": str(server.home), "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
            subprocess.run([f"{sys.prefix}/bin/dg", "launch", "--assets", "*"], cwd=shop, env=launched, check=True)
            for name, path, seen, (width, height) in COMPONENT_PAGES:
                with browser_page(server.url, width, height) as page:
                    page.open(path)
                    page.sees(*seen)
                    page.page.wait_for_timeout(4000)
                    page.save(IMAGES / f"component-{name}.png")


if __name__ == "__main__":
    component() if "component" in sys.argv else main()
