"""The clean data set as a value, for those whose I/O managers hand it on."""

from pathlib import Path
from typing import Any

from gradsentry_lib.errors import UnusableOption

KINDS = ("path", "pandas", "polars", "arrow")


def check_kind(kind: str) -> None:
    """Raises UnusableOption."""
    if kind and kind not in KINDS:
        raise UnusableOption(f"clean_as={kind!r}: choose one of {', '.join(KINDS)}, or leave it out for none")


def as_value(clean: Path, kind: str) -> Any:
    """The clean file as asked for: its path, or its rows in a frame or table; None where nobody asked.

    Raises UnusableOption for a file that holds no table.
    """
    if not kind or kind == "path":
        return str(clean) if kind else None
    table = _table(clean)
    if kind == "arrow":
        return table
    if kind == "polars":
        import polars

        return polars.from_arrow(table)
    return table.to_pandas()


def _table(clean: Path) -> Any:
    suffix = clean.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(clean)
    if suffix in (".jsonl", ".ndjson"):
        import pyarrow.json

        return pyarrow.json.read_json(clean)
    if suffix == ".csv":
        import pyarrow.csv

        return pyarrow.csv.read_csv(clean)
    if suffix in (".arrow", ".feather"):
        import pyarrow.feather

        return pyarrow.feather.read_table(clean)
    raise UnusableOption(f"{clean.name} is no table that can be handed on: clean_as='path' hands on where it is")
