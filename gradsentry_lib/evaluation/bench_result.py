"""What `gradsentry bench` writes as JSON: how it was made, figures, costs; and another run's filters beside its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradsentry_lib.detection.config import RULES
from gradsentry_lib.errors import UnusableFile, UnusableOption
from gradsentry_lib.evaluation.bench import Labelled, overall
from gradsentry_lib.files import read_json

ALIKE = ("model", "dtype", "seed", "rows_at_most", "sets")


def made_how(sets: Sequence[Labelled], **how: Any) -> dict[str, Any]:
    """`how`: model, dtype, seed, rows_at_most; beside them the rules and the sets' digests."""
    return {**how, "rules": RULES, "sets": {one.name: one.digest for one in sets}}


def earlier(path: Path, how: Mapping[str, Any]) -> dict[str, Any]:
    """A result that may stand beside one made so. Raises UnusableFile where there is none, UnusableOption where it is
    of other sets or made otherwise."""
    try:
        old: dict[str, Any] = read_json(path)
        other = [name for name in ALIKE if old.get(name) != how[name]]
        if not all(isinstance(old[key], list) for key in ("figures", "costs")):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableFile(f"{path} is no result of `gradsentry bench --json`") from error
    if other:
        raise UnusableOption(f"{path} was made otherwise ({', '.join(other)}): its filters can't stand beside these")
    return old


def result(
    how: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], old: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What is written. `old`: a result whose other filters are taken over."""
    figures = [{key: value for key, value in line.items() if key != "cost"} for line in lines]
    costs = [{key: line[key] for key in ("set", "filter", "cost")} for line in lines if "cost" in line]
    if old is not None:
        mine = {line["filter"] for line in lines}
        figures = _by_set(figures, [line for line in old["figures"] if line["filter"] not in mine])
        costs = _by_set(costs, [line for line in old["costs"] if line["filter"] not in mine])
    return {**how, "overall": overall(figures), "figures": figures, "costs": costs}


def lines_of(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A result's lines, each with its cost."""
    cost = {(line["set"], line["filter"]): {"cost": line["cost"]} for line in told["costs"]}
    return [{**line, **cost.get((line["set"], line["filter"]), {})} for line in told["figures"]]


def _by_set(new: Sequence[dict[str, Any]], old: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    sets = list(dict.fromkeys(line["set"] for line in new))
    return sorted([*new, *old], key=lambda line: sets.index(line["set"]))
