"""One self-contained HTML page a scan: no script, no network, hostile text stays text.

Three locks, each enough by itself for what it guards: every value that the template writes is made visible and
escaped by the environment, not by the template's author; the content security policy allows no script, no request and
no style but the page's own, by its hash; nothing untrusted is ever an attribute, a link or a style.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gradsentry_lib.detection.gate import gate_passed
from gradsentry_lib.report.charts import distribution_svg, length_svg, sample_points
from gradsentry_lib.report.contents import Contents, Counts
from gradsentry_lib.report.escape import clip, visible
from gradsentry_lib.report.excerpt import shown_turns

LARGEST_LIST = 200  # flagged rows, unscored rows and rejects shown with their text
_HERE = Path(__file__).parent


def render_page(contents: Contents) -> str:
    """The page as text. Everything that `contents` leaves out is left out of the page."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    page = _environment().get_template("page.html")
    return page.render(
        c=contents,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        headline=_headline(contents),
        refused=_refused(contents),
        distribution=_distribution(contents),
        lengths=_lengths(contents),
        rows=contents.rows[:LARGEST_LIST],
        unscored=contents.unscored[:LARGEST_LIST],
        rejected=contents.rejected[:LARGEST_LIST],
    )


def _environment() -> Environment:
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
        "shown_turns": shown_turns,
        "shares": _shares,
        "number": _number,
        "clip": clip,
    }
    return environment


def _headline(contents: Contents) -> str:
    counts = contents.counts
    removed = counts.flagged + counts.unscored
    if _refused(contents):
        return "Refused: nothing was published as clean"
    if removed == 0:
        return "Nothing removed"
    return f"{removed:,} of {counts.read - counts.rejected:,} readable rows removed"


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
