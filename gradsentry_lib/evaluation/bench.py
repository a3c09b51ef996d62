"""Filters side by side on a folder of labelled sets: ours, the peers, and any command that reads rows and writes
verdicts.

A set is a file of rows with a label column, which no filter sees. A command is a filter too: `{rows}` in it becomes a
file of rows without labels (JSON lines), `{verdicts}` the file that it has to write, a JSON object a line for each row
in order: `{"flagged": true, "score": 0.7}`, the score left out where it has none.

What a filter said of a set is kept at once: a run that is stopped is begun again where it stopped.

Figures and costs are kept apart: the same sets, filters and seed give the same figures, to the last digit; seconds and
memory are the machine's.
"""

import json
import math
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry_lib import __version__
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.errors import GradSentryError, UnusableFile, UnusableInput, UnusableOption
from gradsentry_lib.evaluation.data import read_rows, split_labels, take, to_samples
from gradsentry_lib.evaluation.filtered import Filtered
from gradsentry_lib.evaluation.harness import FILTERS, metered
from gradsentry_lib.evaluation.kept import Kept
from gradsentry_lib.evaluation.measures import auc_of, bootstrap_interval, f1_of, none_if_nan
from gradsentry_lib.evaluation.peers import FORMER
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.files import sha256_file, sha256_json
from gradsentry_lib.power.certificate import wilson
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.model import ScoringModel

KINDS = (".jsonl", ".parquet", ".csv")
DRAWS = 500  # bootstrap


@dataclass(frozen=True)
class Labelled:
    """One set: N rows without labels, labels (N,) bool."""

    name: str
    rows: list[dict[str, Any]]
    labels: np.ndarray

    @property
    def digest(self) -> str:
        return sha256_json([self.rows, self.labels.tolist()])

    def part(self, limit: int, seed: int) -> "Labelled":
        """At most `limit` of the rows, drawn by `seed`, poisoned and honest ones in their share, in their order."""
        if limit >= len(self.rows):
            return self
        bad, good = np.flatnonzero(self.labels).tolist(), np.flatnonzero(~self.labels).tolist()
        few = round(limit * len(bad) / len(self.rows))
        where = sorted([*take(bad, few, seed), *take(good, limit - few, seed)])
        return Labelled(self.name, [self.rows[i] for i in where], self.labels[where])


@dataclass(frozen=True)
class Command:
    """A filter that is a program of its own."""

    name: str
    text: str

    def __call__(self, rows: Sequence[Row]) -> tuple[Filtered, dict[str, float]]:
        """Its verdicts, and what it took. Raises UnusableInput where it fails or answers otherwise than asked."""
        with tempfile.TemporaryDirectory() as folder:
            given, written = Path(folder) / "rows.jsonl", Path(folder) / "verdicts.jsonl"
            given.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            words = [
                word.replace("{rows}", str(given)).replace("{verdicts}", str(written))
                for word in shlex.split(self.text)
            ]
            spent = _run(self.name, words)
            return _verdicts(self.name, written, len(rows)), spent


def _run(name: str, words: Sequence[str]) -> dict[str, float]:
    start = time.perf_counter()
    try:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        raise UnusableOption(f"the filter {name!r} can't be started: {error}") from None
    assert process.stderr is not None
    said = process.stderr.read().decode(errors="replace").strip().splitlines()
    _, status, used = os.wait4(process.pid, 0)  # its own memory, which no sum over children tells
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise UnusableInput(f"the filter {name!r} ended with {process.returncode}: {(said or ['no word'])[-1][:200]}")
    return {"seconds": round(time.perf_counter() - start, 3), "peak_mb": round(used.ru_maxrss / 1024, 1)}


