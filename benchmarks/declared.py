"""The declared test (policy `auto`) on the scored cases, both halves: `make bench-detection`.

    python -m benchmarks.declared [--cache FOLDER] [--only NAME ...] [--half ...] [--ask] [--model FOLDER]
                                  [--dtype bfloat16] [--write]

Scores come from the cache (python -m benchmarks.scored makes them). What the model says to swapped prompts is kept
there too; with --ask what is missing is asked, without it a trigger that lacks an answer counts as poison. --write
puts the figures into docs/evaluation/detection.json, of which the tables of docs/detection.md are made
(python -m benchmarks.summary): a case's line takes the place of its last one under the same model.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.detection_cases import HALVES, MORE
from benchmarks.reasons import Reasons
from benchmarks.scored import CACHE, Scored, load
from benchmarks.summary import ROOT
from benchmarks.summary import write as write_pages
from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.config import RULES, DetectionConfig
from gradsentry_lib.detection.prompts import shown
from gradsentry_lib.detection.search import Detection
from gradsentry_lib.detection.texts import read_rows
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.files import read_json, write_json

WIDTH = 140
RESULT = ROOT / "docs/evaluation/detection.json"


@dataclass(frozen=True)
class Line:
    """One case: rows, poisoned ones; found and false; of those watched the poisoned and the honest; the first triggers,
    as a person reads them; seconds of the test; answers of the model that are missing."""

    name: str
    half: str
    rows: int
    poisoned: int
    found: int
    false: int
    watched: int
    watched_honest: int
    triggers: str
    seconds: float
    missing: int


def measure(case: Scored, reasons: Reasons, config: DetectionConfig) -> Line:
    samples = lambda: iter([case.samples])  # noqa: E731
    bad = case.labels
    rows = read_rows(case.scores, samples, lambda: case.scores["sketch"].to_pylist())
    begin = time.perf_counter()
    found = detect_all(rows, config, reasons)
    seconds = time.perf_counter() - begin
    looked, flagged = np.zeros(len(bad), bool), np.zeros(len(bad), bool)
    flagged[rows.row[found.flagged]] = True
    subjects = [trigger.flagged for trigger in found.triggers if trigger.unexplained(config)]
    tagged, alike = ([rows_watched for _, rows_watched in found.watched], [group for group, _ in found.alike])
    for carriers in [*tagged, *alike, *subjects]:
        looked[rows.row[carriers]] = True
    return Line(
        case.name,
        case.half,
        len(bad),
        int(bad.sum()),
        int((flagged & bad).sum()),
        int((flagged & ~bad).sum()),
        int((looked & bad).sum()),
        int((looked & ~bad).sum()),
        named(found),
        seconds,
        reasons.missing,
    )


def named(found: Detection) -> str:
    """The first two triggers of flagged rows, with their reason's share."""
    said = []
    for trigger in [t for t in found.triggers if t.poison][:2]:
        words = " | ".join(shown(name) for name in trigger.names[:3])
        share = "not asked" if trigger.reason is None else f"{trigger.reason.saved:.2f}"
        said.append(f"{words} ({len(trigger.flagged)} rows, {trigger.statistic}, reason {share})")
    return "; ".join(said)


def table(title: str, lines: Sequence[Line]) -> Table:
    shown = Table("case", "rows", "poisoned", "found", "false", "watched", "honest", "named", title=title)
    for line in lines:
        counts = (line.rows, line.poisoned, line.found, line.false, line.watched, line.watched_honest)
        shown.add_row(line.name, *map(str, counts), line.triggers.encode("unicode_escape").decode())
    return shown


def summary(lines: Sequence[Line]) -> str:
    """Means over the cases, each case counted once."""
    bad = [line for line in lines if line.poisoned]
    new = np.mean([line.found / line.poisoned for line in bad]) if bad else float("nan")
    clean = [max(line.rows - line.poisoned, 1) for line in lines]
    false = np.mean([line.false / n for line, n in zip(lines, clean, strict=True)])
    slowest, missing = max(line.seconds for line in lines), sum(line.missing for line in lines)
    return f"recall {new:.3f}, false positives {false:.2%}; slowest case {slowest:.0f} s, {missing} answers missing"


def write(lines: Sequence[Line], model: str, dtype: str, to: Path = RESULT) -> None:
    """Puts lines into the results, each in place of the last one of its case under that model."""
    made = [{"model": model, "dtype": dtype, "rules": RULES, **asdict(line)} for line in lines]
    key = itemgetter("model", "dtype", "half", "name")
    known = {key(line): line for line in read_json(to)["lines"]} if to.exists() else {}
    write_json(to, {"lines": list((known | {key(line): line for line in made}).values())})


def arguments(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of scored cases")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name holds one of these")
    parser.add_argument(
        "--half", nargs="*", default=HALVES, choices=[*HALVES, *MORE], help="which cases (the two halves)"
    )
    parser.add_argument("--ask", action="store_true", help="ask the model what is missing")
    parser.add_argument("--model", default="", help="that scored the cases, the embedded one by default")
    parser.add_argument("--dtype", default="bfloat16", help="of the model that is asked: the one that scored the cases")
    return parser


def model(options: argparse.Namespace) -> Any:
    if not options.ask:
        return None
    from gradsentry_lib.scoring.embedded import embedded_model
    from gradsentry_lib.scoring.model import load_model

    return load_model(options.model or str(embedded_model()), dtype=options.dtype)


def chosen(options: argparse.Namespace) -> list[Scored]:
    wanted = [case for case in load(options.cache) if case.half in options.half]
    return [case for case in wanted if not options.only or any(part in case.name for part in options.only)]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}, and the pages made of it")
    options = parser.parse_args()
    console = Console(width=WIDTH)
    try:
        asked = model(options)
        lines = []
        for case in chosen(options):
            lines.append(measure(case, Reasons(case, options.cache, asked), DetectionConfig()))
            done = lines[-1]
            said = f"{done.name}: found {done.found} of {done.poisoned}, false {done.false}, {done.seconds:.0f} s"
            print(f"{said}; {done.triggers!r}", file=sys.stderr, flush=True)
    except GradSentryError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return error.exit_code
    for half in options.half:
        part = [line for line in lines if line.half == half]
        if part:
            console.print(table(f"Half: {half}", part))
            console.print(f"{half}: {summary(part)}", markup=False)
    if options.write:
        write(lines, Path(options.model).name or "embedded", options.dtype)
        write_pages()
    return 0


if __name__ == "__main__":
    sys.exit(main())
