"""The gate as Great Expectations checks it: the same limits, judged by a library that shares no code with ours.

`gradsentry_lib.detection.gate` says what must hold and words the answer; here every one of its checks that speaks of
the verdict table or of the rows read is put to GX Core on its own, in a context that lives in memory. A check passes
only if both agree, so neither a slip in ours nor a change in theirs can open the gate.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.detection.gate import WATCHED, GateCheck, GateLimits, check_gate
from gradsentry_lib.detection.length_confounding import Trust


def expect_gate(
    verdicts: pa.Table,
    *,
    read: int,
    rejected: int,
    trust: Trust | None = None,
    limits: GateLimits | None = None,
    truncated: str = "",
    power: float | None = None,
) -> tuple[GateCheck, ...]:
    """All gate checks on one judged batch; arguments and result as `gate.check_gate`."""
    checks = check_gate(
        verdicts, read=read, rejected=rejected, trust=trust, limits=limits, truncated=truncated, power=power
    )
    met = _validate(verdicts, checks, read, rejected)
    return tuple(replace(check, passed=check.passed and met.get(check.name, True)) for check in checks)


def _validate(verdicts: pa.Table, checks: Sequence[GateCheck], read: int, rejected: int) -> dict[str, bool]:
    """Whether GX finds each named expectation met. An expectation that GX could not evaluate is not met."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported
    import great_expectations as gx
    from great_expectations import expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig

    limit: dict[str, Any] = {check.name: check.limit for check in checks}
    expected = {
        "flagged_fraction": gxe.ExpectColumnMeanToBeBetween(column="flagged", max_value=limit["flagged_fraction"]),
        "flagged_fraction_warning": gxe.ExpectColumnMeanToBeBetween(
            column="flagged", max_value=limit["flagged_fraction_warning"]
        ),
        "unscored_fraction": gxe.ExpectColumnMeanToBeBetween(column="unscored", max_value=limit["unscored_fraction"]),
        "entropy_in_range": gxe.ExpectColumnValuesToBeBetween(column="entropy", min_value=0, max_value=1),
        "unique_rows": gxe.ExpectColumnValuesToBeUnique(column="row"),
        "rows_conserved": gxe.ExpectTableRowCountToEqual(value=read - rejected),
    }
    if "nothing_watched" in limit:
        expected["nothing_watched"] = gxe.ExpectColumnSumToBeBetween(column=WATCHED, max_value=0)
    frame = verdicts.select(["row", "entropy"]).to_pandas()
    for verdict in ("flagged", "unscored"):
        frame[verdict] = pc.equal(verdicts["verdict"], verdict).cast(pa.float64()).to_numpy()
    if WATCHED in verdicts.column_names:
        kept = pc.and_(pc.fill_null(verdicts[WATCHED], False), pc.equal(verdicts["verdict"], "clean"))
        frame[WATCHED] = kept.cast(pa.float64()).to_numpy()

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("judged")
    met = _met(source, "verdicts", frame, expected)
    if read:
        lines = pd.DataFrame({"rejected": np.arange(read) < rejected}, dtype=float)  # a line a row read
        mean = gxe.ExpectColumnMeanToBeBetween(column="rejected", max_value=limit["rejected_fraction"])
        met |= _met(source, "rows read", lines, {"rejected_fraction": mean})
    return met


def _met(source: Any, name: str, frame: pd.DataFrame, expected: dict[str, Any]) -> dict[str, bool]:
    """Puts one table to GX. An expectation that it has no answer to is not met."""
    from great_expectations import ExpectationSuite

    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    suite = ExpectationSuite(name=name)
    for check, expectation in expected.items():
        expectation.meta = {"check": check}
        suite.add_expectation(expectation)
    result = batch.get_batch({"dataframe": frame}).validate(suite, result_format="BOOLEAN_ONLY")
    met = dict.fromkeys(expected, False)
    for one in result.results:
        if one.expectation_config is not None and one.expectation_config.meta is not None:
            met[one.expectation_config.meta["check"]] = bool(one.success)
    return met