def _verdicts(name: str, path: Path, count: int) -> Filtered:
    if not path.exists():
        raise UnusableInput(f"the filter {name!r} wrote no verdicts: it has to write the file that {{verdicts}} names")
    lines = read_rows(path)
    if len(lines) != count:
        raise UnusableInput(f"the filter {name!r} wrote {len(lines)} verdicts on {count} rows")
    flags = [line.get("flagged") for line in lines]
    scores = [line.get("score") for line in lines]
    if not all(isinstance(flag, bool) for flag in flags):
        raise UnusableInput(f"the filter {name!r} has to say true or false as `flagged` on every line")
    told = all(isinstance(score, int | float) and not isinstance(score, bool) for score in scores)
    return Filtered(np.array(scores if told else [math.nan] * count, np.float64), np.array(flags, bool))


def read_sets(folder: Path, column: str) -> list[Labelled]:
    """Every labelled file of a folder, by name. Raises BadInput for one that has no labels."""
    paths = sorted(path for path in folder.glob("*") if path.suffix in KINDS)
    if not paths:
        raise UnusableFile(f"{folder} holds no {', '.join(KINDS)} file")
    return [Labelled(path.stem, *split_labels(read_rows(path), column)) for path in paths]


def filters_of(told: Sequence[str]) -> dict[str, str | Command]:
    """Filters as a user names them: one of ours or of the peers', or NAME=COMMAND."""
    found: dict[str, str | Command] = {}
    for one in told:
        name, sign, command = one.partition("=")
        if sign and "{rows}" in command and "{verdicts}" in command:
            found[name] = Command(name, command)
        elif sign:
            raise UnusableOption(f"{one!r}: a command has to name {{rows}} and {{verdicts}}")
        elif (known := FORMER.get(name, name)) in FILTERS:
            found[known] = known
        else:
            raise UnusableOption(f"There is no filter {name!r}. Known: {', '.join(FILTERS)}; or NAME=COMMAND.")
    if not found:
        raise UnusableOption("Name at least one filter.")
    return found


