"""The parts of a row worth showing: the start, what surrounds each suspicious span, and how much was left out."""

from dataclasses import dataclass
from typing import Literal

from gradsentry_lib.report.contents import Row, Span

START = 600  # characters shown of a text without spans
LEAD = 240  # characters shown from the start of a text with spans
AROUND = 200  # characters shown on either side of a span
LONGEST = 1_200  # characters shown of one span
NEAR = 80  # a gap below this is shown rather than announced
OUTER_TURNS = 3  # turns shown from either end of a long chat; those with spans always


@dataclass(frozen=True)
class Piece:
    """`text` to show plainly or marked (`mark` says as what); or, for "cut", how many characters were left out."""

    kind: Literal["text", "mark", "cut"]
    text: str = ""
    characters: int = 0
    mark: str = ""


@dataclass(frozen=True)
class ShownTurn:
    """A turn's pieces; or, where `skipped` is set, that many turns left out here."""

    role: str = ""
    pieces: tuple[Piece, ...] = ()
    skipped: int = 0


def shown_turns(row: Row) -> list[ShownTurn]:
    """What to show of a row's turns."""
    last = len(row.turns)
    spanned = {span.turn for span in row.spans}
    shown: list[ShownTurn] = []
    skipped = 0
    for i, (role, text) in enumerate(row.turns):
        if OUTER_TURNS <= i < last - OUTER_TURNS and i not in spanned:
            skipped += 1
            continue
        if skipped:
            shown.append(ShownTurn(skipped=skipped))
            skipped = 0
        shown.append(ShownTurn(role, tuple(pieces(text, [span for span in row.spans if span.turn == i]))))
    return shown


def pieces(text: str, spans: list[Span]) -> list[Piece]:
    """The shown parts of one text, in order; their texts and cut lengths add up to the text."""
    marks = _marks(text, spans)
    kept = [(0, LEAD if marks else START)]
    for start, end, _ in marks:
        kept.append((start - AROUND, min(end, start + LONGEST) + AROUND))
    kept = _joined([(max(start, 0), min(end, len(text))) for start, end in kept], NEAR)
    if kept and len(text) - kept[-1][1] < NEAR:
        kept[-1] = (kept[-1][0], len(text))
    out: list[Piece] = []
    position = 0
    for start, end in kept:
        if start > position:
            out.append(Piece("cut", characters=start - position))
        out += _split(text, start, end, marks)
        position = end
    if position < len(text):
        out.append(Piece("cut", characters=len(text) - position))
    return out


def whole(text: str, spans: list[Span]) -> list[Piece]:
    """All of a text, with its marks."""
    return _split(text, 0, len(text), _marks(text, spans))


def _marks(text: str, spans: list[Span]) -> list[tuple[int, int, str]]:
    """(start, end, kind), in order; those of a kind that touch made one."""
    found = []
    for kind in dict.fromkeys(span.kind for span in spans):
        own = [(max(span.start, 0), min(span.end, len(text))) for span in spans if span.kind == kind]
        found += [(start, end, kind) for start, end in _joined(own, 0)]
    return sorted(found)


def _joined(ranges: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Non-empty ranges, sorted, those less than `gap` apart (or touching) made one."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if out and start - out[-1][1] <= gap:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _split(text: str, start: int, end: int, marks: list[tuple[int, int, str]]) -> list[Piece]:
    """text[start:end] as plain and marked pieces."""
    out: list[Piece] = []
    for first, last, kind in marks:
        first, last = max(first, start), min(last, end)
        if first >= last:
            continue
        if first > start:
            out.append(Piece("text", text[start:first]))
        out.append(Piece("mark", text[first:last], mark=kind))
        start = last
    if start < end:
        out.append(Piece("text", text[start:end]))
    return out
