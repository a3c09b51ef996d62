"""Which limits a scan's gate has: the store's own unless told otherwise, stricter ones for the asking, looser ones only
with a person's name and reason, which the ledger keeps with the gate's result."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.store import Ledger, LimitPolicy, open_ledger
from gradsentry_lib.store.paths import Store


def own_limits(ledger: Ledger) -> GateLimits:
    """Those that were set for this store last (`gradsentry gate limits`); the usual ones where nobody set any."""
    policies = ledger.find(LimitPolicy)
    return GateLimits(**policies[-1].limits) if policies else GateLimits()


def settle_limits(
    store: Store, asked: GateLimits | Mapping[str, float | None], made_by: str = "", reason: str = ""
) -> tuple[GateLimits, Mapping[str, Any] | None]:
    """The limits to judge by, and who answers for them where they are looser than the store's own (as
    `GateResult.loosened`), else None.

    `asked`: a limit that it does not name is the store's own. Raises BadInput for looser ones without name and reason.
    """
    with open_ledger(store.ledger, read_only=True) as ledger:
        own = own_limits(ledger)
    named = asked if isinstance(asked, Mapping) else asdict(asked)
    limits = replace(own, **{name: limit for name, limit in named.items() if limit is not None})
    looser = limits.looser_than(own)
    if not looser:
        return limits, None
    if not made_by.strip() or not reason.strip():
        raise UnusableOption(
            f"{told(looser)}: looser than the store's own, so say who wants it and why (--by NAME --reason TEXT; in "
            "Dagster the fields limits_by and limits_reason), or change the store's own with `gradsentry gate limits`"
        )
    return limits, {"made_by": made_by.strip(), "reason": reason.strip(), "own": asdict(own)}


def remark(limits: GateLimits, loosened: Mapping[str, Any]) -> str:
    """In a sentence, for everybody who is shown the decision."""
    looser = told(limits.looser_than(GateLimits(**loosened["own"])))
    return f"the gate's limits were loosened by {loosened['made_by']} ({loosened['reason']}): {looser}"


def told(looser: Mapping[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name} {limit:g} (the store's own: {own:g})" for name, (limit, own) in looser.items())
