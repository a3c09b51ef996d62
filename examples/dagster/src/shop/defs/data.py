"""What was here before: an asset that collects questions with answers, and one that trains on them."""

from pathlib import Path

import dagster as dg
import pandas as pd


@dg.asset(kinds={"pandas"}, owners=["team:shop"], group_name="data")
def collected() -> pd.DataFrame:
    """Questions and answers as they came in; kept by the project's I/O manager."""
    rows = pd.read_json("questions.jsonl", lines=True)
    return rows.rename(columns={"prompt": "question", "response": "answer"})


@dg.asset(ins={"clean": dg.AssetIn(["answers", "clean_dataset"])}, owners=["team:shop"], group_name="training")
def trained(clean: pd.DataFrame) -> dg.MaterializeResult:
    """Stands for a training run: it sees the clean rows alone."""
    Path("trained_on.csv").write_text(clean.to_csv(index=False))
    return dg.MaterializeResult(metadata={"rows": len(clean)})
