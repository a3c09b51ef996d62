"""What twenty rows cost before and after the rows: a scan from the command to the verdict, beside the bare model.

    python -m benchmarks.startup [--rows 20] [--rounds 5] [--dtype auto] [--against CHECKOUT] [--quick] [--write]

Every line is a process of its own, and the lines of a round follow each other, so that a machine whose speed drifts
drifts for all alike:

    bare       transformers loads the model and runs it over the same rows, one by one; nothing else
    untested   `gradsentry scan`, where no self-test of this model was made yet
    first      `gradsentry scan` into an empty store; the self-tests are known
    again      the same command once more
    second     what a second scan of other rows takes in a process that has made one: a notebook, a Dagster step

Told are medians: seconds, processor seconds, modules imported. The ratios are medians of the rounds' own. --against:
the same commands run the package of another checkout too, under "before". Parts: where the time of `first` goes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import ROOT, section, table
from gradsentry_assets.demo_data.make import fact_rows
from gradsentry_lib.scoring.embedded import embedded_model
from gradsentry_lib.scoring.identity import auto_device_and_dtype

END = """
import atexit, json, sys, time
begin, spent = time.perf_counter(), 0.0
def told(**more):
    import resource
    used = resource.getrusage(resource.RUSAGE_SELF)
    line = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - spent,
            "modules": len(sys.modules), "mb": used.ru_maxrss >> 10}
    print(json.dumps(line | more), file=sys.stderr)
"""
BARE = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, rows, dtype = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
with torch.no_grad():
    for line in open(rows, encoding="utf-8"):
        row = json.loads(line)
        model(torch.tensor([tokenizer.encode(row["prompt"] + row["response"])]))
told()
"""
COMMAND = """
atexit.register(told)
from gradsentry_lib.cli import main
main()
"""
PARTS = """
parts = {}
def timed(module, name, label=None):
    import importlib
    module = importlib.import_module(module)
    real = getattr(module, name)
    def run(*given, **named):
        start = time.perf_counter()
        try:
            return real(*given, **named)
        finally:
            parts[label or name] = parts.get(label or name, 0) + time.perf_counter() - start
    setattr(module, name, run)
def clock(label, work):
    start = time.perf_counter(); work(); parts[label] = time.perf_counter() - start
from importlib import import_module
clock("import the command", lambda: import_module("gradsentry_lib.cli.scan"))
clock("import torch", lambda: import_module("torch"))
clock("import the scorer", lambda: import_module("gradsentry_lib.scoring.scorer"))
timed("gradsentry_lib.pipeline.run", "identify", "fingerprint the model")
timed("gradsentry_lib.pipeline.run", "ingest", "read the rows")
timed("gradsentry_lib.scoring.model", "load_model", "load the model")
timed("gradsentry_lib.scoring.scorer", "score_samples", "score the rows")
timed("gradsentry_lib.pipeline.decide", "judge")
timed("gradsentry_lib.pipeline.decided", "threshold_png", "picture")
timed("gradsentry_lib.pipeline.publish", "write_report", "report")
timed("gradsentry_lib.pipeline.run", "decide", "decide, judge and picture in it")
timed("gradsentry_lib.pipeline.run", "publish", "publish, report in it")
atexit.register(lambda: told(parts=parts))
from gradsentry_lib.cli import main
main()
"""
SECOND = """
from gradsentry_lib.pipeline import score
from gradsentry_lib.pipeline.run import ModelChoice, scan
score_with, rows = score.score_with, 0.0
def timed(*given):
    global rows
    start = time.process_time()
    try:
        return score_with(*given)
    finally:
        rows = time.process_time() - start
score.score_with = timed
first, second, dtype = sys.argv[1:]
scan(first, model=ModelChoice(dtype=dtype))
begin, spent = time.perf_counter(), time.process_time()
scan(second, model=ModelChoice(dtype=dtype))
told(rows=rows)
"""


