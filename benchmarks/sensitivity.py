"""What each number of the declared test does at 0.75 and 1.25 times its value: `python -m benchmarks.sensitivity`.

On the scored cases of one half (--half, the tuning half by default), beside the numbers as they are. A setting that
leads to triggers about which the model was never asked shows how many answers are missing; --ask asks for them.
--deciding moves the numbers that decide alone, not those of how it is computed.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from rich.console import Console

from benchmarks.declared import Line, arguments, chosen, measure, model
from benchmarks.detection_cases import HALVES
from benchmarks.reasons import Reasons
from benchmarks.results import section, table
from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.errors import GradSentryError


def moved(config: DetectionConfig, computing: bool = True) -> Iterator[tuple[str, DetectionConfig]]:
    """(what was changed, the configuration): first as it is, then each number by a quarter either way, first those that
    decide, then those of how it is computed."""
    yield "as it is", config
    for name, value in _numbers(config):
        yield name, replace(config, **value)
    for name, value in _numbers(config.computing) if computing else ():
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


def row(name: str, lines: list[Line]) -> dict[str, Any]:
    bad = [line for line in lines if line.poisoned]
    return {
        "changed": name,
        "mean recall": sum(line.found / line.poisoned for line in bad) / max(len(bad), 1),
        "cases below 0.85": sum(line.found < 0.85 * line.poisoned for line in bad),
        "false rows": sum(line.false for line in lines),
        "answers missing": sum(line.missing for line in lines),
    }


def main() -> int:
    parser = arguments(__doc__)
    parser.set_defaults(half=HALVES[:1])
    parser.add_argument("--deciding", action="store_true", help="only the numbers that decide")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    options = parser.parse_args()
    try:
        cases, asked = chosen(options), model(options)
    except GradSentryError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return error.exit_code
    shown = []
    for name, config in moved(DetectionConfig(), computing=not options.deciding):
        shown.append(row(name, [measure(case, Reasons(case, options.cache, asked), config) for case in cases]))
        print(*shown[-1].values(), file=sys.stderr, flush=True)
    on = f"{', '.join(options.half).capitalize()}; cases: {', '.join(case.name for case in cases)}."
    print(on, table(shown), sep="\n\n")
    if options.write:
        section("sensitivity", "Sensitivity of the declared test", [__doc__ or "", on, table(shown)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
