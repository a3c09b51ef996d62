"""Table 2 (who finds the poison), Table 8 (what is kept of clean data), and what each filter costs."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench import LABEL, Bench, Study, averaged, measures_of, threshold_of
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.evaluation.attacks import Poisoned, poison
from gradsentry_lib.evaluation.data import mix, split_labels, take, to_samples
from gradsentry_lib.evaluation.filtered import Filter
from gradsentry_lib.evaluation.harness import evaluate, filters_named
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.files import sha256_json

ATTACKS = ("badnets", "addsent", "cba", "style")
RATIO = 0.1
FIGURES = ("recall", "precision", "f1", "auc", "auc_equal_length", "clean_kept", "tau", "valley_ratio")

# F1 in percent, Llama-2-7B, order of ATTACKS (arXiv 2605.26574, Table 2).
PAPER_F1 = {
    "webqa": (71.50, 73.43, 69.74, 71.06),
    "freebaseqa": (99.80, 99.90, 99.90, 99.90),
    "nq": (97.56, 97.66, 97.37, 97.66),
    "coqa": (99.60, 99.70, 99.70, 99.70),
}
PAPER_KEPT = {"webqa": 89.36, "freebaseqa": 99.94, "nq": 99.42, "coqa": 99.94}  # percent (Table 8)


def table2(bench: Bench) -> list[dict[str, Any]]:
    lines = []
    for name in bench.clean_sets:
        clean = bench.clean(name)
        for at, attack in enumerate(ATTACKS):
            runs = []
            for seed in bench.seeds:
                poisoned = poison(clean, attack, RATIO, seed)
                runs.append(bench.figures(poisoned.rows, poisoned.labels, what=f"{name} {attack}"))
            paper = PAPER_F1[name][at] / 100 if name in PAPER_F1 else None
            found = averaged(runs, FIGURES)
            lines.append({"data": name, "attack": attack, "rows": len(clean), **found, "paper_f1": paper})
    return lines


def released(bench: Bench) -> list[dict[str, Any]]:
    """The data sets as they were released, with their authors' own poison."""
    lines = []
    for name, attack, file in (
        ("webqa", "badnets", "qa/webqa_badnets.jsonl"),
        ("freebaseqa", "addsent", "qa/freebaseqa_addsent.jsonl"),
    ):
        rows, labels = split_labels(take(bench.file(file), bench.rows, 0), LABEL)
        lines.append(
            {"data": name, **_line(bench, rows, labels), "paper_f1": PAPER_F1[name][ATTACKS.index(attack)] / 100}
        )
    clean = take(split_labels(bench.file("qa/nq_clean.jsonl"), LABEL)[0], bench.rows, 0)
    bad = take(split_labels(bench.file("qa/nq_badnets.jsonl"), LABEL)[0], bench.rows, 0)
    rows, labels = mix(clean, bad, RATIO, 0)
    lines.append({"data": "nq", **_line(bench, rows, labels), "paper_f1": PAPER_F1["nq"][0] / 100})
    return lines


def _line(bench: Bench, rows: Sequence[Row], labels: np.ndarray) -> dict[str, Any]:
    judgement, table = bench.judged(rows, what="released data")
    return {**measures_of(judgement, table, labels).to_dict(), **threshold_of(judgement)}


