"""The options that say how a source is to be read, for every command that reads one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gradsentry_lib.cli.options import told
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.settings import parse_bytes

Column = Annotated[list[str] | None, typer.Option(help="ROLE=NAME, e.g. prompt=question; repeatable.")]
Role = Annotated[list[str] | None, typer.Option(help="SPEAKER=ROLE in chats, e.g. narrator=assistant; repeatable.")]
Marker = Annotated[
    str | None,
    typer.Option(
        "--response-marker", help="What stands before the answer in a text, e.g. '### Answer:'; none: all is learnt."
    ),
]
Mapped = Annotated[
    Path | None,
    typer.Option(
        "--mapping", help="LLaMA-Factory's dataset_info.json or Axolotl's YAML: columns and roles from there."
    ),
]
Split = Annotated[str | None, typer.Option(help="One split of a data set.")]
Separator = Annotated[str | None, typer.Option(help="Of CSV: ; or tab or |, where the header does not show it.")]
Encoding = Annotated[str | None, typer.Option(help="How the text is written, e.g. cp1252, where that does not show.")]
MaxBytes = Annotated[str | None, told("max_bytes")]


def reading_options(
    source: str,
    column: list[str] | None = None,
    role: list[str] | None = None,
    marker: str | None = None,
    mapping: Path | None = None,
    split: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    max_bytes: str | None = None,
) -> dict[str, Any]:
    """What the reader is told, of what was said on the command line."""
    from gradsentry_lib.samples import mapping as told

    columns, roles = pairs("--column", column), pairs("--role", role)
    largest = parse_bytes(max_bytes, "--max-bytes") if max_bytes else None
    return told.reading_options(source, columns, roles, marker, mapping, split, separator, encoding, largest)


def pairs(option: str, told: list[str] | None) -> Mapping[str, str]:
    """NAME=VALUE of a repeatable option. Raises `BadInput`."""
    found = {}
    for item in told or []:
        name, sign, value = item.partition("=")
        if not (name and sign and value):
            example = "ROLE=NAME, for example --column prompt=question"
            if option == "--role":
                example = "SPEAKER=ROLE, for example --role narrator=assistant"
            raise UnusableOption(f"{option} {item}: write {example}")
        found[name] = value
    return found
