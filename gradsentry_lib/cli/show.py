"""Records and facts, for people and for machines."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gradsentry_lib.report.escape import rich_markup


def as_json(value: Any) -> Any:
    """JSON values of records, paths, times and numbers; what is not finite becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def moment(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC") if time else ""


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def short(digest: str) -> str:
    """The beginning of a digest or id, long enough to be looked up by it."""
    return rich_markup(digest[:12])


def settings_line(settings: Mapping[str, Any]) -> str:
    """`name=value` pairs on one line, nested ones with dots."""
    parts: list[str] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            parts += [f"{name}.{pair}" for pair in settings_line(value).split(", ") if pair]
        else:
            parts.append(f"{name}={value}")
    return ", ".join(parts)


def turns_line(turns: Any, limit: int) -> str:
    """A sample's text on one line."""
    text = " | ".join(f"{turn['role']}: {(turn['text'] or turn.get('beside') or '')[:limit]}" for turn in turns or ())
    return rich_markup(text, limit)
