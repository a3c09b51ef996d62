"""The tables of docs/detection.md, by the marks they stand between, of what `benchmarks.declared --write` has written.

A line of figures: half, name, rows, poisoned, found, false, watched (poisoned), watched_honest, model, dtype, rules.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.detection_cases import HALVES, MORE
from benchmarks.results import table

USUAL = ("embedded", "bfloat16")  # the model, its numbers
DRAW = re.compile(r"_draw_\d+$")
Line = Mapping[str, Any]


def tables(lines: Sequence[Line]) -> dict[str, str]:
    """Text by mark: `detection tune`, ..., and `detection elsewhere` for other models."""
    made = {}
    for half in (*HALVES, *MORE):
        mine = _of(lines, half, *USUAL)
        if mine:
            body = _by_set(mine) if half in ("styles", "unseen") else _by_case(mine)
            made[f"detection {half}"] = f"\n{said(mine)}\n\n{body}\n"
    others = list(dict.fromkeys((line["model"], line["dtype"]) for line in lines))
    if elsewhere := [_beside(lines, *which) for which in others if which != USUAL]:
        made["detection elsewhere"] = f"\n{table(elsewhere)}\n"
    return made


def said(lines: Sequence[Line]) -> str:
    """Recall as a mean over the cases, honest rows flagged as a sum; by which rules, and whether all was asked."""
    bad = [line for line in lines if line["poisoned"]]
    honest, false = (sum(line[key] for line in lines) for key in ("rows", "false"))
    honest -= sum(line["poisoned"] for line in lines)
    rules = " and ".join(map(str, sorted({line["rules"] for line in lines})))
    told = f"Rules {rules}"
    if bad:
        told += f"; recall {sum(line['found'] / line['poisoned'] for line in bad) / len(bad):.3f}"
    told += f"; {false} of {honest:,} honest rows flagged, {sum(line['watched_honest'] for line in lines)} watched."
    missing = sum(line["missing"] for line in lines)
    return told + (f" {missing} answers of the model are missing." if missing else "")


def _of(lines: Iterable[Line], half: str, model: str, dtype: str) -> list[Line]:
    return [line for line in lines if (line["half"], line["model"], line["dtype"]) == (half, model, dtype)]


def _by_case(lines: Sequence[Line]) -> str:
    return table(
        [
            {
                "case": line["name"],
                "rows": line["rows"],
                "poisoned": line["poisoned"],
                "found / false": f"{line['found']} / {line['false']}",
                "watched": f"{line['watched']} / {line['watched_honest']}",
            }
            for line in lines
        ]
    )


def _by_set(lines: Sequence[Line]) -> str:
    """A row a question set, a column an attack and its size: found / false, of all draws."""
    cells: dict[str, dict[str, list[str]]] = {}
    for line in lines:
        data, attack = DRAW.sub("", line["name"]).split("_", 1)
        cells.setdefault(data, {}).setdefault(attack, []).append(f"{line['found']} / {line['false']}")
    attacks = list(dict.fromkeys(attack for own in cells.values() for attack in own))
    return table(
        [
            {"set": data} | {attack.replace("_", " "): ", ".join(own.get(attack, ["not made"])) for attack in attacks}
            for data, own in cells.items()
        ]
    )


def _beside(lines: Sequence[Line], model: str, dtype: str) -> dict[str, Any]:
    """Another model, or other numbers, beside the usual on the same cases."""
    usual = {(line["half"], line["name"]): line for line in lines if (line["model"], line["dtype"]) == USUAL}
    mine = [line for line in lines if (line["model"], line["dtype"]) == (model, dtype)]
    shared = [(line, usual[line["half"], line["name"]]) for line in mine if (line["half"], line["name"]) in usual]
    bad = [pair for pair in shared if pair[0]["poisoned"]]
    recall = [sum(pair[i]["found"] / pair[i]["poisoned"] for pair in bad) / max(len(bad), 1) for i in (0, 1)]
    apart = [
        line["name"] for line, other in shared if (line["found"], line["false"]) != (other["found"], other["false"])
    ]
    return {
        "model": f"{model}, {dtype}",
        "rules": " and ".join(map(str, sorted({line["rules"] for line, _ in shared}))),
        "cases": len(shared),
        "recall (usual)": f"{recall[0]:.3f} ({recall[1]:.3f})",
        "false (usual)": f"{sum(a['false'] for a, _ in shared)} ({sum(b['false'] for _, b in shared)})",
        "other counts in": ", ".join(apart) or "none",
    }
