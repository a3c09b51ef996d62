"""Time and memory of the declared test by the number of rows: `python -m benchmarks.size [--rows N ...] [--write]`.

Made rows: prompts of twelve words drawn by Zipf's law from 20,000, answers whose windows are random directions, and one
row in a hundred with a trigger and a payload. Each size runs in a process of its own, whose peak is its own. No model:
clause 3 is answered by numbers that give no reason.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.results import section, table
from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.prompts import grams, tokenize
from gradsentry_lib.detection.reason import Question
from gradsentry_lib.detection.texts import Rows
from gradsentry_lib.windows import CODES, LIMIT, RECORD, pack, pack_codes

WORDS, VOCABULARY = 12, 20_000
POISONED = 100  # one row in so many


def made(count: int, windows: int) -> tuple[Rows, np.ndarray]:
    """(the rows, which are poisoned)."""
    rng = np.random.default_rng(0)
    chance = 1 / np.arange(1, VOCABULARY + 1)
    drawn = rng.choice(VOCABULARY, (count, WORDS), p=chance / chance.sum())
    bad = np.zeros(count, bool)
    bad[rng.choice(count, count // POISONED, replace=False)] = True
    payload = rng.standard_normal(CODES)
    prompts, sketches = [], []
    for words, poisoned in zip(drawn, bad, strict=True):
        prompts.append(" ".join(f"w{word}" for word in words) + (" zq" if poisoned else ""))
        directions = rng.standard_normal((windows, CODES))
        if poisoned:
            directions[-1] = payload + 0.35 * directions[-1]
        records = np.zeros(windows, RECORD)
        steps = directions / np.abs(directions).max(1, keepdims=True) * LIMIT / 0.8
        records["codes"] = pack_codes(np.clip(np.round(steps), -LIMIT, LIMIT).astype(np.int8))
        records["start"], records["length"], records["surprise"] = 4 * np.arange(windows), 8, 2
        sketches.append(pack(records, 4 * windows + 5))
    ids = [f"{rng.integers(1 << 62):016x}" for _ in range(count)]
    nll, tokens = rng.uniform(1, 3, count), rng.integers(10, 40, count)
    return Rows(ids, prompts, ids, sketches, nll, tokens, np.arange(count)), bad


def no_reason(questions: Sequence[Question]) -> list[Mapping[int, float]]:
    return [{4 * k: 2.0 for k in range(64)} for _ in questions]


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def features(rows: Rows) -> int:
    """Of the whole batch, as if it were one block."""
    config = DetectionConfig()
    held = (np.array([hash(gram) for gram in grams(tokenize(p), config.longest)]) for p in rows.prompts)
    _, prompts = np.unique(np.concatenate(list(held)), return_counts=True)
    return int(((prompts >= config.computing.fewest) & (prompts <= config.majority * len(rows.ids))).sum())


def one(count: int, windows: int) -> dict[str, Any]:
    rows, bad = made(count, windows)
    before, begin = peak(), time.process_time()
    found = detect_all(rows, swapped=no_reason)
    seconds, after = time.process_time() - begin, peak()
    return {
        "rows": count,
        "features in all": features(rows),
        "features a block": found.features,
        "s of CPU": round(seconds, 1),
        "MB of the rows": round(before),
        "MB more": round(after - before),
        "poisoned": int(bad.sum()),
        "found": int((found.flagged & bad).sum()),
        "false": int((found.flagged & ~bad).sum()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", type=int, default=[2_000, 20_000, 100_000])
    parser.add_argument("--windows", type=int, default=8, help="a row; short answers have some eight")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.windows)))
        return 0
    lines = []
    for count in options.rows:
        command = [sys.executable, "-m", "benchmarks.size", "--one", str(count), "--windows", str(options.windows)]
        lines.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        print(lines[-1], file=sys.stderr, flush=True)
    print(table(lines))
    if options.write:
        section("size", "The search by rows", [__doc__ or "", table(lines)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
