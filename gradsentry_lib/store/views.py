"""The `verdicts` view: all verdict files of the store as one table."""

import re
from contextlib import suppress
from pathlib import Path

import duckdb

from gradsentry_lib.store.paths import VERDICT_FILES


def refresh(connection: duckdb.DuckDBPyConnection, store: Path, *, temporary: bool) -> None:
    """Points `verdicts` at the store where it points elsewhere: at nothing yet, or at where the store was before.

    `temporary`: for this connection alone, as a reader must. A glob reads the files that are there: one that is
    missing leaves the others readable. A file that no decision names, or that was replaced, is left out or superseded.
    """
    if not any(store.glob(VERDICT_FILES)):
        return
    files = f"{glob_literal(store)}/{VERDICT_FILES}"
    found = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'verdicts'").fetchall()
    if any(files.replace("'", "''") in sql for (sql,) in found):
        return
    with suppress(duckdb.Error):  # a damaged file among them: whoever asks for verdicts is told, nobody else is stopped
        connection.execute(_statement(files, temporary))


def _statement(files: str, temporary: bool) -> str:
    quoted = files.replace("'", "''")
    return f"""
    CREATE OR REPLACE {"TEMPORARY" if temporary else ""} VIEW verdicts AS
    SELECT d.decision, d.scan, d.batch_key, v.row, v.sample_id, v.entropy, v.supervised_tokens, v.nll, v.verdict,
        v.reasons
    FROM read_parquet('{quoted}', filename = true) AS v
    JOIN (
        SELECT max(seq) AS decision, arg_max(scan, seq) AS scan, arg_max(batch_key, seq) AS batch_key, verdicts_path
        FROM decisions GROUP BY verdicts_path
    ) AS d ON d.verdicts_path = array_to_string(string_split(v.filename, '/')[-5:], '/')
    """  # noqa: S608


def glob_literal(path: Path) -> str:
    """A path for DuckDB's table functions, with the signs that they would read as patterns taken literally."""
    return re.sub(r"([*?\[])", r"[\1]", path.as_posix())
