"""What Dagster's catalogue asks of a table: columns, where they come from, rows, size.

Names of columns come from data sets: shown as text, control characters escaped.
"""

from pathlib import Path
from typing import Any

import dagster as dg

from gradsentry_lib.report.escape import one_line

LONGEST_NAME = 200  # characters of a column's name
LARGEST_LINE = 1 << 20  # bytes of a first line that is looked at


def of_table(file: Path, rows: int, upstream: dg.AssetKey | None, partitioned: bool) -> dict[str, Any]:
    """Metadata of a file of rows. `upstream`: the asset whose columns of the same names they are."""
    found: dict[str, Any] = {"dagster/partition_row_count" if partitioned else "dagster/row_count": rows}
    if file.is_file():
        found |= {"dagster/uri": file.as_uri(), "dagster/size_bytes": file.stat().st_size}
    columns = _columns(file)
    if columns:
        told = [dg.TableColumn(name, kind) for name, kind in columns.items()]
        found["dagster/column_schema"] = dg.TableSchema(told)
    if columns and upstream is not None:
        deps = {name: [dg.TableColumnDep(upstream, name)] for name in columns}
        found["dagster/column_lineage"] = dg.TableColumnLineage(deps)
    return found


def _columns(file: Path) -> dict[str, str]:
    """Name and type of each column; none where the file does not say."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return {one_line(each.name, LONGEST_NAME): str(each.type) for each in pq.read_schema(file)}
        if suffix in (".jsonl", ".ndjson", ".csv"):
            return _of_first_line(file, suffix)
    except (OSError, ValueError):  # ArrowInvalid among them: whoever reads the rows says what is wrong with it
        pass
    return {}


def _of_first_line(file: Path, suffix: str) -> dict[str, str]:
    import csv
    import json

    with file.open("rb") as lines:
        line = lines.readline(LARGEST_LINE).decode("utf-8-sig")
    if suffix == ".csv":
        return {one_line(name, LONGEST_NAME): "string" for name in next(csv.reader([line]), [])}
    row = json.loads(line)
    kinds = {str: "string", int: "int", float: "float", bool: "bool", list: "list", dict: "struct"}
    return (
        {one_line(name, LONGEST_NAME): kinds.get(type(value), "null") for name, value in row.items()}
        if isinstance(row, dict)
        else {}
    )
