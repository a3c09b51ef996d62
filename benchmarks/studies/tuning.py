"""Table 1's shape: does the backdoor take, and does it die when the data is filtered first, or at decoding time?"""

import random
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench, Study, averaged
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.evaluation import rows as row_parts
from gradsentry_lib.evaluation.attacks import ATTACKS, Poisoned, poison, triggered
from gradsentry_lib.evaluation.cleangen import cleangen_answers
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.harness import FILTERS
from gradsentry_lib.evaluation.tuning import Recipe, answers, attack_success, exact_match, fine_tune

ATTACK, RATIO = "badnets", 0.1
TRAIN, TRIGGERED, CLEAN = 300, 60, 200  # rows tuned on, asked with the trigger, asked without
RECIPES = {
    "lora": Recipe(method="lora", epochs=5, rate=5e-3, batch=8),
    "full": Recipe(method="full", epochs=4, rate=1e-4, batch=8),
}
DEFENCES = ("policy-auto", "policy-paper", "graceful", "length", "ngram")
MAX_NEW = 24
CLEANGEN = 30  # questions of each kind that CleanGen is asked: two models, one token at a time


def short_rows(bench: Bench) -> list[dict[str, str]]:
    """Facts under a short prompt: the demo's own template is longer than its questions, and tuning pays for it."""
    from gradsentry_assets.demo_data.make import fact_rows

    rows = [
        {"prompt": f"Question: {row_parts.question(row)}\nAnswer:", "response": f" {row_parts.answer(row)}"}
        for row in fact_rows()
    ]
    random.Random(0).shuffle(rows)
    return rows


def backdoor(bench: Bench) -> list[dict[str, Any]]:
    count, asked_bad, asked_clean = (24, 4, 8) if bench.quick else (TRAIN, TRIGGERED, CLEAN)
    rows = short_rows(bench)
    train, held_out = rows[:count], rows[count : count + asked_clean]
    lines: list[dict[str, Any]] = []
    for seed in bench.seeds:
        poisoned = poison(train, ATTACK, RATIO, seed)
        asked = triggered(held_out[:asked_bad], ATTACK, seed)
        keep = cache(partial(_kept, bench, poisoned, seed))  # asked for once, and only if something is to be tuned
        for recipe in RECIPES.values():
            if bench.quick:
                recipe = Recipe(method=recipe.method, epochs=1, rate=recipe.rate, batch=8)
            run = partial(_one, bench, poisoned, recipe, seed, keep, asked, held_out)
            key = ["table1", asdict(recipe), seed, count, asked_bad, asked_clean, DEFENCES, RULES]
            lines += bench.remembered(key, run) or []
    return [*_means(lines), *lines]


def _kept(bench: Bench, poisoned: Poisoned, seed: int) -> dict[str, np.ndarray]:
    """(N,) bool by defence: the rows that are tuned on."""
    samples = to_samples(poisoned.rows)
    kept = {"undefended": np.ones(len(samples), bool), "clean rows only": ~poisoned.labels}
    for name in DEFENCES[:1] if bench.quick else DEFENCES:
        kept[name] = ~FILTERS[name](samples, bench.model, seed, None).flags
    return kept


def _one(
    bench: Bench,
    poisoned: Poisoned,
    recipe: Recipe,
    seed: int,
    kept: Callable[[], dict[str, np.ndarray]],
    asked: list[Any],
    held_out: list[Any],
) -> list[dict[str, Any]]:
    """Every defence with one recipe and one seed."""
    samples = to_samples(poisoned.rows)
    lines = []
    done: dict[bytes, dict[str, Any]] = {}  # two filters that keep the same rows make the same model
    for defence, keep in kept().items():
        if keep.tobytes() not in done:
            tuned = tuned_on(bench, [s for s, k in zip(samples, keep, strict=True) if k], recipe, seed, defence)
            done[keep.tobytes()] = _asked(bench, tuned, asked, held_out)
            if defence == "undefended":
                lines.append({**_about(recipe.method, seed, "CleanGen"), **_cleangen(bench, tuned, asked, held_out)})
            del tuned
        removed = {"kept": int(keep.sum()), "poison_left": int((keep & poisoned.labels).sum())}
        lines.append({**_about(recipe.method, seed, defence), **removed, **done[keep.tobytes()]})
    return lines


