"""Figures 4 and 5: how much of the data is poisoned, and how much data there is."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.bench import LABEL, Bench, Study, averaged, measures_of, threshold_of
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.evaluation.attacks import poison
from gradsentry_lib.evaluation.data import split_labels, take, to_samples

RATIOS = (0.01, 0.03, 0.05, 0.10, 0.20, 0.40, 0.50, 0.70, 0.90)
SIZES = (20, 50, 100, 200, 500, 1000, 2000, 5000)
FIGURES = ("recall", "precision", "f1", "tau", "fell_back")


def _pairs(bench: Bench, name: str) -> tuple[list[Any], list[Any]]:
    """Clean rows and the same rows poisoned, line by line."""
    if name == "nq":
        clean = split_labels(bench.file("qa/nq_clean.jsonl"), LABEL)[0]
        bad = split_labels(bench.file("qa/nq_badnets.jsonl"), LABEL)[0]
        return take(clean, bench.rows, 0), take(bad, bench.rows, 0)
    clean = bench.clean(name)
    return clean, poison(clean, "badnets", 1.0, 0).rows


def _scored(bench: Bench, name: str) -> tuple[pa.Table, pa.Table]:
    clean, bad = _pairs(bench, name)
    return tuple(bench.scores(to_samples(rows), f"{name} pairs") for rows in (clean, bad))


def _drawn(scored: tuple[pa.Table, pa.Table], count: int, ratio: float, seed: int) -> dict[str, Any]:
    """Figures of `count` of the pairs, round(ratio * count) of them poisoned. A score depends on its row alone, so that
    each row is scored once for all mixes."""
    rng = random.Random(seed)
    chosen = rng.sample(range(scored[0].num_rows), count)
    bad = round(ratio * count)
    table = pa.concat_tables([scored[1].take(chosen[:bad]), scored[0].take(chosen[bad:])])
    judgement = judge(table, "paper")
    figures = measures_of(judgement, table, np.arange(count) < bad).to_dict()
    return {**figures, **threshold_of(judgement), "fell_back": float(judgement.threshold.method == "fallback")}


def ratios(bench: Bench) -> list[dict[str, Any]]:
    lines = []
    for name in bench.clean_sets:
        scored = _scored(bench, name)
        count = scored[0].num_rows
        for ratio in RATIOS:
            if round(ratio * count) >= 1:
                runs = [_drawn(scored, count, ratio, seed) for seed in bench.seeds]
                lines.append({"data": name, "rows": count, "ratio": ratio, **averaged(runs, FIGURES)})
    return lines


def sizes(bench: Bench) -> list[dict[str, Any]]:
    lines = []
    for name in bench.clean_sets:
        scored = _scored(bench, name)
        for count in SIZES:
            if count <= scored[0].num_rows:
                runs = [_drawn(scored, count, 0.1, seed) for seed in range(10 * len(bench.seeds))]
                lines.append({"data": name, "rows": count, **averaged(runs, FIGURES)})
    return lines


def _plot(key: str, label: str, log: bool) -> Any:
    def plot(lines: list[dict[str, Any]], path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.2), layout="constrained")
        for axis, what in zip(figure.subplots(1, 2, sharey=True), ("recall", "f1"), strict=True):
            for name in dict.fromkeys(line["data"] for line in lines):
                own = [line for line in lines if line["data"] == name and line[what] is not None]
                axis.plot([line[key] for line in own], [line[what] for line in own], marker="o", label=name)
            axis.set(xlabel=label, title="recall" if what == "recall" else "F1", ylim=(0, 1.05))
            if log:
                axis.set_xscale("log")
            axis.grid(alpha=0.3)
        axis.legend()
        figure.savefig(path, dpi=110)

    return plot


COLUMNS = ("recall", "precision", "f1", "f1_sd", "tau", "fell_back")

STUDIES = (
    Study(
        "figure4",
        "Figure 4: poison ratio",
        ratios,
        ("data", "ratio", *COLUMNS),
        "Mean F1 82.38 at ratios up to 5 %, 98.82 from 50 % up; recall 100.",
        "At low ratios a few honest long answers weigh against few poisoned ones: F1 falls with no change in the "
        "score. Where fewer than 1 % or 5 rows lie above the valley, tau falls back to 0.7.",
        _plot("ratio", "poison ratio", log=False),
    ),
    Study(
        "figure5",
        "Figure 5: number of samples, one tenth poisoned",
        sizes,
        ("data", "rows", *COLUMNS),
        "Works from 20 samples up, the score being each sample's own.",
        "Under 30 rows tau is the fixed 0.7, as in the paper; averages over many draws of so many rows.",
        _plot("rows", "samples", log=True),
    ),
)
