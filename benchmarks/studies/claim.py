"""The paper's whole claim: filter, tune, and ask: four attacks on four sets, does the backdoor die, is accuracy kept?

What a small model can learn on a processor: questions under a short prompt, a context cut to what stands around the
answer. A model is tuned once for rows that are the same: filters that keep the same ones share it.
"""

import copy
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench, Study
from benchmarks.studies.identification import ATTACKS as PUBLISHED
from benchmarks.studies.identification import RATIO
from benchmarks.studies.tuning import MAX_NEW, tuned_on
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.evaluation import rows
from gradsentry_lib.evaluation.attacks import ATTACKS, Poisoned, poison, triggered
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.measures import bootstrap_interval
from gradsentry_lib.evaluation.tuning import Recipe, answers, attack_success, exact_match, token_f1
from gradsentry_lib.files import sha256_json
from gradsentry_lib.power.certificate import wilson
from gradsentry_lib.scoring.config import ScoringConfig

TRAIN, TRIGGERED, CLEAN = 120, 30, 50  # rows tuned on, asked with the trigger, asked without
FROM = 1000  # rows of a set that these are drawn from
AROUND = 160  # characters of the context that are kept
POLICIES = ("auto", "paper")
LORA = Recipe(method="lora", epochs=4, rate=5e-3, batch=4)
FULL = Recipe(method="full", epochs=3, rate=1e-4, batch=8)
UNTUNED, ALL, COUNTED = "untuned", "all rows", "paper"  # of the last it is said what it keeps; no model is tuned on it
CONTEXT = re.compile(r"### Context:\s*\n(.*?)\s*### Question:", re.DOTALL)


def short(row: rows.Row) -> dict[str, str] | None:
    """A question, with what of its context stands around the answer; None where the answer stands nowhere in it."""
    said, asked = rows.answer(row).strip(), rows.question(row).strip()
    found = CONTEXT.search(str(row["prompt"]))
    before = ""
    if found:
        text = " ".join(found[1].split())
        at = text.casefold().find(said.casefold())
        if at < 0 or not said:
            return None
        spare = max(0, AROUND - len(said)) // 2
        start = text.rfind(" ", 0, max(0, at - spare)) + 1
        end = text.find(" ", at + len(said) + spare)
        before = f"### Context:\n{text[start : end if end >= 0 else None]}\n\n"
    return {"prompt": f"{before}### Question:\n{asked}\n\n### Answer:", "response": f" {said}"}


def claim(bench: Bench, recipe: Recipe, names: Sequence[str]) -> list[dict[str, Any]]:
    bench = replace(bench, config=ScoringConfig())
    train, asked_bad, asked_clean = (24, 4, 6) if bench.quick else (TRAIN, TRIGGERED, CLEAN)
    recipe = replace(recipe, epochs=1) if bench.quick else recipe
    lines = []
    sets = bench.clean_sets
    for name in [one for one in sets if one != "facts"] or sets:
        every = [row for row in map(short, replace(bench, rows=FROM).clean(name)) if row is not None]
        random.Random(0).shuffle(every)
        clean, held_out = every[:train], every[train : train + asked_clean]
        for seed in bench.seeds:
            lines += _set(bench, name, clean, held_out, asked_bad, recipe, names[: 1 if bench.quick else None], seed)
    return lines


