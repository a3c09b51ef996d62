"""Every path of a store is joined in store/paths.py, nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.store import paths
from gradsentry_lib.store.paths import Store

ROOT = Path(__file__).resolve().parents[2]
OWN = Path(paths.__file__)


def joined(file: Path) -> Iterator[tuple[int, str]]:
    """The texts that a file joins to a path: `folder / "name"`, `folder.joinpath("name")`, `folder.glob("name/*")`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        told: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            told = [node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            told = node.args if node.func.attr in ("joinpath", "glob", "rglob", "with_name") else []
        for expression in told:
            yield from ((part.lineno, part.value) for part in ast.walk(expression) if _is_text(part))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def names() -> set[str]:
    """Folders and files of a store, as paths.py has them."""
    found = {part for _, text in joined(OWN) for part in text.split("/")} - {"", "*", "*.json", "*.parquet", ".json"}
    assert {"batches", "scores", "decisions", "clean", "locks", "incoming", "samples.parquet"} <= found
    return found


def test_nobody_else_joins_paths_of_a_store() -> None:
    known = names()
    foreign = [
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for folder in ("gradsentry_lib", "gradsentry_assets", "benchmarks")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file != OWN
        for line, text in joined(file)
        if known & set(text.split("/"))
    ]
    assert foreign == []


@pytest.mark.parametrize("key", ["..", "../out", "a/b", "", "/etc"])
def test_a_key_cannot_leave_its_folder(key: str) -> None:
    store = Store(Path("store"))
    for place in (store.batch, lambda key: store.scores("b", key), lambda key: store.decision("b", key)):
        with pytest.raises(BadInput, match="no file name"):
            place(key)
