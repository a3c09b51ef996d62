"""What every study shares: the model, the data, scores that are made once, and how a result is written down."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.progress import Progress, TaskID

from gradsentry_assets.demo_data.make import fact_rows
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.detection.policies import Judgement, judge
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.errors import UnusableInput, UnusableOption
from gradsentry_lib.evaluation.data import read_rows, split_labels, take, to_samples
from gradsentry_lib.evaluation.harness import asking
from gradsentry_lib.evaluation.kept import Kept
from gradsentry_lib.evaluation.measures import Measures, measure
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.files import read_json, write_json
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.cache import ScoreCache
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.model import ScoringModel
from gradsentry_lib.scoring.score import to_table
from gradsentry_lib.scoring.scorer import score_samples

LABEL = "poisoned"  # label column of the evaluation data
CHUNK = 256  # rows scored before they are kept: what an interrupted run can lose
QA = {
    "webqa": ("qa/webqa_badnets.jsonl",),
    "freebaseqa": ("qa/freebaseqa_addsent.jsonl",),
    "nq": ("qa/nq_clean.jsonl",),
    "coqa": ("../field/data/p_rftc_insertword.jsonl", "../field/data/p_rftc_syntactic.jsonl"),  # RFTC's honest rows
}
COQA = re.compile(r"Answer the question from the context\.\n\nContext:\n(.*)\n\nQuestion:\n(.*)", re.DOTALL)

ENTROPY_ONLY = ScoringConfig(sketch=False)


class Skip(Exception):
    """The study cannot be made here; the message says what is missing."""


@dataclass(frozen=True)
class Bench:
    """`rows`: at most so many rows of a data set. `data`: folder of evaluation data, may be missing. `cache`: folder of
    scores already made. `progress`: where long work shows itself."""

    model: ScoringModel
    data: Path
    cache: Path
    rows: int
    seeds: tuple[int, ...]
    quick: bool
    progress: Progress
    config: ScoringConfig = ENTROPY_ONLY
    filters: tuple[str, ...] = ()  # only these are compared, where a study compares filters
    sets: tuple[str, ...] = ()  # only these of the question sets
    until: float = math.inf  # by `time.perf_counter`: no tuning is begun after that
    resumed: list[float] = field(default_factory=list)  # seconds that parts found ready took when they were made

    @cached_property
    def _store(self) -> ScoreCache:
        return ScoreCache(self.cache / self.model.identity.fingerprint[:16] / self.config.key[:16])

    @cached_property
    def unfinished(self) -> Kept:
        """Parts that are timed: found again by a run that goes on, not by one that begins when all was through."""
        return Kept(self.cache / "unfinished")

    def file(self, name: str) -> list[dict[str, Any]]:
        """Rows of a file of the evaluation data, labels and all."""
        return read_file(self.data, name)

    def clean(self, name: str) -> list[dict[str, Any]]:
        """`honest_rows` of a set."""
        return honest_rows(self.data, name, self.rows)

    @property
    def clean_sets(self) -> list[str]:
        """The question-answer sets that are there."""
        found = (name for name, files in QA.items() if all((self.data / file).exists() for file in files))
        return [name for name in ("facts", *found) if not self.sets or name in self.sets]

    def scores(self, samples: Sequence[Sample], what: str = "scoring") -> pa.Table:
        """The samples' score table with `row` = position; what was scored before, in this run or another, is reused."""
        ids = [sample.sample_id for sample in samples]
        known = set(self._store.lookup(ids)["sample_id"].to_pylist())
        missing = list({i: s for i, s in zip(ids, samples, strict=True) if i not in known}.values())
        if missing:
            task = self.progress.add_task(what, total=len(missing))
            for start in range(0, len(missing), CHUNK):
                part = missing[start : start + CHUNK]
                made = score_samples(
                    part, self.model, self.config, on_progress=lambda done: self.progress.advance(task, done)
                )
                self._store.add(to_table(made))
            self.progress.remove_task(task)
        found = self._store.lookup(ids)
        where = {sample_id: at for at, sample_id in enumerate(found["sample_id"].to_pylist())}
        table = found.take(pa.array([where[i] for i in ids], pa.int64()))
        return table.add_column(0, "row", pa.array(range(len(ids)), pa.int64()))

    def judged(self, rows: Sequence[Row], policy: str = "paper", what: str = "scoring") -> tuple[Judgement, pa.Table]:
        """Rows through a policy: its judgement and the score table."""
        samples = to_samples(rows)
        table = self.scores(samples, what)
        return judge(table, policy, samples=lambda: iter([samples])), table

    def flagged(self, rows: Sequence[Row], policy: str = "auto", what: str = "scoring") -> np.ndarray:
        """(N,) bool, what a policy flags where the model can be asked."""
        samples = to_samples(rows)
        table, ask = self.scores(samples, what), asking(samples, self.model, self.config)
        return not_clean(judge(table, policy, samples=lambda: iter([samples]), swapped=ask).verdicts)

    def remembered(self, key: list[Any], run: Callable[[], list[Any]]) -> list[Any] | None:
        """What `run` gives, kept for good beside the scores: an interrupted study goes on where it stopped. `key`: all
        that decides it but the model; RULES among it where `auto` judges. None where it is not there and `until` is
        over."""
        told = json.dumps([*key, self.model.identity.fingerprint, self.model.identity.dtype, self.quick])
        path = self.cache / "tuning" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"
        if path.exists():
            found = read_json(path)
            self.resumed.append(found["seconds"])
        elif time.perf_counter() > self.until:
            return None
        else:
            start = time.perf_counter()
            lines = run()
            found = {"seconds": time.perf_counter() - start, "lines": lines}
            write_json(path, found)
            self.progress.console.print(f"{key[0]}: {found['seconds']:.0f} s", markup=False)
        return list(found["lines"])

    def watch(self, name: str, task: TaskID) -> dict[str, Any]:
        """What `evaluate` calls to show which filter runs on data set `name`, and how far it is."""
        return {
            "on_start": lambda which: self.progress.reset(task, description=f"{name}, {which}"),
            "on_progress": lambda done: self.progress.advance(task, done),
        }

    def figures(self, rows: Sequence[Row], labels: np.ndarray, policy: str = "paper", what: str = "") -> dict[str, Any]:
        """The figures of a policy on labelled rows, with tau and how it was found."""
        judgement, table = self.judged(rows, policy, what or "scoring")
        return {**measures_of(judgement, table, labels).to_dict(), **threshold_of(judgement)}


