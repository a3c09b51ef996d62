"""The two pages of docs/evaluation.md, the tables of docs/detection.md and the figures in README.md, all read out of
docs/evaluation/*.json.

    python -m benchmarks.summary          # write them
    python -m benchmarks.summary --check  # say whether they are what follows from the results

`make bench-eval` and `make reference` write them, a test checks them: so none is older than its results.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.claim_page import claim
from benchmarks.detection_tables import tables
from benchmarks.figures import Lines, Results, each, interval, mean, table
from gradsentry_lib.evaluation.bench import markdown
from gradsentry_lib.evaluation.bench_result import lines_of
from gradsentry_lib.evaluation.peers import DIFFERENCES
from gradsentry_lib.files import read_json, write_text

ROOT = Path(__file__).parent.parent
OURS = ("policy-auto", "policy-paper")
THERE = {  # F1 by BadNets in arXiv 2605.26574, Table 2
    "graceful": {"webqa": 0.9392, "freebaseqa": 1.0, "nq": 0.997},
    "after-cube": {"webqa": 0.5231, "freebaseqa": 0.3967, "nq": 0.7077},
}
BEGIN, END = "<!-- figures: {} -->", "<!-- /figures -->"


def results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Lines of every result that is there; of what `gradsentry bench` wrote a line a filter, with its seconds."""
    return {path.stem: _lines(read_json(path)) for path in sorted(folder.glob("*.json"))}