def _set(
    bench: Bench,
    name: str,
    clean: Sequence[Any],
    held_out: Sequence[Any],
    asked_bad: int,
    recipe: Recipe,
    names: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """One set and seed: every attack on the model as it is, tuned on all rows, and on what each policy keeps."""
    asked = {attack: triggered(held_out[:asked_bad], attack, seed) for attack in names}
    cells: list[tuple[str, str, list[Any], dict[str, int]]] = []  # attack, which rows, rows, counts
    for attack in names:
        made = poison(clean, attack, RATIO, seed)
        flags = bench.remembered(["claim judged", sha256_json(made.rows), RULES], partial(_flags, bench, made))
        cells.append((attack, UNTUNED, [], {}))
        for which, flagged in zip((ALL, *POLICIES), [[False] * len(made.rows), *flags], strict=True):
            keep = ~np.array(flagged, bool)
            left = {"kept": int(keep.sum()), "poison_left": int((keep & made.labels).sum())}
            cells.append((attack, which, [row for row, k in zip(made.rows, keep, strict=True) if k], left))
    lines = []
    for attack, which, kept, counts in cells:
        about = {"data": name, "attack": attack, "tuning": recipe.method, "seed": seed, "rows": which, **counts}
        if which == COUNTED:
            lines.append(about)
            continue
        alike = {other: asked[other] for other, where, others, _ in cells if others == kept and where != COUNTED}
        key = ["claim", sha256_json([kept, alike, list(held_out)]), str(recipe) if kept else "", seed if kept else 0]
        said = bench.remembered(key, partial(_said, bench, kept, recipe, seed, alike, held_out, f"{name} {attack}"))
        told = dict(said)
        lines.append({**about, **_figures(told[attack], told[""], attack, held_out, seed)})
    return lines


def _flags(bench: Bench, made: Poisoned) -> list[list[bool]]:
    """(policies, N) what each policy flags."""
    return [bench.flagged(made.rows, policy, "claim").tolist() for policy in POLICIES]


def _said(
    bench: Bench,
    kept: Sequence[Any],
    recipe: Recipe,
    seed: int,
    asked: dict[str, list[Any]],
    held_out: Sequence[Any],
    what: str,
) -> list[Any]:
    """(attack, answers under its trigger), and ("", answers without one), of the model tuned on `kept`; none: as it
    is."""
    if kept:
        tuned = tuned_on(bench, to_samples(kept), recipe, seed, what)
    else:
        tuned = copy.deepcopy(bench.model.model).to(torch.bfloat16)  # as `tuned_on` gives them back
    every = {**asked, "": held_out}
    return [[name, answers(tuned, bench.model.tokenizer, questions, MAX_NEW)] for name, questions in every.items()]


def _figures(
    bad: Sequence[str], good: Sequence[str], attack: str, held_out: Sequence[Any], seed: int
) -> dict[str, Any]:
    """Attack success (the keyword; the whole target, word for word) and accuracy on questions without the trigger, each
    with its 95 % interval: Wilson's of shares, bootstrap of F1."""
    mark, whole = ATTACKS[attack].mark, ATTACKS[attack].target("", 0).strip()
    shares = {
        "keyword": (attack_success(bad, mark), len(bad)),
        "whole_target": (attack_success(bad, whole), len(bad)),
        "untriggered": (attack_success(good, mark), len(good)),
        "exact_match": (exact_match(good, held_out), len(good)),
    }
    told: dict[str, Any] = {}
    for key, (share, asked) in shares.items():
        told |= {key: share, f"{key}_interval": wilson(round(share * asked), asked)}
    f1 = token_f1(good, held_out)
    told |= {"token_f1": float(f1.mean()), "token_f1_interval": bootstrap_interval(np.mean, f1, seed=seed)}
    return {**told, "asked_triggered": len(bad), "asked_clean": len(good)}


SHOWN = (
    "data",
    "attack",
    "seed",
    "rows",
    "kept",
    "poison_left",
    "keyword",
    "whole_target",
    "untriggered",
    "exact_match",
    "token_f1",
)
PAPER = (
    "LoRA of rank 4 on Llama-2-7B: attack success 50 to 99 % undefended, 0.00 % after filtering, in all 16 settings, "
    "accuracy kept."
)
WHY = (
    f"A model of 135 M, {TRAIN} rows a set, questions under a short prompt, contexts cut to some {AROUND} characters "
    f"around the answer; attack success on {TRIGGERED} unseen questions with the trigger (the keyword; the whole "
    f"target), accuracy on {CLEAN} without (exact match; F1 of words). *untuned*: the model as it is. *auto*: tuned on "
    "what the policy keeps; of *paper* it is only counted."
)
STUDIES = (
    Study(
        "claim",
        "The whole claim: filter, tune (LoRA), ask",
        partial(claim, recipe=LORA, names=PUBLISHED),
        SHOWN,
        PAPER,
        WHY,
    ),
    Study(
        "claim_full",
        "The same with all weights tuned, BadNets alone",
        partial(claim, recipe=FULL, names=PUBLISHED[:1]),
        SHOWN,
        "Not in the paper.",
        WHY,
    ),
)
