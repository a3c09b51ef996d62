"""Private words that went stay away from names: a newcomer who knows the field should guess what a name means.

    python .ci/words.py [FILE ...]      without files: all of the project's code

Names of functions, classes, arguments, variables, modules and files are looked at, not prose.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("gradsentry_lib", "gradsentry_assets")
INSTEAD = {
    "deal": "share out, batch",
    "dealt": "shared out, shuffled",
    "kinship": "similarity",
    "bareness": "length, share of prompt",
    "mate": "neighbour",
    "twin": "duplicate",
    "orphan": "unreferenced file",
    "road": "path, way",
    "elsewhere": "other batches",
    "strip": "packed rows",
}


def names(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Every name that the file gives, with its line; the file's own name as line 1."""
    yield 1, path.stem
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def found(path: Path, text: str) -> Iterator[str]:
    shown = path.resolve().relative_to(ROOT).as_posix()
    for line, name in names(path, text):
        words = [word.removesuffix("s") for word in re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower())]
        for word in sorted(set(words) & INSTEAD.keys()):
            yield f"{shown}:{line}: {name}: say what the field says for {word!r} ({INSTEAD[word]})"


def main(given: list[str]) -> int:
    every = sorted(path for place in PLACES for path in (ROOT / place).rglob("*.py"))
    wanted = [path for path in every if not given or path in {Path(name).resolve() for name in given}]
    lines = [line for path in wanted for line in found(path, path.read_text(encoding="utf-8"))]
    print("\n".join(lines), end="\n" if lines else "")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
