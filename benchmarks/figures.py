"""What the pages made of results have in common: lines of a result to means, shares, intervals and tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Lines = Sequence[Mapping[str, Any]]
Results = Mapping[str, Lines]  # by the result's name


def each(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def mean(lines: Lines, key: str) -> float | None:
    known = [line[key] for line in lines if line.get(key) is not None]
    return float(np.mean(known)) if known else None


def table(rows: Lines) -> str:
    columns = list(rows[0])
    rule = ["---" if isinstance(rows[0][column], str) else "--:" for column in columns]
    body = [[cell(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, rule, *body])


def cell(value: Any) -> str:
    if value is None:
        return ""
    text = (
        f"{value:.1f}"
        if isinstance(value, float) and value > 2
        else f"{value:.3f}"
        if isinstance(value, float)
        else value
    )
    return str(text).replace("|", "\\|")


def interval(told: Sequence[float], times: int = 1) -> str:
    low, high = (f"{times * end:.{1 if times > 1 else 2}f}" for end in told)
    return f"{low}-{high}"


def share(lines: Lines, key: str) -> tuple[float, int] | None:
    """(share, asked) of a keyed share over all the questions with a trigger that some lines asked; None where none."""
    told = [(line[key], line["asked_triggered"]) for line in lines if key in line]
    asked = sum(count for _, count in told)
    return (sum(part * count for part, count in told) / asked, asked) if asked else None
