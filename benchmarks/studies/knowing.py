"""Attackers who know the tests: what each way round them costs, in rows and in what is left of the backdoor."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench import Bench, Study
from benchmarks.studies.attacker import ASKED, FALLEN
from benchmarks.studies.tuning import MAX_NEW, RECIPES, remembered, short_rows, tuned_on
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.evaluation.attacks import ATTACKS, poison, triggered
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.harness import asking
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
        lines.append(
            {"attack": name, "how": ATTACKS[name].source.split(": ")[-1], **_measured(bench, clean, name, POISONED)}
        )
        if lines[-1]["recall"] < FALLEN and len(clean) >= TUNED_FROM and ATTACKS[name].mark and not bench.quick:
            made = poison(clean, name, POISONED, bench.seeds[0]).rows
            kept = _judged(bench, made)[1]
            tell = partial(_left, bench, made, kept, name, held_out)
            lines[-1]["undefended"], lines[-1]["attack_success"] = remembered(
                bench, ["knowing", name, sha256_json([made, kept])], tell
            )
    for each in SPREAD[-1:] if bench.quick else SPREAD:
        how = f"{each} rows in each of {NEEDED // each} batches"
        lines.append({"attack": "spread", "how": how, **_measured(bench, clean, "badnets", each / len(clean))})
    return lines


def _measured(bench: Bench, clean: Sequence[Any], name: str, share: float) -> dict[str, Any]:
    """Means over the seeds. `recall`: share of poisoned rows flagged; `attacks_found`: of attacks with half of them."""
    recalls, false, poisoned = [], [], 0
    for seed in bench.seeds:
        made = poison(clean, name, share, seed)
        flagged, _ = _judged(bench, made.rows)
        recalls.append(float(flagged[made.labels].mean()))
        false.append(float(flagged[~made.labels].mean()))
        poisoned = int(made.labels.sum())
    return {
        "rows": len(clean),
        "poisoned": poisoned,
        "recall": float(np.mean(recalls)),
        "attacks_found": float(np.mean([one >= 0.5 for one in recalls])),
        "false_positives": float(np.mean(false)),
    }


def _judged(bench: Bench, rows: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
    """(N,) bool, what `auto` flags; the rows that it keeps."""
    samples = to_samples(rows)
    table = bench.scores(samples, "knowing")
    ask = asking(samples, bench.model, bench.config)
    flagged = not_clean(judge(table, "auto", samples=lambda: iter([samples]), swapped=ask).verdicts)
    return flagged, [row for row, bad in zip(rows, flagged, strict=True) if not bad]


def _left(bench: Bench, made: Sequence[Any], kept: Sequence[Any], name: str, held_out: Sequence[Any]) -> list[float]:
    """Attack success of a model tuned on all rows, and on those kept."""
    found = []
    for rows in (made, kept):
        tuned = tuned_on(bench, to_samples(rows), RECIPES["lora"], bench.seeds[0], name)
        said = answers(tuned, bench.model.tokenizer, triggered(held_out, name, 0), 2 * MAX_NEW)
        found.append(attack_success(said, ATTACKS[name].mark))
    return found


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
        "than nine tenths were found (blank: not tuned).",
    ),
)