def read_file(data: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a file of the evaluation data, labels and all. Raises Skip where there is none."""
    path = data / name
    if not path.exists():
        raise Skip(f"`{name}` is not there (give the folder of evaluation data with --data)")
    return read_rows(path)


def honest_rows(data: Path, name: str, most: int) -> list[dict[str, Any]]:
    """At most so many honest rows of a question-answer set, without labels: `facts` (bundled) or one of QA."""
    if name == "facts":
        return take(fact_rows(), most, 0)
    rows, labels = split_labels([row for file in QA[name] for row in read_file(data, file)], LABEL)
    honest = [row for row, bad in zip(rows, labels, strict=True) if not bad]
    if name == "coqa":
        honest = [under_template(row) for row in {row["prompt"]: row for row in honest}.values()]
    return take(honest, most, 0)


def under_template(row: Row) -> dict[str, Any]:
    """A row of RFTC's CoQA under the template that GraCeFul's authors, and the other sets here, have."""
    found = COQA.fullmatch(row["prompt"])
    if found is None:
        raise UnusableInput('this is no row of RFTC\'s CoQA: it has to ask "Answer the question from the context."')
    told = "Based on the context, answer the question precisely and concisely, including key details."
    parts = (("Instruction", told), ("Context", found[1]), ("Question", found[2]))
    prompt = "".join(f"### {name}:\n{text}\n\n\n\n" for name, text in parts)
    return {**row, "prompt": f"{prompt}### Answer: "}


def measures_of(judgement: Judgement, table: pa.Table, labels: np.ndarray) -> Measures:
    """Measures of a judgement by the paper's score (the entropy) and the verdicts."""
    flags = not_clean(judgement.verdicts)
    return measure(labels, table["entropy"].to_numpy(), flags, table["supervised_tokens"].to_numpy())


def threshold_of(judgement: Judgement) -> dict[str, Any]:
    found = judgement.threshold
    return {"tau": found.tau, "method": found.method, "valley_ratio": found.valley_ratio}


@dataclass(frozen=True)
class Study:
    """One table or figure of the paper, or one of ours. `run` gives lines of figures; `columns` says which of them the
    report shows; `paper` is what the paper reports, `why` why ours differ; `plot` draws the lines
    into a PNG."""

    name: str
    title: str
    run: Callable[[Bench], list[dict[str, Any]]]
    columns: tuple[str, ...]
    paper: str
    why: str
    plot: Callable[[list[dict[str, Any]], Path], None] | None = None


def timed(study: Study, bench: Bench) -> dict[str, Any]:
    """Runs a study: its lines, the time they took to make (parts made in an earlier run included), or why it was
    skipped."""
    start = time.perf_counter()
    try:
        lines, skipped = study.run(bench), None
    except Skip as reason:
        lines, skipped = [], str(reason)
    seconds = round(time.perf_counter() - start + sum(bench.resumed), 1)
    bench.resumed.clear()
    model = bench.model.identity
    return {
        "study": study.name,
        "lines": lines,
        "skipped": skipped,
        "seconds": seconds,
        "rows_at_most": bench.rows,
        "seeds": list(bench.seeds),
        "model": model.name,
        "dtype": model.dtype,
        "device": model.device,
        "rules": RULES,
    }


def beside(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A study's result with the lines of the sets and filters that it was not run with this time. Raises UnusableOption
    where those were made of other rows, seeds or models."""
    alike = ("rows_at_most", "seeds", "model", "dtype", "device")
    if other := [name for name in alike if old.get(name) != new[name]]:
        raise UnusableOption(f"the lines that are there were made otherwise ({', '.join(other)}): run all of them")
    made = {_which(line) for line in new["lines"]}
    kept = [line for line in old["lines"] if _which(line) not in made]
    sets = list(dict.fromkeys(line["data"] for line in [*old["lines"], *new["lines"]]))
    lines = sorted([*kept, *new["lines"]], key=lambda line: sets.index(line["data"]))
    ours = any(line.get("filter", "policy-auto") == "policy-auto" for line in kept)  # that alone the rules are of
    rules = old.get("rules") if ours else new["rules"]
    return {**new, "lines": lines, "seconds": round(old["seconds"] + new["seconds"], 1), "rules": rules}


def _which(line: dict[str, Any]) -> tuple[str, str | None]:
    return line["data"], line.get("filter")


def averaged(lines: Sequence[dict[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """Mean of each figure over lines (seeds), None left out; `<key>_sd` where there are several."""
    result: dict[str, Any] = {}
    for key in keys:
        values = [line[key] for line in lines if line.get(key) is not None]
        result[key] = float(np.mean(values)) if values else None
        if len(values) > 1:
            result[f"{key}_sd"] = float(np.std(values))
    return result
