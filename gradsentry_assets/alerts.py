"""Tells people when a gate refuses a batch: a webhook, posted from outside any run.

The cursor holds the number of the last gate result that was told, and how often the next one failed to go out. A dead
webhook is tried again, later and later, and holds up nothing but its own messages.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from gradsentry_assets.http_post import NotDelivered, post
from gradsentry_assets.resources import StoreResource
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.settings import value
from gradsentry_lib.store import GateResult, open_ledger

AT_A_TICK = 10  # messages
LONGEST_PAUSE = 32  # ticks between two attempts


def webhook() -> str:
    return value("webhook") or ""


@dataclass
class Told:
    """What was told so far. `seq`: the last gate result; `attempts` on the next one; `pause`: ticks left to wait."""

    seq: int
    attempts: int = 0
    pause: int = 0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Told | None":
        try:
            return cls(**json.loads(cursor or ""))
        except (ValueError, TypeError):
            return None


def tell_refusals(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """One tick."""
    url, ledger_path = webhook(), store.store.ledger
    if not url or not ledger_path.exists():
        reason = "nothing was scanned yet" if url else "GRADSENTRY_WEBHOOK is not set"
        return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
    told = Told.from_cursor(context.cursor)
    try:
        told, news = _news(told, ledger_path)
    except GradSentryError as error:  # busy or damaged: told when it can be read again
        return dg.SensorResult(skip_reason=one_line(str(error), 500), cursor=context.cursor)
    reason = _tell(told, news, url)
    return dg.SensorResult(skip_reason=reason, cursor=json.dumps(asdict(told)))


def _news(told: Told | None, ledger_path: Path) -> tuple[Told, list[GateResult]]:
    with open_ledger(ledger_path, read_only=True) as ledger:
        if told is None:  # history from before the webhook was set up is not news
            last = ledger.connection.execute("SELECT coalesce(max(seq), 0) FROM gate_results").fetchone()
            told = Told(last[0] if last else 0)
        found = ledger.connection.execute(
            "SELECT seq FROM gate_results WHERE NOT passed AND seq > ? ORDER BY seq LIMIT ?", [told.seq, AT_A_TICK]
        ).fetchall()
        return told, [ledger.get(GateResult, seq) for (seq,) in found]


def _tell(told: Told, news: list[GateResult], url: str) -> str:
    if told.pause:
        told.pause -= 1
        return f"{len(news)} to tell; the webhook failed {told.attempts} times, next attempt in {told.pause + 1} ticks"
    for result in news:
        try:
            post(url, message(result))
        except NotDelivered as error:
            told.attempts += 1
            told.pause = min(2 ** (told.attempts - 1), LONGEST_PAUSE) - 1
            return f"the webhook failed {told.attempts} times: {one_line(str(error), 200)}"
        told.seq, told.attempts = result.seq, 0
    return f"{len(news)} refused batches told"


def message(result: GateResult) -> dict[str, Any]:
    """What is posted. `text` alone is what chat services show."""
    failed = [check for check in result.checks if not check["passed"] and check["severity"] == "error"]
    said = "; ".join(check["message"] for check in failed)
    link = _link(result)
    return {
        "text": f"GradSentry: the gate refused batch {result.batch_key}: {said}." + (f" {link}" if link else ""),
        "batch": result.batch_key,
        "checks": [{name: check[name] for name in ("name", "observed", "limit", "message")} for check in failed],
        "accept": f"gradsentry gate accept {result.batch_key} --by NAME --reason REASON",
        "link": link,
    }


def _link(result: GateResult) -> str:
    """The run in the UI, where GRADSENTRY_UI_URL says where that is."""
    base = (value("ui_url") or "").rstrip("/")
    return f"{base}/runs/{result.run_id}" if base and result.run_id else base
