"""Who finds the poison, and what honest data loses: every policy and signal beside the trivial baselines.

    python -m benchmarks.detection [--quick] [--json FILE] [--data ../shared/data] [--dtype bfloat16]

Prints three tables: recall and false positives of the policies at their automatic thresholds; the signals and the
baselines as rankings, with the best threshold in hindsight (recall at 0.5 % false positives), which flatters them;
and what honest data loses. Scores are kept in the cache, so a second run is short.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.metrics import roc_curve

from benchmarks.bench import Bench
from benchmarks.detection_data import Row, Set, honest_sets, poisoned_sets
from gradsentry_lib import settings
from gradsentry_lib.detection.former.signals import COHERENT
from gradsentry_lib.detection.policies import Judgement, judge
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.evaluation import rows as parts
from gradsentry_lib.evaluation.samples import to_samples
from gradsentry_lib.files import write_json
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.model import load_model

RATIOS = (0.01, 0.05, 0.1, 0.3)
FALSE_POSITIVES = 0.005  # of the clean rows, for the rankings
POLICIES = ("auto", "paper", "coherence", "surprise", "any")  # of the score table alone
WIDTH = 150  # of the tables, in characters
Line = dict[str, Any]


def run(bench: Bench, where: Set, size: int, ratio: float, seed: int) -> Line:
    """All figures on one batch."""
    rows, labels = where.mixed(size, ratio, seed)
    bad = np.array(labels, bool)
    samples = to_samples(rows)
    table = bench.scores(samples, where.name)
    line: Line = {"data": where.name, "rows": len(rows), "ratio": ratio, "seed": seed, "poisoned": int(bad.sum())}
    start = time.perf_counter()
    auto = judge(table, "auto", samples=lambda: iter([samples]))
    line["seconds"] = time.perf_counter() - start
    flags = {policy: not_clean(judge(table, policy).verdicts) for policy in ("paper", "surprise")} | {
        "auto": not_clean(auto.verdicts)
    }
    flags["coherence"] = auto.verdicts["coherence"].to_numpy() > COHERENT  # as the policies do, without a second search
    flags["any"] = np.logical_or.reduce(list(flags.values()))
    for policy in POLICIES:
        flagged = flags[policy]
        line[f"{policy} recall"] = float(flagged[bad].mean()) if bad.any() else None
        line[f"{policy} fpr"] = float(flagged[~bad].mean()) if (~bad).any() else None
    if bad.any():
        for name, value in rankings(auto, rows).items():
            line[f"{name} at 0.5 %"] = recall_at(bad, value)
        line["named"] = [named(group.figures["wordings"], where.triggers) for group in auto.groups]
    return line


def rankings(judgement: Judgement, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Signals and baselines as (N,) values, higher is more suspect."""
    verdicts = judgement.verdicts
    answers = [parts.answer(row) for row in rows]
    return {
        "entropy": verdicts["entropy"].to_numpy(),
        "coherence": verdicts["coherence"].to_numpy(),
        "surprise": verdicts["surprise"].to_numpy(),
        "length": verdicts["supervised_tokens"].to_numpy().astype(float),
        "n-gram": repeated(answers),
        "NLL": verdicts["nll"].to_numpy(),
    }


def repeated(answers: Sequence[str], size: int = 5) -> np.ndarray:
    """How many answers hold each answer's most widespread run of five words."""
    found = [
        {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))} for words in map(_words, answers)
    ]
    counts = Counter(gram for grams in found for gram in grams)
    return np.array([max(counts[gram] for gram in grams) for grams in found], float)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def recall_at(labels: np.ndarray, values: np.ndarray) -> float:
    fpr, tpr, _ = roc_curve(labels, np.nan_to_num(values, nan=1e9))
    return float(tpr[fpr <= FALSE_POSITIVES].max())


