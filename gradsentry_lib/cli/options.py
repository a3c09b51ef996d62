"""Options of the command, made from the settings: no name, help or default is written a second time."""

from typing import Any

import typer

from gradsentry_lib.settings import OPTIONS


def told(name: str) -> Any:
    """The option of that setting. Left out it is None, and the environment or the default counts (settings.read)."""
    option = OPTIONS[name]
    return typer.Option(option.flag, help=option.told)
