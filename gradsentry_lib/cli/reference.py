"""The two tables that are made from code: docs/options.md and docs/errors.md.

python -m gradsentry_lib.cli.reference docs
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from gradsentry_lib.cli import INTERRUPTED
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.settings import OPTIONS, Option

OPTIONS_HEAD = """# Options

Made from `gradsentry_lib/settings.py` by `make reference`. What is given goes over the environment, the environment
over the default. In Dagster each is a field of the resource named, in the launchpad or in a run's configuration. What
is said of one source alone (`--column`, `--split`, `--limit`, ...) is not among them: see `gradsentry scan --help`.

| command | Dagster | variable | default | range | |
|---|---|---|---|---|---|
"""

ERRORS_HEAD = """# Errors and exit codes

Made from `gradsentry_lib/errors.py` by `make reference`. An error is one line: what happened in this case and the way
out of it. Its kind says the same in general; in Dagster it is in the failure's metadata. 0 is success.

| exit code | kind | what happened | what to do |
|---|---|---|---|
"""


def options() -> str:
    """docs/options.md."""
    reasons = [f"- `{option.variable}`: {option.only}" for option in OPTIONS.values() if option.only]
    lines = [_line(option) for option in OPTIONS.values()]
    return OPTIONS_HEAD + "\n".join(lines) + "\n\nNot everywhere, and why:\n\n" + "\n".join(reasons) + "\n"


def _line(option: Option) -> str:
    command = f"`{option.flag}`" if "command" in option.places else ""
    field = f"`{option.group}.{option.field}`" if "dagster" in option.places else ""
    default = option.without if option.otherwise else f"`{option.without}`" if option.default else ""
    within = f"{option.range} {option.unit}".strip()
    cells = (command, field, f"`{option.variable}`", default, within, option.help)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def kinds(of: type[GradSentryError] = GradSentryError) -> Iterator[type[GradSentryError]]:
    """The named errors of errors.py, from the root."""
    yield of
    for each in of.__subclasses__():
        if each.__module__ == GradSentryError.__module__:
            yield from kinds(each)


def errors() -> str:
    """docs/errors.md."""
    lines = [f"| {kind.exit_code} | `{kind.__name__}` | {kind.title} | {kind.advice} |" for kind in kinds()]
    stopped = f"| {INTERRUPTED} | | Interrupted (Ctrl-C) | the same command goes on from there |"
    looked = "| 2, 3 | | `gradsentry formats`: none, or only some, of the rows looked at can be read | see why |"
    return ERRORS_HEAD + "\n".join([*lines, looked, stopped]) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "options.md").write_text(options(), encoding="utf-8")
    (folder / "errors.md").write_text(errors(), encoding="utf-8")