def named(wordings: Iterable[str], triggers: Sequence[str]) -> bool:
    """Does one of the wordings hold a true trigger, or a piece of one of two words at least?"""
    told = [" ".join(_words(wording)) for wording in wordings]
    true = [" ".join(_words(trigger)) for trigger in triggers]
    return any(t in w.split() or t in w or (len(w.split()) > 1 and w in t) for w in told for t in true)


def averaged(lines: Sequence[Line]) -> list[Line]:
    """Lines of the same data, size and ratio as one: means over the seeds."""
    merged = []
    for key in dict.fromkeys((line["data"], line["rows"], line["ratio"]) for line in lines):
        same = [line for line in lines if (line["data"], line["rows"], line["ratio"]) == key]
        names = [name for name, value in same[0].items() if isinstance(value, float) and name != "ratio"]
        merged.append({**same[0], **{name: float(np.mean([line[name] for line in same])) for name in names}})
    return merged


def show(console: Console, title: str, lines: Sequence[Line], columns: Sequence[str]) -> None:
    table = Table("data", "rows", "poison", *columns, title=title)
    for line in lines:
        cells = ["" if (value := line.get(column)) is None else f"{value:.3f}" for column in columns]
        table.add_row(line["data"], str(line["rows"]), f"{line['ratio']:.0%}", *cells)
    console.print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small batches, one seed: shows that everything runs")
    parser.add_argument("--json", type=Path, help="writes every figure of every batch here")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of evaluation data")
    parser.add_argument("--only", default="", help="data sets whose name holds this")
    parser.add_argument("--sizes", default="", help="rows a batch (500,3000; quick: 150)")
    parser.add_argument("--seeds", default="", help="seeds (0,1; quick: 0)")
    parser.add_argument("--model", default=settings.model(), help="scoring model")
    parser.add_argument("--device", default=settings.device())
    parser.add_argument("--dtype", default="float32")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    console = Console(width=WIDTH)
    sizes = [int(size) for size in (options.sizes or ("150" if options.quick else "500,3000")).split(",")]
    seeds = tuple(int(seed) for seed in (options.seeds or ("0" if options.quick else "0,1")).split(","))
    lines: list[Line] = []
    try:
        model = load_model(options.model, device=options.device, dtype=options.dtype)
        with Progress(console=Console(stderr=True)) as progress:
            cache = settings.home() / "benchmarks" / "scores"
            bench = Bench(model, options.data, cache, max(sizes), seeds, options.quick, progress, ScoringConfig())
            task = progress.add_task("data sets", total=None)
            for where in [*poisoned_sets(options.data, max(sizes)), *honest_sets(options.data, max(sizes))]:
                if options.only not in where.name:
                    continue
                progress.update(task, description=where.name)
                for size in sorted({min(size, len(where.clean)) for size in sizes}):
                    for ratio in RATIOS if where.bad else (0.0,):
                        lines += [run(bench, where, size, ratio, seed) for seed in seeds]
                if options.json:
                    write_json(options.json, lines)
    except GradSentryError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return error.exit_code
    tell(console, lines)
    return 0


def tell(console: Console, lines: Sequence[Line]) -> None:
    means = averaged(lines)
    found, kept = [line for line in means if line["ratio"]], [line for line in means if not line["ratio"]]
    both = [f"{policy} {figure}" for policy in POLICIES for figure in ("recall", "fpr")]
    show(console, "Policies at their automatic thresholds (fpr: of the clean rows)", found, both)
    ranked = [name for name in (found[0] if found else {}) if name.endswith("at 0.5 %")]
    show(console, "Signals and baselines: recall at the best threshold with 0.5 % false positives", found, ranked)
    show(console, "Nothing to find: share of the rows flagged", kept, [f"{policy} fpr" for policy in POLICIES])
    names = [right for line in lines for right in line.get("named", []) if not line["data"].endswith("style")]
    if names:
        console.print(f"Trigger named rightly: {sum(names)} of {len(names)} groups.")


if __name__ == "__main__":
    sys.exit(main())
