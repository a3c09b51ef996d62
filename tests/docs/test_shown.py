"""What the pages show is run, block by block, as a reader would: with a tiny random model in place of the embedded one.

A block of `sh` ends with 0, or as `exits=` says; one behind `<!-- not run: why -->` is left out. Blocks of Python on a
page share their names; the pages share a store, in which scores are found again.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradsentry_lib.cli import app
from gradsentry_lib.errors import GradSentryError

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROWS = DOCS.parent / "examples" / "data" / "questions.jsonl"
PAGES = ("index.md", "tutorial.md", "python.md", *(f"howto/{path.name}" for path in sorted((DOCS / "howto").glob("*"))))
BLOCK = re.compile(r"(<!-- not run: .*? -->\n)?^```(python|sh)( [^\n]*)?\n(.*?)^```$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    exits: int


def blocks(page: str) -> Iterator[Block]:
    for left_out, kind, more, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if not left_out and "--8<--" not in text:
            found = re.search(r"exits=(\d+)", more)
            yield Block(kind, text, int(found[1]) if found else 0)


@pytest.fixture(scope="module")
def kept(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store and a model for all pages."""
    return {"GRADSENTRY_HOME": str(tmp_path_factory.mktemp("kept")), "GRADSENTRY_MODEL": str(tiny_model())}


@pytest.fixture
def place(kept: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("questions.jsonl", "samples.jsonl"):
        (tmp_path / name).write_bytes(ROWS.read_bytes())
    monkeypatch.chdir(tmp_path)
    for name, told in {**kept, "GRADSENTRY_DEVICE": "cpu"}.items():
        monkeypatch.setenv(name, told)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def ended(line: str) -> tuple[int, str]:
    """How a line ends, and what it says. Our own command runs in this process: that spares the imports."""
    words = shlex.split(line, comments=True)
    if words[:1] != ["gradsentry"]:
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    called = CliRunner().invoke(app, words[1:])
    code = called.exception.exit_code if isinstance(called.exception, GradSentryError) else called.exit_code
    return code, f"{called.output}{called.exception or ''}"


@pytest.mark.parametrize("page", PAGES)
def test_it_runs(page: str, place: Path, request: pytest.FixtureRequest) -> None:
    told = list(blocks(page))
    if any("s3://bucket" in block.text for block in told):
        from upath import UPath

        (UPath(request.getfixturevalue("s3")) / "in" / "questions.jsonl").write_bytes(ROWS.read_bytes())
    names: dict[str, object] = {"__name__": "__shown__"}
    for block in told:
        if block.kind == "python":
            exec(compile(block.text, page, "exec"), names)  # noqa: S102  # the project's own pages
            continue
        for line in filter(None, block.text.replace("\\\n", "").splitlines()):
            code, said = ended(line)
            assert code == block.exits, f"{page}: {line} ended with {code}\n{said[-2000:]}"


@pytest.mark.soak
@pytest.mark.usefixtures("embedded_model")
def test_the_tutorial_finds_what_it_says(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded model: the lines that the page shows are those of the scan."""
    monkeypatch.delenv("GRADSENTRY_MODEL")
    shown = re.search(r"```text\n(.*?)```", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.S)
    assert shown
    _, said = ended("gradsentry scan questions.jsonl --out results")
    plain = " ".join(said.split())
    for line in shown[1].splitlines():
        assert " ".join(line.split()) in plain, line
