"""A tree of named errors: each says what happened and what to do; exit codes and Dagster read it off the class."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradsentry_assets.partitions import refusal
from gradsentry_lib import errors
from gradsentry_lib.cli.reference import kinds
from gradsentry_lib.errors import BadInput, BusyStore, GateFailed, GradSentryError, SourceChanged, UnusableInput

ROOT = Path(__file__).parents[1]
ABSTRACT = {"BadInput", "GradSentryError"}  # what is caught; what is raised is one of their kinds
CODE = sorted([*ROOT.glob("gradsentry_lib/**/*.py"), *ROOT.glob("gradsentry_assets/**/*.py")])


def places(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST, list[str]]]:
    for path in CODE:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node, text.splitlines()  # type: ignore[attr-defined]


def test_every_kind_says_what_happened_and_what_to_do_in_its_own_words() -> None:
    titles = [kind.title for kind in kinds()]
    assert len(titles) == len(set(titles)) > 12
    for kind in kinds():
        assert kind.title[0].isupper() and kind.advice[0] in "`abcdefghijklmnopqrstuvwxyz", kind
        assert kind.__doc__ and kind.exit_code in (2, 3, 4)


def test_nothing_raises_the_root_or_a_branch() -> None:
    """A hundred causes under one name can't be told apart by who catches them."""
    found = []
    for where, node, _ in places(ast.Call):
        assert isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id in ABSTRACT:
            found.append(where)
    assert not found


def test_whoever_catches_everything_says_why() -> None:
    """Beside each `except Exception`, or in the line below it, stands a reason."""
    found = []
    for where, node, lines in places(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        wide = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        if wide and not re.search(r"#\s+\w+ \w+", lines[node.lineno - 1]):
            found.append(where)
    assert not found


def test_every_kind_is_raised_somewhere() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in CODE)
    for kind in kinds():
        if kind.__name__ not in ABSTRACT:
            used = rf"\b{kind.__name__}\(|\({kind.__name__}\)|\b{kind.__name__}\.exit_code"
            assert len(re.findall(used, text)) > 0, kind


@pytest.mark.parametrize("kind", list(kinds()))
def test_the_command_ends_with_the_code_of_the_kind(kind: type[GradSentryError]) -> None:
    import gradsentry_lib.cli as cli

    def fail() -> None:
        raise kind("what happened; what to do")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(cli, "app", fail)
        cli.main()
    assert ended.value.code == kind.exit_code


def test_a_real_command_ends_with_it(tmp_path: Path) -> None:
    code = "import sys; from gradsentry_lib.cli import main; sys.argv[0] = 'gradsentry'; main()"
    command = [sys.executable, "-c", code, "formats", str(tmp_path / "nothing.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == UnusableInput.exit_code and "there is no file" in done.stderr


def test_a_failure_in_dagster_says_what_kind_it_is_and_what_to_do() -> None:
    failure = refusal({"a": UnusableInput("a.jsonl is empty"), "b": BusyStore("the ledger was busy")}, of=2)
    assert failure.description == "2 of 2 batches failed.\na: a.jsonl is empty\nb: the ledger was busy"
    told = {name: entry.value for name, entry in failure.metadata.items()}
    assert told["kind"] == "UnusableInput, BusyStore"
    assert UnusableInput.title in told["what happened"] and BusyStore.advice in told["what to do"]
    assert failure.allow_retries
    assert not refusal({"a": UnusableInput("empty")}, of=1).allow_retries


def test_what_fails_again_is_bad_input_and_what_may_not_is_none() -> None:
    assert issubclass(SourceChanged, BadInput) and not issubclass(BusyStore, BadInput)
    assert not issubclass(GateFailed, BadInput)
    assert [kind for kind in kinds() if kind.retry] == [errors.BusyStore]
