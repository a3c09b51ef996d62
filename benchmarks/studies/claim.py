"""The paper's whole claim: filter, tune, and ask: four attacks on four sets, does the backdoor die, is accuracy kept?

What a small model can learn on a processor: questions under a short prompt, a context cut to what stands around the
answer. A model is tuned once for rows that are the same: filters that keep the same ones share it.
"""

import copy
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench, Study, honest_rows
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
AT_ONCE = 64  # questions
FROM = 1000  # rows of a set that these are drawn from
AROUND = 160  # characters of the context that are kept
POLICIES = ("auto", "paper")
LORA = Recipe(method="lora", epochs=6, rate=5e-3, batch=4)
FULL = Recipe(method="full", epochs=5, rate=2e-4, batch=8)
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


def questions_of(data: Path, name: str) -> list[dict[str, str]]:
    """The honest rows of a set as they are tuned on, in their order."""
    rows = [row for row in map(short, honest_rows(data, name, FROM)) if row is not None]
    random.Random(0).shuffle(rows)
    return rows


@dataclass(frozen=True)
class Cell:
    """An attack on a set, and the rows that a model is tuned on (none: it is asked as it is). `asked`: the questions
    under every attack's trigger whose rows are the same."""

    about: dict[str, Any]
    rows: list[Any]
    asked: dict[str, list[Any]]
    held_out: list[Any]


def claim(bench: Bench, recipe: Recipe, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the policies keep of all sets first, then the tuning, attack by attack; where the time is over, a line says
    what is kept and no more."""
    bench = replace(bench, config=ScoringConfig())
    recipe = replace(recipe, epochs=1) if bench.quick else recipe
    names = names[: 1 if bench.quick else None]
    sets = ([name for name in bench.clean_sets if name != "facts"] or bench.clean_sets)[: 1 if bench.quick else None]
    cells = [cell for name in sets for seed in bench.seeds for cell in _cells(bench, name, recipe.method, names, seed)]
    in_turn = sorted(cells, key=lambda cell: names.index(cell.about["attack"]))
    figures = {id(cell): _measured(bench, cell, recipe) for cell in in_turn if cell.about["rows"] != COUNTED}
    return [{**cell.about, **figures.get(id(cell), {})} for cell in cells]


def _cells(bench: Bench, name: str, method: str, names: Sequence[str], seed: int) -> list[Cell]:
    train, bad, clean = (24, 4, 6) if bench.quick else (TRAIN, TRIGGERED, CLEAN)
    every = questions_of(bench.data, name)
    held_out = every[train : train + clean]
    asked = {attack: triggered(held_out[:bad], attack, seed) for attack in names}
    found: list[tuple[dict[str, Any], list[Any]]] = []
    for attack in names:
        about = {"data": name, "attack": attack, "tuning": method, "seed": seed, "rules": RULES}
        made = poison(every[:train], attack, RATIO, seed)
        flags = bench.remembered(["claim judged", sha256_json(made.rows), RULES], partial(_flags, bench, made))
        found.append(({**about, "rows": UNTUNED}, []))
        for which, flagged in zip((ALL, *POLICIES), [[False] * len(made.rows), *(flags or [])], strict=False):
            keep = ~np.array(flagged, bool)
            left = {"kept": int(keep.sum()), "poison_left": int((keep & made.labels).sum())}
            rows_of = [row for row, k in zip(made.rows, keep, strict=True) if k]
            found.append(({**about, "rows": which, **left}, rows_of))
    return [Cell(about, mine, {x["attack"]: asked[x["attack"]] for x, r in found if r == mine}, held_out)
            for about, mine in found]  # fmt: skip


def _measured(bench: Bench, cell: Cell, recipe: Recipe) -> dict[str, Any]:
    """Figures of the model tuned on a cell's rows; none where it is too late to begin."""
    attack, seed = cell.about["attack"], cell.about["seed"]
    how = [str(recipe), seed] if cell.rows else []
    said = bench.remembered(
        ["claim", sha256_json([cell.rows, cell.asked, cell.held_out]), how], partial(_said, bench, cell, recipe)
    )
    if said is None:
        return {}
    told = dict(said)
    return _figures(told[attack], told[""], attack, cell.held_out, seed)


def _flags(bench: Bench, made: Poisoned) -> list[list[bool]]:
    """(policies, N) what each policy flags."""
    return [bench.flagged(made.rows, policy, "claim").tolist() for policy in POLICIES]


def _said(bench: Bench, cell: Cell, recipe: Recipe) -> list[Any]:
    """(attack, answers under its trigger), and ("", answers without one)."""
    if cell.rows:
        what = f"{cell.about['data']}, {cell.about['attack']}"
        tuned = tuned_on(bench, to_samples(cell.rows), recipe, cell.about["seed"], what)
    else:
        tuned = copy.deepcopy(bench.model.model).to(torch.bfloat16)  # as `tuned_on` gives them back
    every = {**cell.asked, "": cell.held_out}
    tokenizer = bench.model.tokenizer
    return [[name, answers(tuned, tokenizer, questions, MAX_NEW, AT_ONCE)] for name, questions in every.items()]


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