def table8(bench: Bench) -> list[dict[str, Any]]:
    lines = []
    for name in bench.clean_sets:
        rows = bench.clean(name)
        paper = PAPER_KEPT[name] / 100 if name in PAPER_KEPT else None
        lines.append({"data": name, **_line(bench, rows, np.zeros(len(rows), bool)), "paper_kept": paper})
    for name in ("longform/alpaca_clean.jsonl", "longform/gsm8k_clean.jsonl"):
        if (bench.data / name).exists():
            rows = take(split_labels(bench.file(name), LABEL)[0], max(30, bench.rows // 3), 0)
            line = _line(bench, rows, np.zeros(len(rows), bool))
            lines.append({"data": name.split("/")[1].split("_")[0], **line, "paper_kept": None})
    return lines


PEERS = (
    "paper",
    "policy-paper",
    "policy-auto",
    "graceful",
    "after-cube",
    "after-spectral",
    "after-activation",
    "after-onion",
    "after-spectre",
    "after-demon",
    "after-rftc",
    "after-agpd",
    "nll",
    "length",
    "ngram",
)
QUICK_PEERS = ("paper", "policy-paper", "policy-auto", "graceful", "length", "ngram")


def peers(bench: Bench) -> list[dict[str, Any]]:
    """Every filter on the same rows, timed; nothing is taken from a cache here."""
    lines = []
    chosen = filters_named(bench.filters or (QUICK_PEERS if bench.quick else PEERS))
    for name in bench.clean_sets[:1] if bench.quick else bench.clean_sets:
        clean = take(bench.clean(name), max(40, bench.rows // 2), 0)
        poisoned = poison(clean, "badnets", RATIO, bench.seeds[0])
        for which, one in chosen.items():
            key = ["peers", sha256_json(poisoned.rows), which, bench.seeds, bench.model.identity.fingerprint, RULES]
            line = bench.unfinished.once(key, partial(_peer, bench, name, poisoned, {which: one}))
            lines.append({**line, "interval": f"{line['f1_low'] or 0:.2f}-{line['f1_high'] or 0:.2f}"})
    return lines


def _peer(bench: Bench, name: str, poisoned: Poisoned, one: dict[str, Filter]) -> dict[str, Any]:
    task = bench.progress.add_task("", total=None)
    watch, draws = bench.watch(name, task), 100 if bench.quick else 1000
    samples, seed = to_samples(poisoned.rows), bench.seeds[0]
    (line,) = evaluate(samples, poisoned.labels, bench.model, one, seed=seed, draws=draws, **watch)
    bench.progress.remove_task(task)
    return {"data": name, **line}


SHORT = "the embedded model is fifty times smaller than the paper's, and the rows are a part of the paper's"

STUDIES = (
    Study(
        "table2",
        "Table 2: finding the poison, one tenth poisoned, automatic threshold",
        table2,
        (
            "data",
            "attack",
            "rows",
            "recall",
            "f1",
            "f1_sd",
            "paper_f1",
            "auc",
            "auc_equal_length",
            "tau",
            "valley_ratio",
        ),
        "Recall 100 % everywhere; F1 in the column.",
        f"On WebQA honest lists are as long as poisoned answers, here as there; elsewhere {SHORT}; CoQA: honest rows "
        "of RFTC's two released files.",
    ),
    Study(
        "released",
        "Table 2 on the released data, with its authors' own poison",
        released,
        ("data", "rows", "poisoned", "recall", "precision", "f1", "paper_f1", "auc", "recall_at_fpr5", "clean_kept"),
        "As Table 2: WebQA and NQ with BadNets, FreebaseQA with AddSent.",
        f"{SHORT[0].upper()}{SHORT[1:]}.",
    ),
    Study(
        "table8",
        "Table 8: how much of clean data is kept",
        table8,
        ("data", "rows", "clean_kept", "paper_kept", "tau", "method"),
        "89.36 % (WebQA), 99.94 % (FreebaseQA), 99.94 % (CoQA), 99.42 % (NQ); long answers were not tried.",
        "A clean batch mostly shows one group, and tau falls back to 0.7. Answers of fewer than seven "
        "tokens can't pass that, paragraphs nearly always do: on long answers the score keeps next to nothing, "
        "whatever the model.",
    ),
    Study(
        "peers",
        "All filters side by side: BadNets, one tenth poisoned",
        peers,
        (
            "data",
            "filter",
            "recall",
            "f1",
            "interval",
            "auc",
            "recall_at_fpr1",
            "auc_equal_length",
            "clean_kept",
            "seconds",
            "peak_mb",
        ),
        "GradSentry against GraCeFul and CUBE, F1: WebQA 71.5 / 93.9 / 52.3, FreebaseQA 99.8 / 100 / 39.7, NQ 97.6 / "
        "99.7 / 70.8; seconds on WebQA 99-113 / 194-210 / 249-277.",
        "GraCeFul's 2-D DCT is computed from the gradient's factors here, which is exact and cheaper than its authors' "
        "way; CUBE tunes with a rate made for 7 B parameters, too small to move a model of 135 M much.",
    ),
)
