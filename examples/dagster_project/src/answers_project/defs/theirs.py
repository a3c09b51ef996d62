"""What was there before: answers are collected, and a model is trained on them."""

import dagster as dg
import polars as pl
from answers_project.defs.warehouse import PROJECT


@dg.asset(kinds={"polars"})
def collected() -> pl.DataFrame:
    """Questions and answers, as they came from outside."""
    return pl.read_ndjson(PROJECT / "data" / "questions.jsonl")


@dg.asset(ins={"clean": dg.AssetIn(dg.AssetKey(["answers", "clean_dataset"]))}, kinds={"polars"})
def trained(context: dg.AssetExecutionContext, clean: pl.DataFrame) -> dg.MaterializeResult:
    """Stands for the training: it gets what is left, as a frame of the warehouse, and only where the gate is open."""
    context.log.info(f"training on {len(clean)} rows")
    return dg.MaterializeResult(metadata={"rows": len(clean), "columns": clean.columns})
