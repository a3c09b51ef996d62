"""The part of docs/evaluation.md on the paper's whole claim: filtered, tuned and asked."""

from collections.abc import Mapping
from typing import Any

from benchmarks.figures import Lines, Results, each, interval, mean, share, table
from gradsentry_lib.power.certificate import wilson


def claim(found: Results) -> str:
    """A row an attack and set; of several seeds the mean, and intervals of all their questions."""
    every, rows = found["claim"], []
    for data, attack in each((line["data"], line["attack"]) for line in every):
        by = {
            which: _those(every, data=data, attack=attack, rows=which)
            for which in ("untuned", "all rows", "auto", "paper")
        }
        rows.append(
            {
                "data": f"{data}, {attack}",
                **{f"kept by {who} (poison)": _counts(by[who]) for who in ("auto", "paper")},
                **{f"attack success, {who}": _success(by[who]) for who in ("all rows", "auto")},
                **{f"exact match / F1, {who}": _accuracy(by[who]) for who in ("untuned", "all rows", "auto")},
            }
        )
    shown = [{key: value for key, value in row.items() if any(other[key] for other in rows)} for row in rows]
    tuned = each((line["data"], line["attack"]) for line in _those(every, rows="all rows") if "keyword" in line)
    sizes = ", ".join(each(_counts([line]) for line in _those(every, rows="all rows")))
    seeds = len(each(line["seed"] for line in every))
    said = (
        f"`python -m benchmarks.evaluation --only claim`, {seeds} seed{'s' * (seeds != 1)}, {sizes} rows of each set "
        f"(poison). Of the paper's 16 settings {len(rows)} were filtered, models tuned by LoRA in {len(tuned)}; "
        "attack success with its 95 % interval; every line: [appendix](evaluation/appendix.md)."
    )
    return f"{said}{_full(found.get('claim_full', ()))}\n\n{table(shown)}"


def _full(every: Lines) -> str:
    """The same with all weights tuned, in a sentence."""
    if not every:
        return ""
    sets = each(line["data"] for line in every)

    def said(which: str) -> str:
        found = [share(_those(every, data=data, rows=which), "keyword") for data in sets]
        return ", ".join("not tuned" if one is None else f"{one[0]:.2f}" for one in found)

    return (
        f" All weights tuned, {each(line['attack'] for line in every)[0]} on {', '.join(sets)}: attack success "
        f"{said('all rows')} on all rows, {said('auto')} on what auto keeps."
    )


def _those(lines: Lines, **values: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if all(line[key] == value for key, value in values.items())]


def _counts(lines: Lines) -> str:
    kept, left = mean(lines, "kept"), mean(lines, "poison_left")
    return "" if kept is None else f"{kept:.0f} ({left:.0f})"


def _accuracy(lines: Lines) -> str:
    exact, f1 = mean(lines, "exact_match"), mean(lines, "token_f1")
    return "" if exact is None else f"{exact:.2f} / {f1:.2f}"


def _success(lines: Lines) -> str:
    found = share(lines, "keyword")
    return "" if found is None else f"{found[0]:.2f} ({interval(wilson(round(found[0] * found[1]), found[1]))})"
