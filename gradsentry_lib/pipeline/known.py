"""Files of known groups, which other teams exported: read, checked against their schema."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import UnusableFile

LARGEST = 64 << 20  # bytes of a file


def schema() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("groups.schema.json").read_text(encoding="utf-8"))


def read_known(paths: Sequence[Path]) -> tuple[dict[str, Any], ...]:
    """The files' contents. Raises UnusableFile for one that is no export of groups."""
    if not paths:
        return ()
    import jsonschema

    told = []
    for path in paths:
        try:
            if path.stat().st_size > LARGEST:
                raise UnusableFile(f"{path} is too large for a file of known groups")
            content = json.loads(path.read_text(encoding="utf-8"))
            jsonschema.validate(content, schema())
        except OSError as error:
            raise UnusableFile(f"{path} can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UnusableFile(f"{path} is no JSON: {error}") from error
        except jsonschema.ValidationError as error:
            place = ".".join(map(str, error.absolute_path)) or "file"
            raise UnusableFile(
                f"{path} is no export of groups ({place}: {error.message[:200]}): `gradsentry review export` makes them"
            ) from error
        told.append(content)
    return tuple(told)
