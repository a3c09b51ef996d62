"""The clean set in a warehouse: the stage by its factory, and an I/O manager that keeps frames in a DuckDB file.

dagster asset materialize -f definitions.py --select '*'
"""

from collections.abc import Sequence

import dagster as dg
import duckdb
import polars as pl
from dagster._core.storage.db_io_manager import DbTypeHandler, TableSlice
from dagster_duckdb.io_manager import DuckDbClient, DuckDBIOManager
from dagster_duckdb_polars import DuckDBPolarsTypeHandler

from gradsentry_assets import gradsentry_assets


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


@dg.asset
def collected() -> pl.DataFrame:
    """Questions and answers, as they came from outside."""
    return pl.read_ndjson("questions.jsonl")


@dg.asset(ins={"clean": dg.AssetIn(["answers", "clean_dataset"])})
def trained(clean: pl.DataFrame) -> dg.MaterializeResult:
    """Stands for a training run: it gets the table that the stage left, and only where the gate is open."""
    return dg.MaterializeResult(metadata={"rows": len(clean), "columns": clean.columns})


defs = dg.Definitions.merge(
    dg.Definitions(
        assets=[collected, trained],
        resources={"io_manager": Warehouse(database="warehouse.duckdb", schema="main")},
        executor=dg.in_process_executor,
    ),
    gradsentry_assets(name="answers", source=collected, clean_as="polars"),
)
