"""The warehouse that keeps frames between assets, theirs and ours: a DuckDB file."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
from dagster._core.storage.db_io_manager import DbTypeHandler, TableSlice
from dagster_duckdb.io_manager import DuckDbClient, DuckDBIOManager
from dagster_duckdb_polars import DuckDBPolarsTypeHandler

PROJECT = Path(__file__).parents[3]


class Frames(DuckDBPolarsTypeHandler):
    """As released, but for DuckDB 2, whose connections have no `arrow()` any more (dagster-duckdb-polars 0.29.27)."""

    def load_input(
        self, context: dg.InputContext, table_slice: TableSlice, connection: duckdb.DuckDBPyConnection
    ) -> pl.DataFrame:
        return pl.DataFrame(connection.execute(DuckDbClient.get_select_statement(table_slice)).to_arrow_table())


class Warehouse(DuckDBIOManager):
    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler]:
        return [Frames()]

    @staticmethod
    def default_load_type() -> type:
        return pl.DataFrame


@dg.definitions
def warehouse() -> dg.Definitions:
    kept = Warehouse(database=str(PROJECT / "warehouse.duckdb"), schema="main")
    # The steps follow one another, so they share the run's process, and the libraries are imported once.
    return dg.Definitions(resources={"io_manager": kept}, executor=dg.in_process_executor)
