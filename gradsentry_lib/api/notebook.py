"""How a notebook shows a result: counts, gate, groups, the first flagged rows. Every text of the data is escaped."""

from typing import TYPE_CHECKING

from markupsafe import Markup

from gradsentry_lib.detection.verdict import NO_TRIGGER
from gradsentry_lib.report.escape import clip, html

if TYPE_CHECKING:
    from gradsentry_lib.api.result import Result

SHOWN = 5  # groups of a kind, flagged rows
EXCERPT = 200  # characters of a text


def as_html(result: "Result") -> str:
    gate = result.gate
    colour = "#1a7f37" if gate else "#b42318"
    cells = [Markup("<th style='padding-right:1.5em'>{}</th>").format(name) for name in result.counts]
    numbers = [Markup("<td>{}</td>").format(f"{rows:,}") for rows in result.counts.values()]
    parts = [
        Markup("<div><b>GradSentry</b> {} <b style='color:{}'>gate {}</b></div>").format(
            _text(result.batch), colour, _text(gate.status)
        ),
        Markup("<table><tr>{}</tr><tr>{}</tr></table>").format(Markup("").join(cells), Markup("").join(numbers)),
        _list([check.message for check in (*gate.failed, *gate.warnings)]),
        _list([_group(g.rows, g.payload, g.trigger, "look like one attack") for g in result.groups[:SHOWN]]),
        _list([_group(g.rows, g.payload, g.trigger, "watched, not flagged") for g in result.watched[:SHOWN]]),
        _flagged(result),
        _list([result.power.sentences()[0]] if result.power is not None else []),
        _list(list(result.remarks)),
    ]
    return str(Markup("").join(parts))


def _group(rows: tuple[int, ...], payload: str, trigger: str, what: str) -> str:
    return f"{len(rows):,} rows {what}: answers share {payload or 'no wording'}; prompts hold {trigger or NO_TRIGGER}"


def _flagged(result: "Result") -> Markup:
    rows = result.top_flagged(SHOWN).to_pylist()
    if not rows:
        return Markup("")
    head = Markup("<tr><th>row</th><th>entropy</th><th style='text-align:left'>why</th></tr>")
    line = Markup("<tr><td>{}</td><td>{:.3f}</td><td style='text-align:left'>{}</td></tr>")
    body = Markup("").join(line.format(row["row"], row["entropy"], _text("; ".join(row["reasons"]))) for row in rows)
    return Markup("<table>{}{}</table>").format(head, body)


def _list(texts: list[str]) -> Markup:
    items = Markup("").join(Markup("<li>{}</li>").format(_text(text)) for text in texts)
    return Markup("<ul>{}</ul>").format(items) if items else Markup("")


def _text(text: str) -> Markup:
    return html(clip(text, EXCERPT * 3))