def bench(
    sets: Sequence[Labelled],
    filters: Mapping[str, str | Command],
    load: Callable[[], ScoringModel],
    seed: int = 0,
    kept: Kept | None = None,
    on_start: Callable[[str], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """A line for each set and filter: figures, and under `cost` what it took; `failed` where the filter could not.
    `kept`: where lines are, and are found, but for those that failed."""
    for one in sets:
        samples = to_samples(one.rows)
        told = one.digest
        for name, which in filters.items():
            line = partial(_line, one, samples, name, which, load, seed, on_start)
            try:
                yield line() if kept is None else kept.once([one.name, told, name, seed, *_decides(which, load)], line)
            except GradSentryError as error:
                yield {"set": one.name, "filter": name, "failed": str(error)}


def _line(
    one: Labelled,
    samples: Sequence[Sample],
    name: str,
    which: str | Command,
    load: Callable[[], ScoringModel],
    seed: int,
    on_start: Callable[[str], None] | None,
) -> dict[str, Any]:
    if on_start is not None:
        on_start(f"{one.name}: {name}")
    found, spent = which(one.rows) if isinstance(which, Command) else _ours(which, samples, load(), seed)
    return {"set": one.name, "filter": name, **figures(one.labels, found, seed), "cost": spent}


def _decides(which: str | Command, load: Callable[[], ScoringModel]) -> list[Any]:
    """What a filter's verdicts hang on, rows and seed aside: a program's files, or the model and the rules here."""
    if isinstance(which, Command):
        files = [path for word in shlex.split(which.text) if (path := Path(word)).is_file()]
        return [which.text, *map(sha256_file, files)]
    model = load().identity
    return [which, model.fingerprint, model.dtype, model.device, RULES, __version__]


def _ours(name: str, samples: Sequence[Sample], model: ScoringModel, seed: int) -> tuple[Filtered, dict[str, float]]:
    with metered() as spent:
        found = FILTERS[name](samples, model, seed, None)
    return found, spent


def figures(labels: np.ndarray, found: Filtered, seed: int) -> dict[str, Any]:
    """Counts, and the figures that follow from them. Intervals: Wilson's of recall and false positive rate, bootstrap
    of F1 and AUC. None where a figure is undefined."""
    flags, bad, clean = found.flags, int(labels.sum()), int((~labels).sum())
    hits, false = int((flags & labels).sum()), int((flags & ~labels).sum())
    scored = bool(np.isfinite(found.scores).any())
    f1 = bootstrap_interval(f1_of, labels, flags, seed=seed, draws=DRAWS)
    auc = bootstrap_interval(auc_of, labels, found.scores, seed=seed, draws=DRAWS) if scored else (math.nan, math.nan)
    told = {
        "rows": len(labels),
        "poisoned": bad,
        "found": hits,
        "false": false,
        "recall": hits / bad if bad else math.nan,
        "recall_interval": wilson(hits, bad) if bad else None,
        "fpr": false / clean if clean else math.nan,
        "fpr_interval": wilson(false, clean) if clean else None,
        "f1": f1_of(labels, flags),
        "f1_interval": None if math.isnan(f1[0]) else f1,
        "auc": auc_of(labels, found.scores) if scored else math.nan,
        "auc_interval": None if math.isnan(auc[0]) else auc,
    }
    return {name: none_if_nan(value) for name, value in told.items()}


def overall(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each filter: mean recall and F1 over poisoned sets, rows pooled for recall's and the false positives'
    interval, honest sets in which anything is flagged. Sets count alike, whatever their rows."""
    told = []
    for name in dict.fromkeys(line["filter"] for line in lines):
        mine = [line for line in lines if line["filter"] == name and "failed" not in line]
        bad, honest = [line for line in mine if line["poisoned"]], [line for line in mine if not line["poisoned"]]
        hits, poisoned = sum(line["found"] for line in bad), sum(line["poisoned"] for line in bad)
        false, clean = sum(line["false"] for line in mine), sum(line["rows"] - line["poisoned"] for line in mine)
        touched = sum(line["false"] > 0 for line in honest)
        told.append(
            {
                "filter": name,
                "poisoned sets": len(bad),
                "recall": _mean(line["recall"] for line in bad),
                "recall_interval": wilson(hits, poisoned) if poisoned else None,
                "F1": _mean(line["f1"] for line in bad),
                "AUC": _mean(line["auc"] for line in bad),
                "fpr": false / clean if clean else None,
                "fpr_interval": wilson(false, clean) if clean else None,
                "honest sets": len(honest),
                "with a row flagged": touched,
                "failed": sum(line["filter"] == name and "failed" in line for line in lines),
            }
        )
    return told


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def markdown(lines: Sequence[Mapping[str, Any]], costs: bool = True) -> str:
    """The tables as text: over all sets, per set, and what it took (`costs`), which alone differs from run to run."""
    whole = [{_title(key): value for key, value in line.items()} for line in overall(lines)]
    shown = ("set", "filter", "rows", "poisoned", "found", "false", "recall", "recall_interval", "fpr", "fpr_interval")
    each = [
        {_title(key): line.get(key) for key in (*shown, "f1", "f1_interval", "auc", "auc_interval")} for line in lines
    ]
    parts = ["## Over all sets", _table(whole), "## Per set", _table(each)]
    failed = [f"- {line['set']}, {line['filter']}: {line['failed']}" for line in lines if "failed" in line]
    parts += ["## Failed", "\n".join(failed)] if failed else []
    if costs:
        took = [{"set": x["set"], "filter": x["filter"], **x["cost"]} for x in lines if "cost" in x]
        parts += ["## Cost, on this machine", _table(took)]
    return "\n\n".join(parts) + "\n"


def _title(key: str) -> str:
    return key.replace("_interval", ", 95 %").replace("fpr", "false positives")


def _table(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return "nothing"
    columns = list(lines[0])
    rows = [columns, ["---"] * len(columns), *([_cell(line.get(column)) for column in columns] for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return f"{value[0]:.2f}-{value[1]:.2f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", "\\|")
