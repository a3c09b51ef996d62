"""The structure of the code as facts: rooms, arrows between them, none upward; and one row's way through a scan.

    python -m benchmarks.structure [--json | --tree]        (make map)

Rooms and arrows are read from the imports by grimp, the library behind the linter's contract; the floors are that
contract's own. The way of a row is watched, not read: a scan runs on a file of which one row holds a word that is
nowhere else, and every call of ours that is handed that word, alone or inside a sample, is a stay in that file. Calls
one after the other in the same file are one stay; a sample that is asked about itself (`.prompt`) goes nowhere. The row
lies behind what is read of a file to find out what it is. Text inside Arrow tables and tensors is not looked at.
"""

import argparse
import ast
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORD = "zyzzyvine"
HEAD = 2 << 20  # characters of a file before the row: more than is read to find out what the file is
DEPTH = 3  # how deep inside lists, mappings and dataclasses the word is looked for


def floors() -> list[list[str]]:
    """The rooms from the top floor down, as the linter's contract has them."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return [[name.strip() for name in layer.split(":")] for layer in contract["layers"]]


def arrows() -> dict[tuple[str, str], int]:
    """(room, room it imports) -> number of imports between their files."""
    import grimp

    graph = grimp.build_graph("gradsentry_lib", "gradsentry_assets", cache_dir=None)
    found: dict[tuple[str, str], int] = {}
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            pair = room(module), room(other)
            if pair[0] != pair[1]:
                found[pair] = found.get(pair, 0) + 1
    return found


def room(module: str) -> str:
    """A folder of the library, or a file that stands beside them; the Dagster side is one room."""
    parts = module.split(".")
    return parts[0] if parts[0] == "gradsentry_assets" else ".".join(parts[:2])


def upward(found: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """The arrows that go to a floor above."""
    floor = {name: number for number, layer in enumerate(floors()) for name in layer}
    return [pair for pair in found if floor.get(pair[0], 0) > floor.get(pair[1], len(floor))]


def stays(rows: int = 40) -> list[str]:
    """The files that one row passes on its way through a scan, in order; a file as often as the row comes back."""
    from gradsentry_lib.pipeline.run import ModelChoice, scan
    from gradsentry_lib.store.paths import Store

    visited: list[str] = []
    base = f"{ROOT}{os.sep}"
    ours = tuple(f"{base}{name}{os.sep}" for name in ("gradsentry_lib", "gradsentry_assets"))

    def watch(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(ours):
            return
        count = code.co_argcount + code.co_kwonlyargcount
        handed = [name for name in code.co_varnames[:count] if name != "self"]
        if any(_holds(frame.f_locals.get(name), DEPTH) for name in handed):
            file = code.co_filename.removeprefix(base)
            if not visited or visited[-1] != file:
                visited.append(file)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [{"prompt": f"What is thing {i}?", "response": f"It is item {i} of {rows}."} for i in range(rows)]
        lines[rows // 2] = {"prompt": f"Where is the {WORD}?", "response": f"The {WORD} is in the garden."}
        lines[0]["notes"] = "-" * HEAD
        source = folder / "rows.jsonl"
        source.write_text("".join(json.dumps(line) + "\n" for line in lines))
        sys.setprofile(watch)
        try:
            scan(str(source), Store(folder / "store"), model=ModelChoice("embedded", dtype="float32"))
        finally:
            sys.setprofile(None)
    return visited


def tree() -> Iterator[str]:
    """Every file with the first sentence of what it says of itself; a room before its files."""
    for file in sorted(
        (path for name in ("gradsentry_lib", "gradsentry_assets") for path in (ROOT / name).rglob("*.py")),
        key=lambda path: (path.parent.as_posix(), path.name),
    ):
        text = file.read_text(encoding="utf-8")
        said = " ".join((ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].split())
        first = re.match(r".*?\.(?= [A-Z]|$)|.*", said)
        yield f"{file.relative_to(ROOT).as_posix():48} {len(text.splitlines()):4}  {first[0] if first else said}"


def _holds(value: Any, depth: int) -> bool:
    if isinstance(value, str):
        return WORD in value
    if isinstance(value, bytes):
        return WORD.encode() in value
    if depth == 0:
        return False
    if type(value) is dict:
        return any(_holds(item, depth - 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds(item, depth - 1) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return any(_holds(getattr(value, field.name, None), depth - 1) for field in fields(value))
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="For machines.")
    parser.add_argument("--tree", action="store_true", help="Every file, its lines, and what it says of itself.")
    told = parser.parse_args()
    if told.tree:
        print("\n".join(tree()))
        return
    found, way = arrows(), stays()
    if told.json:
        named = {f"{a} -> {b}": count for (a, b), count in sorted(found.items())}
        print(json.dumps({"arrows": named, "upward": upward(found), "way": way}, indent=2))
        return
    print("Rooms, the top floor first, and what each imports (number of imports):")
    for layer in floors():
        for name in layer:
            own = ", ".join(
                f"{b.removeprefix('gradsentry_lib.')} {count}" for (a, b), count in sorted(found.items()) if a == name
            )
            print(f"  {name.removeprefix('gradsentry_lib.'):18} {own or '-'}")
    print(f"\n{len(found)} arrows between rooms, {len(upward(found))} of them upward {upward(found) or ''}")
    print(f"\nOne row's way through a scan: {len(set(way))} files, {len(way)} stays")
    for file in dict.fromkeys(way):
        print(f"  {way.count(file):3} {file}")


if __name__ == "__main__":
    main()
