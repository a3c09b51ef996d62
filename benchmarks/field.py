"""What happens to inputs and models of the kinds that bug reports are about, beside what is right, as one table.

    python -m benchmarks.field FOLDER [--json FILE]          (make field FIELD=FOLDER)

FOLDER has `inputs/`, files and folders to scan; `make_models.py`, which makes small models in a folder; and `CASES.md`,
whose tables say in their columns "input" and "right" what is right for which. Every input is scanned with the model
`tiny`, or with those that its row of CASES.md names; every model scans the first input. Each scan has a store of its
own, unless inputs are to be scanned one after the other (`...-v1`, `...-v2`: the same rows delivered again).

The last line counts which scans did what CASES.md calls right, as far as its words can be compared with a scan's
outcome: exit codes, counts of rows. Ends with 1 where any did otherwise, or ended in a traceback.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.pipeline.run import ModelChoice, scan
from gradsentry_lib.store.paths import Store

SERIES = re.compile(r"(.+)-v\d+$")
COUNT = re.compile(r"(\d+) (read|clean|flagged|unscored|rejected)\b")
READ = re.compile(r"\b(?:read|scored|supervised|context|part of the prompt|looked at|learns)\b")
NUMBER = re.compile(r"\b\d{2}\b")


@dataclass(frozen=True)
class Case:
    """One scan: what was scanned with which model, what happened, and what CASES.md calls right."""

    source: str
    model: str
    happened: str
    right: str


def cases(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    """The rows of CASES.md that have a "right": names or numbers in the first column, models there, what is right."""
    for line in (folder / "CASES.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and cells[0] != "input" and not set(line) <= set("|- "):
            head, _, models = cells[0].partition("model")
            yield head, re.findall(r"[\w.]+", models.removeprefix("s")), cells[2]


def outcome(source: Path, model: Path, store: Store) -> str:
    """What a scan does, in a line."""
    try:
        result = scan(str(source), store, model=ModelChoice(str(model), dtype="float32", device="cpu"))
    except GradSentryError as error:
        return f"exit {error.exit_code}: {' '.join(str(error).split())[:300]}"
    except Exception as error:  # what this command is there to find
        return f"TRACEBACK {type(error).__name__}: {error}"[:300]
    decided = result.decided
    counts = f"{result.batch.read} read = {decided.clean} clean + {decided.flagged} flagged + "
    counts += f"{decided.unscored} unscored + {decided.rejected} rejected"
    layout = f"; {result.batch.layout}" if result.batch.layout else ""
    if result.published:
        return f"exit 0: {counts}{layout}"
    failed = "; ".join(check.message for check in decided.gate_checks if not check.passed and check.severity == "error")
    return f"exit 3: {counts}{layout}; gate: {failed}"[:400]


def is_right(happened: str, right: str) -> bool | None:
    """Whether a scan did what is called right; None where nothing is, or in words that say nothing of its outcome.

    What CASES.md says of turns and spans is not seen here: the tests of layouts and templates hold it.
    """
    if happened.startswith("TRACEBACK"):
        return False
    counts = {name: int(count) for count, name in COUNT.findall(happened)}
    refused, words = happened.startswith("exit 2"), right.lower()
    rejected = counts.get("rejected", 0)
    if "nothing flagged" in words:
        return not refused and counts.get("flagged") == 0
    if "exit 2" in words:
        return refused or (happened.startswith("exit 0") and bool(re.search(r"\bloaded|\bmerged", words)))
    if words.startswith("rejected"):
        return refused or rejected > 0
    if "gate" in words:
        return not (happened.startswith("exit 0") and rejected > 0.05 * counts.get("read", 0))
    if "no crash" in words or words == "named":
        return True
    if READ.search(words):
        return not refused and counts.get("read", 0) > 2 * rejected
    return None


def run(folder: Path) -> Iterator[Case]:
    told = list(cases(folder))
    inputs = sorted(path for path in (folder / "inputs").iterdir() if not path.name.startswith("."))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        models = place / "models"
        subprocess.run([sys.executable, str(folder / "make_models.py"), str(models)], check=True, capture_output=True)
        for number, source in enumerate(inputs):
            own = source.name[:2]
            rows = [row for row in told if own in NUMBER.findall(row[0])]
            right = "; ".join(row[2] for row in rows)
            wanted = [m for row in rows for m in row[1] if (models / m).exists()] or ["tiny"]
            series = SERIES.match(source.name.partition(".")[0])
            for model in dict.fromkeys(wanted):
                home = place / "stores" / (series[1] if series else f"{number}-{model}")
                yield Case(source.name, model, outcome(source, models / model, Store(home)), right)
        for model_path in sorted(models.iterdir()):
            right = "; ".join(row[2] for row in told if model_path.name in row[1] and not NUMBER.search(row[0]))
            home = place / "stores" / f"model-{model_path.name}"
            yield Case(inputs[0].name, model_path.name, outcome(inputs[0], model_path, Store(home)), right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = []
    print("| input | model | what happened | what is right |\n|---|---|---|---|")
    for case in run(asked.folder):
        found.append(case)
        cells = (case.source, case.model, case.happened, case.right)
        print("| " + " | ".join(ascii(cell)[1:-1].replace("|", "\\|") for cell in cells) + " |", flush=True)
    print(f"\n{summary(found)}")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(case) for case in found], indent=2))
    sys.exit(any(is_right(case.happened, case.right) is False for case in found))


def summary(found: list[Case]) -> str:
    """The last line: how many scans were right and wrong, and which were wrong."""
    told = [is_right(case.happened, case.right) for case in found]
    wrong = [case for case, right in zip(found, told, strict=True) if right is False]
    named = ", ".join(f"{ascii(case.source)[1:-1]} with {case.model}" for case in wrong)
    broken = sum(case.happened.startswith("TRACEBACK") for case in found)
    return (
        f"{len(found)} scans: {told.count(True)} right, {len(wrong)} wrong{f' ({named})' if wrong else ''}, "
        f"{told.count(None)} of which nothing is said; {broken} tracebacks"
    )


if __name__ == "__main__":
    main()
