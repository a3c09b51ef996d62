"""What each number of the declared test does at 0.75 and 1.25 times its value: `python -m benchmarks.sensitivity`.

On the scored cases of one half (--half, the tuning half by default), beside the numbers as they are. A setting that
leads to triggers about which the model was never asked shows how many answers are missing; --ask asks for them.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.declared import WIDTH, Line, arguments, chosen, measure, model
from benchmarks.reasons import Reasons
from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.errors import GradSentryError


def moved(config: DetectionConfig) -> Iterator[tuple[str, DetectionConfig]]:
    """(what was changed, the configuration): first as it is, then each number by a quarter either way, first those that
    decide, then those of how it is computed."""
    yield "as it is", config
    for name, value in _numbers(config):
        yield name, replace(config, **value)
    for name, value in _numbers(config.computing):
        yield f"computing: {name}", replace(config, computing=replace(config.computing, **value))


def _numbers(of: DetectionConfig | Computing) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in fields(of):
        value = getattr(of, field.name)
        for factor in () if isinstance(value, Computing) else (0.75, 1.25):
            changed = _scaled(value, factor)
            if changed != value:
                yield f"{field.name} x {factor}", {field.name: changed}


def _scaled(value: Any, factor: float) -> Any:
    """Whole numbers by one at least; shares to one at most."""
    if isinstance(value, tuple):
        return tuple(each * factor if each > 1 else min(1.0, each * factor) for each in value)
    if isinstance(value, int):
        return min(round(value * factor), value - 1) if factor < 1 else max(round(value * factor), value + 1)
    return value * factor


def row(lines: list[Line]) -> list[str]:
    bad = [line for line in lines if line.poisoned]
    recall = sum(line.found / line.poisoned for line in bad) / max(len(bad), 1)
    missed = sum(line.found < 0.85 * line.poisoned for line in bad)
    false = sum(line.false for line in lines)
    return [f"{recall:.3f}", str(missed), str(false), str(sum(line.missing for line in lines))]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--half", default="tune", choices=["tune", "report"])
    options = parser.parse_args()
    try:
        cases, asked = [case for case in chosen(options) if case.half == options.half], model(options)
    except GradSentryError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return error.exit_code
    shown = Table("changed", "mean recall", "cases below 0.85", "false rows", "answers missing", title=options.half)
    for name, config in moved(DetectionConfig()):
        lines = [measure(case, Reasons(case, options.cache, asked), config) for case in cases]
        shown.add_row(name, *row(lines))
        Console(stderr=True).print(f"{name}: {' '.join(row(lines))}", markup=False)
    Console(width=WIDTH).print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
