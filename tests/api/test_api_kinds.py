"""What comes in comes back in its kind, with the same verdicts, whatever the kind."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import gradsentry_lib as gs
from tests.api.conftest import CLEAN, FLAGGED, PAPER, ROWS


def test_a_list_of_dicts(model: gs.Scorer) -> None:
    result = gs.scan(ROWS, model=model, **PAPER)
    assert result.clean == CLEAN and result.quarantine == FLAGGED
    assert result.clean[0] is ROWS[0]  # the caller's own objects
    assert result.counts == {"read": 10, "clean": 8, "flagged": 2, "unscored": 0, "rejected": 0}
    assert list(result.reasons) == [8, 9] and "above threshold 0.24" in result.reasons[8][0]
    assert gs.scan(tuple(ROWS), model=model, **PAPER).clean == tuple(CLEAN)


@pytest.mark.slow
def test_a_pandas_frame_keeps_index_and_types(model: gs.Scorer) -> None:
    frame = pd.DataFrame(ROWS, index=pd.Index([f"id{i}" for i in range(10)], name="key"))
    frame["kind"] = pd.Categorical(["a", "b"] * 5)
    frame["at"] = pd.Timestamp("2026-01-02", tz="UTC")
    result = gs.scan(frame, model=model, **PAPER)
    pd.testing.assert_frame_equal(result.clean, frame.iloc[:8])
    pd.testing.assert_frame_equal(result.quarantine, frame.iloc[8:])


@pytest.mark.slow
def test_a_polars_frame(model: gs.Scorer) -> None:
    frame = pl.DataFrame(ROWS).with_columns(pl.col("source").cast(pl.Categorical))
    result = gs.scan(frame, model=model, **PAPER)
    assert result.clean.equals(frame[:8]) and result.clean.schema == frame.schema
    assert result.quarantine.equals(frame[8:])
    with pytest.raises(gs.BadInput, match="collect"):
        gs.scan(frame.lazy(), model=model)


def test_an_arrow_table(model: gs.Scorer) -> None:
    table = pa.Table.from_pylist(ROWS).replace_schema_metadata({b"mine": b"1"})
    result = gs.scan(table, model=model, **PAPER)
    assert result.clean.equals(table.slice(0, 8), check_metadata=True)
    assert result.quarantine.equals(table.slice(8))


@pytest.mark.slow
def test_a_dataset_and_its_splits(model: gs.Scorer) -> None:
    dataset = datasets.Dataset.from_list(ROWS[::-1]).select(range(9, -1, -1))  # with an index of its own
    result = gs.scan(dataset, model=model, **PAPER)
    assert result.clean.to_list() == CLEAN and result.clean.features == dataset.features
    splits = datasets.DatasetDict(train=dataset.select(range(9)), test=dataset.select([9, 0]))
    cleaned = gs.scan(splits, model=model, **PAPER).clean
    assert isinstance(cleaned, datasets.DatasetDict)
    assert (cleaned["train"].to_list(), cleaned["test"].to_list()) == (CLEAN, CLEAN[:1])


@pytest.mark.slow
def test_a_file(model: gs.Scorer, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    result = gs.scan(path, model=model, **PAPER)
    assert result.clean.read_text() == "".join(path.read_text().splitlines(keepends=True)[:8])
    assert len(result.quarantine.read_text().splitlines()) == 2
    assert gs.scan(str(path), model=model, **PAPER).counts == result.counts


@pytest.mark.slow
def test_a_url(model: gs.Scorer, tmp_path: Path) -> None:
    path = tmp_path / "some rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    result = gs.scan(f"file://{path}", model=model, store=tmp_path / "kept", **PAPER)
    assert result.counts["clean"] == 8 and result.batch.startswith("some-rows-")
    with pytest.raises(gs.BadInput, match="can't reach"):
        gs.scan(f"file://{tmp_path}/nothing.jsonl", model=model)
    with pytest.raises(gs.BadInput, match=r"can.t reach|needs another package"):
        gs.scan("nosuch://host/file.jsonl", model=model)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "can't scan a builtins.int; give a path"),
        ({"prompt": "a"}, "builtins.dict"),
        (pd.DataFrame([[1, 2]]), "column 0 is not named by text"),
        (pd.DataFrame([["a", "b"]], columns=["prompt", "prompt"]), "two columns are called 'prompt'"),
        ([], "empty|no rows"),
        (pd.DataFrame({"prompt": [], "response": []}), "no rows"),
        ("missing.jsonl", "no file or folder missing.jsonl"),
    ],
)
def test_what_can_not_be_scanned_says_why(model: gs.Scorer, data: Any, said: str) -> None:
    with pytest.raises(gs.BadInput, match=said):
        gs.scan(data, model=model)


@pytest.mark.slow
def test_rows_that_json_does_not_hold_are_rejected_and_the_others_are_not(model: gs.Scorer) -> None:
    loop: dict[str, Any] = {"prompt": "a"}
    loop["self"] = loop
    odd = [{"prompt": "a", "response": "b", "id": object()}, loop, "no object", {("a", 1): "b"}, None]
    kept = {"prompt": "q", "response": "ab", "at": date(2026, 1, 2), "n": np.int64(3), "v": np.ones(2), "s": {1}}
    lenient = PAPER | {"max_rejected": 0.9, "limits_by": "Ada", "limits_reason": "a test"}
    result = gs.scan([*ROWS, *odd, kept], model=model, **lenient)
    assert result.counts == {"read": 16, "clean": 9, "flagged": 2, "unscored": 0, "rejected": 5}
    assert result.clean == [*CLEAN, kept]
    assert [reject.row for reject in result.rejected] == [10, 11, 12, 13, 14]
    assert "JSON can't hold" in result.rejected[0].excerpt


def test_a_column_of_mixed_types_costs_its_wrong_rows_only(model: gs.Scorer) -> None:
    frame = pd.DataFrame([*ROWS * 3, {"prompt": "q", "response": 7, "source": "s"}])
    result = gs.scan(frame, model=model, **PAPER)
    assert result.counts["rejected"] == 1 and result.counts["clean"] == 24
    assert result.rejected[0].row == 30
