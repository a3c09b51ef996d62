"""One self-contained HTML page a scan: no network, hostile text stays text.

Four locks, each enough by itself for what it guards: every value that the template writes is made visible and escaped
by the environment, not by the template's author; the content security policy allows no request, and no script and no
style but the page's own, by their hashes; the page's script writes text as text nodes alone, and trusted types forbid
the rest; nothing untrusted is ever an attribute that acts, a link or a style.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gradsentry_lib.detection.gate import gate_passed
from gradsentry_lib.report.charts import distribution_svg, length_svg, sample_points
from gradsentry_lib.report.contents import Card, Contents, Counts
from gradsentry_lib.report.escape import clip, visible
from gradsentry_lib.report.excerpt import shown_turns

if TYPE_CHECKING:
    from jinja2 import Environment

LARGEST_LIST = 200  # rejects shown with their text
_HERE = Path(__file__).parent


def render_page(contents: Contents) -> str:
    """The page as text. Everything that `contents` leaves out is left out of the page."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    data = data_json(contents)
    page = _environment().get_template("page.html")
    return page.render(
        c=contents,
        style=Markup(style),
        script=Markup(script),
        data=Markup(data),
        policy=Markup(security_policy(style, script, contents.review.served)),
        headline=_headline(contents),
        refused=_refused(contents),
        entropy_decides=contents.policy == "paper",
        attacks=[(n, card) for n, card in enumerate(contents.cards) if not card.watched],
        watched=[(n, card) for n, card in enumerate(contents.cards) if card.watched],
        distribution=_distribution(contents),
        lengths=_lengths(contents),
        rejected=contents.rejected[:LARGEST_LIST],
    )


def render_index(batches: Sequence[Any], by: str) -> str:
    """The page of all batches (review/batches.py). `by`: who decides, "" where nobody may."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    page = _environment().get_template("index.html")
    return page.render(batches=batches, by=by, style=Markup(style), policy=Markup(security_policy(style, "", False)))


def security_policy(style: str, script: str, served: bool) -> str:
    """`served`: the page may ask the server that it came from."""
    asks = "connect-src 'self'; " if served else ""
    return (
        f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; {asks}"
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def data_json(contents: Contents) -> str:
    """What the script works on. It stands in the page as data, so no `<` may be in it."""
    review = asdict(contents.review)
    words = {sample: [visible(part, keep_lines=False) for part in said] for sample, said in review["words"].items()}
    told = {
        **review,
        "words": words,
        "batch": contents.batch,
        "groups": [_title(n, card) for n, card in enumerate(contents.cards)],
        "rows": contents.rows,
        "listed": max(contents.listed, len(contents.rows)),
        "redacted": contents.redacted,
    }
    stands = {name: told[name] for name in ("batch", "decision", "verdicts_sha256", "words_digest", "groups", "rows")}
    told["page"] = hashlib.sha256(_json(stands).encode("utf-8", "replace")).hexdigest()
    return _json(told).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _title(number: int, card: Card) -> dict[str, Any]:
    """How a group is called in the list of rows."""
    what = clip(visible(" or ".join(card.wordings), keep_lines=False), 60)
    return {"name": _letter(number), "what": what, "rows": card.rows, "watched": card.watched}


def _letter(number: int) -> str:
    """A, B, ..., Z, A1, B1, ..."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # a scan made before needs no page

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
    )
    environment.filters |= {
        "count": "{:,}".format,
        "letter": _letter,
        "shown_turns": shown_turns,
        "shares": _shares,
        "number": _number,
        "clip": clip,
    }
    return environment


def _headline(contents: Contents) -> str:
    """The verdict in one sentence."""
    counts = contents.counts
    removed = counts.flagged + counts.unscored
    if _refused(contents):
        return "Refused: nothing was published as clean"
    watched = f"; {contents.watched:,} more are watched and kept" if contents.watched else ""
    if removed == 0:
        return f"Nothing removed{watched}"
    attacks = [card for card in contents.cards if not card.watched]
    rows = sum(card.rows for card in attacks)
    one = len(attacks) == 1
    like = "looks like an attack" if one else "look like attacks"
    look = f": {len(attacks)} group{'' if one else 's'} of {rows:,} rows {like}"
    return f"{removed:,} of {counts.read - counts.rejected:,} readable rows removed{look if attacks else ''}{watched}"


def _refused(contents: Contents) -> bool:
    return not gate_passed(contents.checks) and not contents.accepted


def _distribution(contents: Contents) -> Markup | None:
    if contents.threshold is None or contents.points is None:
        return None
    return distribution_svg(contents.points.entropy, contents.threshold)


def _lengths(contents: Contents) -> dict[str, Any] | None:
    """The scatter, and how many of how many rows it shows."""
    if contents.points is None or contents.points.entropy.size == 0:
        return None
    shown = sample_points(contents.points)
    tau = contents.threshold.tau if contents.threshold else None
    return {"svg": length_svg(contents.points, tau), "shown": shown.size, "rows": contents.points.entropy.size}


def _shares(counts: Counts) -> list[tuple[str, float, float]]:
    """The headline bar: (kind, start, width) in percent of the rows read; a kind with rows is never too thin to see."""
    rows = [(kind, getattr(counts, kind)) for kind in ("clean", "flagged", "unscored", "rejected")]
    widths = [max(100 * n / max(counts.read, 1), 0.4 if n else 0) for _, n in rows]
    total = sum(widths) or 1
    out, start = [], 0.0
    for (kind, _), width in zip(rows, widths, strict=True):
        out.append((kind, round(start, 2), round(100 * width / total, 2)))
        start += 100 * width / total
    return out


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"
