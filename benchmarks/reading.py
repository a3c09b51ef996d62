"""How fast rows become samples, and the memory that it takes: every layout, as JSON Lines and as Parquet.

    python -m benchmarks.reading [--rows 100000] [--only plain ...] [--json FILE]

Each layout is read in a process of its own: rows a second of processor time, and the peak memory above that of a
process that has imported the reader and read nothing. Prints a Markdown table.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradsentry_lib  # noqa: F401  before pyarrow: says which allocator Arrow is to use, as in any scan

ANSWER = "The river was described early as small, then as item {n} of a list that nobody had kept for long."
Row = dict[str, Any]


def _chat(n: int, answer: str) -> list[Row]:
    return [{"role": "user", "content": f"What is known about river {n}?"}, {"role": "assistant", "content": answer}]


def _call(n: int, answer: str) -> Row:
    call = {"id": f"c{n}", "type": "function", "function": {"name": "find", "arguments": f'{{"n": {n}}}'}}
    turns = _chat(n, answer)
    steps = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "found"}]
    return {
        "messages": [turns[0], *steps, turns[1]],
        "tools": json.dumps([{"name": "find", "parameters": {"type": "object"}}]),
    }


def _chatml(n: int, answer: str) -> str:
    return f"<|im_start|>user\nWhat is river {n}?<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


LAYOUTS: dict[str, Callable[[int, str], Row]] = {
    "plain": lambda n, a: {"prompt": f"What is known about river {n}?", "response": a},
    "plain, 3 more columns": lambda n, a: (
        {"id": n, "prompt": f"What is river {n}?", "response": a, "source": "made"}
        | {"url": f"https://example.org/{n}"}
    ),
    "alpaca": lambda n, a: {"instruction": f"What is known about river {n}?", "input": "", "output": a},
    "alpaca, history": lambda n, a: {"instruction": f"And river {n}?", "input": "", "output": a, "history": [["A", a]]},
    "chat": lambda n, a: {"messages": _chat(n, a)},
    "chat, parts": lambda n, a: {
        "messages": [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in _chat(n, a)]
    },
    "chat, tool calls": _call,
    "pairs": lambda n, a: {"prompt": f"What is river {n}?", "chosen": a, "rejected": "no"},
    "pairs of chats": lambda n, a: {"chosen": _chat(n, a), "rejected": _chat(n, "no")},
    "text": lambda n, a: {"text": _chatml(n, a)},
}


def main() -> None:
    options = _options()
    if options.one is not None:
        print(json.dumps(measure(options.one)))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or LAYOUTS:
            for kind in ("jsonl", "parquet"):
                path = write(Path(folder) / f"rows.{kind}", name, options.rows)
                results.append({"layout": name, "kind": kind, **_apart(path)})
                path.unlink()
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def write(path: Path, layout: str, rows: int) -> Path:
    """A file of so many rows of one layout."""
    made = (LAYOUTS[layout](n, ANSWER.format(n=n)) for n in range(rows))
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in made)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(made)), path)
    return path


def measure(path: Path) -> Row:
    """Reads a file: seconds, rows, and MB beyond what the process held before."""
    from gradsentry_lib.samples.read import open_source
    from gradsentry_lib.samples.table import write_samples

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    source = open_source(str(path))
    rows = sum(1 for _ in source.rows())
    read = time.process_time() - started
    counts = write_samples(source, path.with_suffix(".samples"), path.with_suffix(".rejected"))
    stored = time.process_time() - started - read
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert counts.read == rows and counts.rejected == 0, counts
    return {"rows": rows, "read": read, "stored": stored, "mb": (peak - before) / 1024}


def _apart(path: Path) -> Row:
    command = [sys.executable, "-m", "benchmarks.reading", "--one", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(results: list[Row]) -> str:
    lines = ["| layout | file | rows/s read | rows/s read and kept | MB |", "|---|---|---|---|---|"]
    for r in results:
        read, kept = r["rows"] / r["read"], r["rows"] / r["stored"]
        lines.append(f"| {r['layout']} | {r['kind']} | {read:,.0f} | {kept:,.0f} | {r['mb']:.0f} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", choices=list(LAYOUTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