def _lines(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "lines" in told:
        return [{"draws": len(told.get("seeds", ())), **line} for line in told["lines"]]
    rows = {line["set"]: line["rows"] for line in told["figures"] if "failed" not in line}
    seconds = {line["filter"]: 0.0 for line in told["overall"]}
    for line in told["costs"]:
        seconds[line["filter"]] += line["cost"]["seconds"]
    missed: dict[str, list[str]] = {filter_name: [] for filter_name in seconds}
    for line in told["figures"]:
        if line.get("recall") is not None and line["recall"] < 0.5:
            missed[line["filter"]].append(line["set"])
    more = {name: {"rows": sum(rows.values()), "seconds": seconds[name], "missed": missed[name]} for name in seconds}
    return [{**line, **more[line["filter"]]} for line in told["overall"]]


def page(folder: Path) -> str:
    """docs/evaluation.md. `folder`: docs/evaluation."""
    found = results(folder)
    parts = [
        "# Evaluation",
        "What was asked: does the filter find the poison, what does it take away that is honest, does the backdoor "
        "die, what would a scan have found, and how does an attacker get round it? Made by "
        "`python -m benchmarks.summary` from `evaluation/*.json`; all tables, with what the data is confounded with: "
        "[appendix](evaluation/appendix.md).",
    ]
    sections: tuple[tuple[str, str, Callable[[Results], str]], ...] = (
        ("peers", "## Against other filters", _peers),
        ("suite", "## On the public suite", _suite),
        ("table1", "## Does the backdoor die?", _tuned),
        ("claim", "## The paper's whole claim", claim),
        ("power", "## What a scan would have found, and whether that is true", _power),
        ("attacker", "## An attacker who knows the method", _attacker),
        ("knowing", "## Ways round the tests", _knowing),
        ("long_answers", "## What fails", _fails),
    )
    for name, title, make in sections:
        said = make(found) if found.get(name) else f"Not measured yet: there is no `evaluation/{name}.json`."
        parts += [title, said]
    parts += ["## By which rules", _rules(folder)]
    return "\n\n".join(parts) + "\n"


def _peers(found: Results) -> str:
    names = each(line["filter"] for line in found["peers"])
    run_on = [{line["data"] for line in found["peers"] if line["filter"] == name} for name in names]
    in_all = set.intersection(*run_on)  # a mean is of the same sets for each
    lines = [line for line in found["peers"] if line["data"] in in_all]
    sets, rows = each(line["data"] for line in lines), []
    for name in names:
        mine = [line for line in lines if line["filter"] == name]
        rows.append(
            {
                "filter": f"**{name}**" if name in OURS else name,
                "recall": mean(mine, "recall"),
                "F1": mean(mine, "f1"),
                "AUC": mean(mine, "auc"),
                "honest rows kept": mean(mine, "clean_kept"),
                "seconds": mean(mine, "seconds"),
            }
        )
    rows.sort(key=lambda row: -(row["F1"] or 0))
    missing = [name for name in DIFFERENCES if name != "CleanGen" and name not in names]
    said = f"Means over {', '.join(sets)}, one tenth poisoned by BadNets. `ngram` counts repeated words: what is no "
    said += (
        "better has shown nothing on these sets. Seconds are by the clock, of runs beside other work: orders of size. "
        "What is as in the papers and what is not: [differences](evaluation/differences.md)."
    )
    if missing:
        said += f" Not run on them yet: {', '.join(missing)} (`gradsentry bench` runs all)."
    return f"{table(rows)}\n\n{said}"


def _suite(found: Results) -> str:
    """What `gradsentry bench` wrote of the suite."""
    lines, first = found["suite"], found["suite"][0]
    rows = [
        {
            "filter": f"**{line['filter']}**" if line["filter"] in OURS else line["filter"],
            "recall": f"{line['recall']:.2f} ({interval(line['recall_interval'])})",
            "F1": line["F1"],
            "honest rows flagged": f"{line['fpr']:.1%} ({interval(line['fpr_interval'], 100)} %)",
            "honest sets touched": f"{line['with a row flagged']} of {line['honest sets']}",
            "seconds": line["seconds"],
        }
        for line in sorted(lines, key=lambda line: -(line["F1"] or 0))
    ]
    missed = next((line["missed"] for line in lines if line["filter"] == "policy-auto"), [])
    said = f" Mostly missed by `auto`: {', '.join(missed)}." if missed else ""
    return (
        f"`gradsentry bench --suite`: {first['poisoned sets']} poisoned and {first['honest sets']} honest sets, "
        f"{first['rows']:,} rows; half of the honest ones do what honest sets do to look like poison. Recall and F1 "
        "are means over poisoned sets, intervals (95 %) are over rows; seconds are of all sets, beside other work; "
        f"[every set](evaluation/suite.md).{said}\n\n{table(rows)}"
    )


def suite_page(path: Path) -> str:
    """docs/evaluation/suite.md: every set of the suite."""
    told = read_json(path)
    lines = lines_of(told)
    chosen = " ".join(f"--filter {line['filter']}" for line in told["overall"])
    rows = f" --rows {told['rows_at_most']}" if told["rows_at_most"] else ""
    return (
        "# The public suite\n\n"
        f"Made by `gradsentry bench FOLDER --suite --dtype {told['dtype']}{rows} {chosen}` (seed {told['seed']}, model "
        f"{told['model']}, rules {told['rules']}), written by `python -m benchmarks.summary` from `suite.json`. "
        f"Seconds are of a machine with other work on it.\n\n{markdown(lines)}"
    )


def _tuned(found: Results) -> str:
    lines, rows = found["table1"], []
    for defence in each(line["defence"] for line in lines):
        row: dict[str, Any] = {"data": defence}
        for tuning in each(line["tuning"] for line in lines):
            mine = [line for line in lines if (line["tuning"], line["defence"]) == (tuning, defence)]
            row[f"{tuning}: attack success"] = mean(mine, "attack_success")
            row[f"{tuning}: exact match, clean"] = mean(mine, "exact_match")
        rows.append(row)
    return table(rows)


def _power(found: Results) -> str:
    rows = []
    for line in found["power"]:
        rows.append(
            {
                "data": f"{line['data']}, {line['rows']} rows",
                "rows of an attack": line["attack rows"],
                "the certificate says": f"{line['certified']:.0%} ({_range(line, 'certified')})",
                "planted, found": f"{line['found']} of {line['planted']} ({_range(line, 'found')})"
                if line["planted"]
                else "none planted",
                "false alarms": line["alarms"],
                "cost, share of the scan": ("" if line.get("scan_ended", True) else "less than ")
                + f"{line['certificate_seconds'] / max(line['scan_seconds'], 1e-9):.2f}",
            }
        )
    stopped = [line for line in found["power"] if not line.get("scan_ended", True)]
    said = ""
    if stopped:
        seconds = max(line["scan_seconds"] for line in stopped)
        said = f" *Less than*: the scan was stopped after {seconds:,.0f} s; the certificate was made by itself."
    return (
        "Attacks are planted into copies of a batch's rows and searched for in mixtures; then the same kinds are "
        "planted for good, one at a time, and the whole batch is scanned. Cost is processor time; batches under 2,000 "
        f"rows with `--power on`: 40 mixtures for any size.{said}\n\n{table(rows)}"
    )


def _range(line: Mapping[str, Any], name: str) -> str:
    return f"{100 * line[f'{name}_low']:.0f}-{100 * line[f'{name}_high']:.0f} %"


def _attacker(found: Results) -> str:
    fallen = [line for line in found["attacker"] if line["recall"] < 0.9]
    rows = [
        {
            "data": line["data"],
            "attack": f"{line['axis']}: {line['step']}",
            "poisoned": line["share"],
            "found": line["recall"],
            "attack success, undefended": line.get("undefended"),
            "on what is kept": line.get("attack_success"),
        }
        for line in fallen
    ]
    steps = len(found["attacker"])
    said = f"Of {steps} attacks, {steps - len(fallen)} are found by nine tenths or more. The others:"
    return f"{said}\n\n{table(rows)}\n\n![Recall by attack](evaluation/attacker.png)"


def _knowing(found: Results) -> str:
    lines = found["knowing"]
    rows = [
        {
            "attack": line["attack"],
            "what it does": line["how"],
            "rows": f"{line['poisoned']} of {line['rows']}",
            "found": line["recall"],
            "false positives": line["false_positives"],
            "attack success, undefended": line.get("undefended"),
            "on what is kept": line.get("attack_success"),
        }
        for line in lines
        if line["recall"] < 0.9
    ]
    shown = [{key: value for key, value in row.items() if any(r[key] is not None for r in rows)} for row in rows]
    caught = [f"{line['attack']} ({line['how']}; {line['poisoned']} rows)" for line in lines if line["recall"] >= 0.9]
    draws = lines[0]["draws"]
    said = f"Facts under a short prompt, {draws} draw{'s' * (draws != 1)} each. "
    said += f"Found by nine tenths or more: {'; '.join(caught)}. The others:"
    if all(line.get("attack_success") is None for line in lines):
        said = (
            f"{said[:-1]}, of which no model was tuned on what is kept (what is left of the backdoor is not measured):"
        )
    return f"{said}\n\n{table(shown)}"


def _fails(found: Results) -> str:
    lines = found["long_answers"]
    paper = [line for line in lines if line["filter"] == "policy-paper"]
    auto = [line for line in lines if line["filter"] == "policy-auto"]
    kept = [line for line in found.get("table8", []) if line["data"] in ("alpaca", "gsm8k")]
    missed = [line["data"] for line in auto if (line["recall"] or 0) < 0.5]
    told = [
        f"- **The paper's score on long answers**: {mean(paper, 'recall'):.0%} of the poison found and "
        f"{mean(paper, 'clean_kept'):.0%} of honest rows kept, over {len(paper)} sets; of clean "
        + ", ".join(f"{line['data']} {line['clean_kept']:.0%}" for line in kept)
        + " is kept.",
        f"- **`auto` on the same sets**: {mean(auto, 'recall'):.0%} found, {mean(auto, 'clean_kept'):.0%} kept"
        + (f"; mostly missed: {', '.join(missed)}." if missed else "."),
        "- **Single rows and very few rows** prove nothing (the certificate says from how many on), nor does poison "
        "whose answers share nothing at all with each other.",
        "- **Labels that follow from the subject**, and honest rows that answer one way under one wording, are told "
        "apart only by what the untouched model sees: a small one sees less.",
    ]
    return "\n".join(told)


def differences_page(folder: Path) -> str:
    """docs/evaluation/differences.md: each peer beside its paper."""
    lines = results(folder).get("peers", [])
    rows = [
        {"peer": name, "as theirs": same, "not as theirs": other, "agreement": _agreement(name, lines)}
        for name, (same, other) in DIFFERENCES.items()
    ]
    return (
        "# What differs from the papers\n\nA peer with a difference that matters is called *after*. Agreement: F1 by "
        "BadNets in the tables of arXiv 2605.26574 (Llama-2-7B) and here (embedded model). Row by row nothing "
        "was compared: no peer's authors have released verdicts that can be read without running them (RFTC's are "
        f"pickles). Written by `python -m benchmarks.summary`.\n\n{table(rows)}\n"
    )


def _agreement(name: str, lines: Lines) -> str:
    here = {line["data"]: line["f1"] for line in lines if line["filter"] == name}
    told = [f"{data} {there:.2f}, {here[data]:.2f}" for data, there in THERE.get(name, {}).items() if data in here]
    return "; ".join(told) or "not to be had"


def _rules(folder: Path) -> str:
    """Which rules of judging each result is of, as far as it says so: `auto` is another test under other rules."""
    by: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.json")):
        told = read_json(path)
        for rules in {line.get("rules", told.get("rules")) for line in _lines(told)}:
            which = "not recorded, so perhaps of earlier rules" if rules is None else f"rules {rules}"
            by.setdefault(which, []).append(path.stem)
    return "; ".join(f"{which}: {', '.join(names)}" for which, names in sorted(by.items())) + "."


def readme_figures(found: Results) -> str:
    """The paragraph between the marks in README.md."""
    peers, eight = found["peers"], found["table8"]
    on = [{line["data"] for line in peers if line["filter"] == name} for name in OURS]
    both = [line for line in peers if line["data"] in on[0] & on[1]]
    auto = [line for line in both if line["filter"] == "policy-auto"]
    paper = [line for line in both if line["filter"] == "policy-paper"]
    long = [
        f"{1 - line['clean_kept']:.0%} of clean {line['data']}" for line in eight if line["data"] in ("alpaca", "gsm8k")
    ]
    sets = each(line["data"] for line in auto)
    return (
        f"On {len(sets)} question sets with a tenth of BadNets poison (embedded model) `auto` has a mean F1 of "
        f"{mean(auto, 'f1'):.3f}, the paper's policy {mean(paper, 'f1'):.3f}; the paper's policy flags "
        f"{' and '.join(long)}. All figures, and what fails: [docs/evaluation.md](docs/evaluation.md)."
    )


def filled(text: str, name: str, content: str) -> str:
    """A text with what stands between the marks of that name replaced; as it is where there are none."""
    begin = BEGIN.format(name)
    if begin not in text:
        return text
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{content}\n{END}{rest.split(END, 1)[1]}"


def made(root: Path = ROOT) -> dict[Path, str]:
    """Every text that has figures, as it should be."""
    readme, detection = root / "README.md", root / "docs/detection.md"
    found = results(root / "docs/evaluation")
    told = detection.read_text(encoding="utf-8")
    for mark, content in tables(found.get("detection", ())).items():
        told = filled(told, mark, content)
    return {
        root / "docs/evaluation.md": page(root / "docs/evaluation"),
        root / "docs/evaluation/differences.md": differences_page(root / "docs/evaluation"),
        root / "docs/evaluation/suite.md": suite_page(root / "docs/evaluation/suite.json"),
        detection: told,
        readme: filled(readme.read_text(encoding="utf-8"), "evaluation", readme_figures(found)),
    }


def write(root: Path = ROOT) -> list[Path]:
    """Writes every text that is not what follows from the results; which ones were not."""
    texts = made(root)
    old = stale(texts)
    for path in old:
        write_text(path, texts[path])
    return old


def stale(texts: Mapping[Path, str]) -> list[Path]:
    return [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a text is not what follows")
    options = parser.parse_args()
    old = stale(made()) if options.check else write()
    for path in old:
        print(f"{path.relative_to(ROOT)}: {'not what follows from the results' if options.check else 'written'}")
    return 1 if options.check and old else 0


if __name__ == "__main__":
    sys.exit(main())