class Bench:
    """Processes, told where their package, store and self-tests are."""

    def __init__(self, scratch: Path, rows: int, dtype: str) -> None:
        self.scratch, self.dtype = scratch, dtype
        self.model = str(embedded_model())
        facts = fact_rows()
        self.files = [scratch / f"rows{part}.jsonl" for part in (0, 1)]
        for part, file in enumerate(self.files):
            own = facts[part * rows : (part + 1) * rows]
            file.write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")

    def run(
        self, program: str, *arguments: str, package: Path = ROOT, home: str = "store", tested: str = "tested"
    ) -> Any:
        told = {"PYTHONPATH": str(package), "GRADSENTRY_TESTED": str(self.scratch / package.name / tested)}
        told |= {"GRADSENTRY_HOME": str(self.scratch / package.name / home)}
        told |= {"PYTHONDONTWRITEBYTECODE": ""}  # compiled once, as what pip installs is
        done = subprocess.run(
            [sys.executable, "-c", END + program, *arguments],
            env=os.environ | told, cwd=self.scratch, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(done.stderr.strip().splitlines()[-1])

    def scan(self, program: str, package: Path, home: str, tested: str = "tested") -> Any:
        out = str(self.scratch / package.name / home / "out")
        given = ("scan", str(self.files[0]), "--out", out, "--dtype", self.dtype)
        return self.run(program, *given, package=package, home=home, tested=tested)

    def round(self, number: int, packages: dict[str, Path]) -> Iterator[tuple[str, Any]]:
        yield "bare", self.run(BARE, self.model, str(self.files[0]), self.dtype)
        for name, package in packages.items():
            home = f"store{number}"
            yield f"{name}untested", self.scan(COMMAND, package, f"untested{number}", f"untested{number}")
            yield f"{name}first", self.scan(COMMAND, package, home)
            yield f"{name}again", self.scan(COMMAND, package, home)
            yield (
                f"{name}second",
                self.run(SECOND, *map(str, self.files), self.dtype, package=package, home=f"two{number}"),
            )


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        dtype = auto_device_and_dtype()[1] if options.dtype == "auto" else options.dtype
        bench = Bench(Path(folder), options.rows, dtype)
        packages = {"": ROOT} | ({"before: ": options.against.resolve()} if options.against else {})
        for package in packages.values():
            bench.scan(COMMAND, package, "warm")  # makes the self-tests, compiles, fills the page cache
        rounds = [dict(bench.round(number, packages)) for number in range(options.rounds)]
        parts = [bench.scan(PARTS, ROOT, f"parts{number}")["parts"] for number in range(options.rounds)]
    lines = [_line(name, rounds) for name in rounds[0]]
    where = [
        {"part of `first`": name, "s": statistics.median(part.get(name, 0.0) for part in parts)} for name in parts[0]
    ]
    print(table(lines), table(where), sep="\n\n")
    if options.write:
        intro = f"Embedded model in {dtype}, {options.rows} rows, medians of {options.rounds} interleaved rounds."
        section("startup", "Start", [intro, table(lines), table(where)], options.quick)


def _line(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(figure: str) -> float:
        return statistics.median(each[name][figure] for each in rounds)

    def ratio(figure: str, other: str) -> float:
        return statistics.median(each[name][figure] / each[other][figure] for each in rounds)

    rows = [each[name].get("rows") for each in rounds]
    return {
        "": name,
        "s": middle("seconds"),
        "processor s": middle("processor"),
        "of bare": ratio("seconds", "bare"),
        "processor, of bare": ratio("processor", "bare"),
        "modules": int(middle("modules")),
        "MB": int(middle("mb")),
        "of it rows, processor s": statistics.median(rows) if rows[0] is not None else None,
    }


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=20)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--dtype", default="auto")
    options.add_argument("--against", type=Path, help="another checkout, measured beside this one")
    options.add_argument("--quick", action="store_true", help="one round")
    options.add_argument("--write", action="store_true", help="write RESULTS.md")
    told = options.parse_args()
    told.rounds = 1 if told.quick else told.rounds
    return told


if __name__ == "__main__":
    main()
