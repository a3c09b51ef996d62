"""Attackers who know the tests: what each way round them costs, in rows and in what is left of the backdoor."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench import Bench, Study
from benchmarks.studies.attacker import ASKED, FALLEN
from benchmarks.studies.tuning import MAX_NEW, RECIPES, short_rows, tuned_on
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.evaluation.attacks import ATTACKS, poison, triggered
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.tuning import answers, attack_success
from gradsentry_lib.files import sha256_json
from gradsentry_lib.scoring.config import ScoringConfig

NAMES = ("badnets", *(name for name in ATTACKS if name.startswith("knowing-")))
POISONED = 0.08
NEEDED = 24  # rows that an attacker wants in the end, where they are spread over batches
SPREAD = (12, 6, 4, 3, 2)  # of them in one batch
TUNED_FROM = 200  # rows; in fewer no backdoor takes


def knowing(bench: Bench) -> list[dict[str, Any]]:
    bench = replace(bench, config=ScoringConfig())
    rows = short_rows(bench)
    clean, held_out = rows[: min(bench.rows, 400)], rows[400 : 400 + ASKED]
    lines = []
    for name in NAMES[: 2 if bench.quick else None]:
        lines.append(_measured(bench, clean, held_out, name, ATTACKS[name].source.split(": ")[-1], POISONED))
    for each in SPREAD[-1:] if bench.quick else SPREAD:
        how = f"{each} rows in each of {NEEDED // each} batches"
        line = _measured(bench, clean, held_out, "badnets", how, each / len(clean))
        lines.append({**line, "attack": "spread"})
    return lines


def _measured(
    bench: Bench, clean: Sequence[Any], held_out: Sequence[Any], name: str, how: str, share: float
) -> dict[str, Any]:
    """Means over the seeds. `recall`: share of poisoned rows flagged; `attacks_found`: of attacks with half of them.
    Where less than nine tenths are found, what is left of the backdoor, of the first seed."""
    recalls, false, poisoned = [], [], 0
    left: dict[str, float | None] = {}
    for seed in bench.seeds:
        made = poison(clean, name, share, seed)
        key = ["knowing judged", sha256_json(made.rows), RULES]
        judged = bench.remembered(key, partial(_flags, bench, made.rows))
        flagged = np.array(_flags(bench, made.rows) if judged is None else judged, bool)
        recalls.append(float(flagged[made.labels].mean()))
        false.append(float(flagged[~made.labels].mean()))
        poisoned = int(made.labels.sum())
        if seed == bench.seeds[0] and recalls[0] < FALLEN and len(clean) >= TUNED_FROM and ATTACKS[name].mark:
            kept = [row for row, bad in zip(made.rows, flagged, strict=True) if not bad]
            left = {
                "undefended": _success(bench, made.rows, name, held_out),
                "attack_success": _success(bench, kept, name, held_out),
            }
    return {
        "attack": name,
        "how": how,
        "rows": len(clean),
        "poisoned": poisoned,
        "recall": float(np.mean(recalls)),
        "attacks_found": float(np.mean([one >= 0.5 for one in recalls])),
        "false_positives": float(np.mean(false)),
        **left,
    }


def _flags(bench: Bench, rows: Sequence[Any]) -> list[bool]:
    return bench.flagged(rows, what="knowing").tolist()


def _success(bench: Bench, rows: Sequence[Any], name: str, held_out: Sequence[Any]) -> float | None:
    """Attack success of a model tuned on these rows; the same rows make the same model. None where it is too late."""

    def tell() -> list[float]:
        tuned = tuned_on(bench, to_samples(rows), RECIPES["lora"], bench.seeds[0], name)
        said = answers(tuned, bench.model.tokenizer, triggered(held_out, name, 0), 2 * MAX_NEW)
        return [attack_success(said, ATTACKS[name].mark)]

    found = bench.remembered(["knowing", name, sha256_json(rows)], tell)
    return None if found is None else found[0]


STUDIES = (
    Study(
        "knowing",
        "Attackers who know the tests",
        knowing,
        (
            "attack",
            "how",
            "rows",
            "poisoned",
            "recall",
            "attacks_found",
            "false_positives",
            "undefended",
            "attack_success",
        ),
        "Not in the paper.",
        "Not to be compared. What these rows say is what `auto` does not see: a low recall is a way round it, and the "
        f"rows beside it are its price. With {TUNED_FROM} rows and more, models are tuned on what is kept where less "
        "than nine tenths were found (blank: not tuned); where poison is spread, on one of the batches alone.",
    ),
)