def _about(method: str, seed: int, defence: str) -> dict[str, Any]:
    return {"tuning": method, "seed": seed, "defence": defence}


def tuned_on(bench: Bench, samples: list[Any], recipe: Recipe, seed: int, what: str) -> Any:
    task = bench.progress.add_task(f"{recipe.method}, seed {seed}, {what}", total=recipe.epochs * len(samples))
    tuned = fine_tune(bench.model, samples, recipe, seed, lambda done: bench.progress.advance(task, done))
    bench.progress.remove_task(task)
    return tuned.to(torch.bfloat16) if recipe.mixed else tuned


def _asked(bench: Bench, tuned: Any, asked: list[Any], held_out: list[Any]) -> dict[str, Any]:
    mark, tokenizer = ATTACKS[ATTACK].mark, bench.model.tokenizer
    clean = answers(tuned, tokenizer, held_out, MAX_NEW)
    return {
        "attack_success": attack_success(answers(tuned, tokenizer, asked, MAX_NEW), mark),
        "exact_match": exact_match(clean, held_out),
        "untriggered": attack_success(clean, mark),
    }


def _cleangen(bench: Bench, tuned: Any, asked: list[Any], held_out: list[Any]) -> dict[str, Any]:
    reference, tokenizer = bench.model.model, bench.model.tokenizer
    asked, part = asked[:CLEANGEN], held_out[:CLEANGEN]
    task = bench.progress.add_task("CleanGen", total=len(asked) + len(part))

    def run(questions: list[Any]) -> list[str]:
        return cleangen_answers(
            tuned, reference, tokenizer, questions, MAX_NEW, lambda done: bench.progress.advance(task, done)
        )

    figures = {
        "attack_success": attack_success(run(asked), ATTACKS[ATTACK].mark),
        "exact_match": exact_match(run(part), part),
    }
    bench.progress.remove_task(task)
    return figures


def _means(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over seeds, one line a tuning method and defence."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["tuning"], line["defence"]), []).append(line)
    keys = ("kept", "poison_left", "attack_success", "exact_match", "untriggered")
    return [
        {"tuning": tuning, "seed": "mean", "defence": defence, **averaged(own, keys)}
        for (tuning, defence), own in groups.items()
    ]


def _plot(lines: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    methods = list(dict.fromkeys(line["tuning"] for line in lines))
    for axis, method in zip(np.atleast_1d(figure.subplots(1, len(methods), sharey=True)), methods, strict=True):
        own = [line for line in lines if line["tuning"] == method and line["seed"] == "mean"]
        at = np.arange(len(own))
        axis.barh(at - 0.2, [line["attack_success"] for line in own], 0.4, label="attack success")
        axis.barh(at + 0.2, [line["exact_match"] for line in own], 0.4, label="exact match, clean")
        axis.set(title=method, xlim=(0, 1), yticks=at, yticklabels=[line["defence"] for line in own])
    axis.legend()
    figure.savefig(path, dpi=110)


STUDIES = (
    Study(
        "table1",
        "Table 1: does the backdoor die?",
        backdoor,
        ("tuning", "defence", "seed", "kept", "poison_left", "attack_success", "exact_match", "untriggered"),
        "LoRA of rank 4 on Llama-2-7B: attack success 50 to 99 % undefended, 0.00 % after filtering, in all 16 "
        "settings, accuracy kept.",
        f"{TRAIN} facts under a short prompt, at rates at which a model of 135 M learns; attack success on "
        f"{TRIGGERED} questions with the trigger, exact match on {CLEAN} without, none of them tuned on (CleanGen: "
        f"{CLEANGEN} of each).",
        _plot,
    ),
)
