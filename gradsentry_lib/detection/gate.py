"""The gate: what must hold before a batch's clean rows are published.

A failed check of severity "error" means that nothing is written as clean; "warn" is shown and goes on.
Flagged and unscored are fractions of the readable rows, by their final verdict: a row that a person released is not
flagged, a row that a person flagged is. So the figures can be checked from the verdict table alone, and releasing what
was flagged wrongly is a way through the gate beside raising its limit. Rejected is a fraction of all rows read.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.detection.length_confounding import Trust
from gradsentry_lib.detection.verdict import count_verdicts
from gradsentry_lib.settings import OPTIONS

WATCHED = "watched"  # a policy's own column of the verdict table: rows kept that a person should look at first


@dataclass(frozen=True)
class GateLimits:
    """Largest fractions, each in [0, 1]: of the readable rows, flagged (block, warn) and unscored (block); of all rows
    read, rejected as unreadable (block). `min_power`: least share of planted attacks found (block); 0: not asked."""

    max_flagged: float = OPTIONS["max_flagged"].usual
    warn_flagged: float = OPTIONS["warn_flagged"].usual
    max_unscored: float = OPTIONS["max_unscored"].usual
    max_rejected: float = OPTIONS["max_rejected"].usual
    min_power: float = OPTIONS["min_power"].usual

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            OPTIONS[name].check(limit)

    def looser_than(self, own: "GateLimits") -> dict[str, tuple[float, float]]:
        """The limits that let more through than `own` does: name to (here, there)."""
        pairs = {name: (limit, getattr(own, name)) for name, limit in vars(self).items()}
        return {
            name: (here, there)
            for name, (here, there) in pairs.items()
            if (here < there if name.startswith("min_") else here > there)
        }


@dataclass(frozen=True)
class GateCheck:
    """One check. `observed` and `limit` are plain JSON values; `message` is one sentence for a person."""

    name: str
    passed: bool
    severity: Literal["error", "warn"]
    observed: float | int | str
    limit: float | int | str
    message: str


def check_gate(
    verdicts: pa.Table,
    *,
    read: int,
    rejected: int,
    trust: Trust | None = None,
    limits: GateLimits | None = None,
    truncated: str = "",
    power: float | None = None,
) -> tuple[GateCheck, ...]:
    """All checks on one judged batch.

    `verdicts`: the verdict table. `read`, `rejected`: the source's rows, and those that could not be read.
    `trust`: given where the verdicts rest on the entropy threshold; adds a warning where that can't be relied on.
    `truncated`: how the source is cut short, "" where it is whole. `power`: share of the planted attacks that were
    found, None where none were planted; adds a check where the limits ask for one. A policy that watches rows adds a
    warning.
    """
    limits = limits or GateLimits()
    counts = count_verdicts(verdicts)
    rows = verdicts.num_rows
    flagged, unscored = (count / rows if rows else 0.0 for count in (counts.flagged, counts.unscored))
    lost = rejected / read if read else 0.0
    checks = [
        _at_most("flagged_fraction", "error", flagged, limits.max_flagged, "of the readable rows are flagged"),
        _at_most("flagged_fraction_warning", "warn", flagged, limits.warn_flagged, "of the readable rows are flagged"),
        _at_most("unscored_fraction", "error", unscored, limits.max_unscored, "of the readable rows have no score"),
        _at_most("rejected_fraction", "error", lost, limits.max_rejected, "of the rows read are no readable samples"),
        _none("entropy_in_range", _outside(verdicts["entropy"]), "entropies outside [0, 1]"),
        _none("unique_rows", rows - pc.count_distinct(verdicts["row"]).as_py(), "row numbers used twice"),
        _conserved(read, counts.clean, counts.flagged, counts.unscored, rejected),
        _whole(truncated),
    ]
    if WATCHED in verdicts.column_names:
        checks.append(_watched(verdicts))
    if limits.min_power > 0:
        checks.append(_powerful(power, limits.min_power))
    if trust is not None:
        fine = trust.verdict == "trustworthy"
        checks.append(GateCheck("score_trusted", fine, "warn", trust.verdict, "trustworthy", trust.message))
    return tuple(checks)


def gate_settings(limits: GateLimits, truncated: str = "") -> dict[str, Any]:
    """What a gate result is recorded under, beside the verdicts: the limits, and of a source cut short that it is.

    So the half of a file that has the same verdicts as another batch neither passes nor is accepted with it.
    """
    asked = {name: limit for name, limit in asdict(limits).items() if name != "min_power" or limit > 0}
    return asked | ({"truncated": truncated} if truncated else {})


def refusals(checks: Sequence[GateCheck]) -> tuple[GateCheck, ...]:
    """The failed checks of severity "error"."""
    return tuple(check for check in checks if not check.passed and check.severity == "error")


def gate_passed(checks: Sequence[GateCheck]) -> bool:
    return not refusals(checks)


def _at_most(name: str, severity: Literal["error", "warn"], observed: float, limit: float, what: str) -> GateCheck:
    return GateCheck(name, observed <= limit, severity, observed, limit, f"{observed:.1%} {what}, limit {limit:.1%}")


def _none(name: str, observed: int, what: str) -> GateCheck:
    return GateCheck(name, observed == 0, "error", observed, 0, f"{observed or 'no'} {what}")


def _powerful(power: float | None, limit: float) -> GateCheck:
    if power is None:
        said = f"no attacks were planted, so nothing says what this scan would have found; asked for: {limit:.0%}"
        return GateCheck("power", False, "error", "none", limit, said)
    message = f"{power:.0%} of the planted attacks of ten rows were found, asked for: {limit:.0%}"
    return GateCheck("power", power >= limit, "error", power, limit, message)


def _whole(truncated: str) -> GateCheck:
    message = f"the source is cut short: {truncated}" if truncated else "nothing shows that the source is cut short"
    return GateCheck("whole_source", not truncated, "error", "truncated" if truncated else "whole", "whole", message)


def _watched(verdicts: pa.Table) -> GateCheck:
    """Warns of rows that carry what nothing in the prompts explains and that stay clean: a person looks first."""
    rows = pc.sum(pc.and_(pc.fill_null(verdicts[WATCHED], False), pc.equal(verdicts["verdict"], "clean"))).as_py() or 0
    message = f"{rows or 'no'} rows are watched: kept, to be looked at before training on them"
    return GateCheck("nothing_watched", rows == 0, "warn", rows, 0, message)


def _outside(entropy: pa.ChunkedArray) -> int:
    """Entropies outside [0, 1]; NaN (unscored) is neither in nor out."""
    values = entropy.to_numpy()
    return int(np.count_nonzero((values < 0) | (values > 1)))


def _conserved(read: int, clean: int, flagged: int, unscored: int, rejected: int) -> GateCheck:
    total = clean + flagged + unscored + rejected
    sign = "=" if total == read else "≠"
    message = f"{read} rows read {sign} {clean} clean + {flagged} flagged + {unscored} unscored + {rejected} rejected"
    return GateCheck("rows_conserved", total == read, "error", total, read, message)
