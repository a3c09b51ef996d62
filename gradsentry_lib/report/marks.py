"""Where a wording stands in a text: what is marked as trigger or payload."""

import re
from collections.abc import Sequence

from gradsentry_lib.report.contents import Span

MARKS = 50  # of one kind in one text


def find_marks(
    turns: Sequence[str], payload: re.Pattern[str] | None, trigger: re.Pattern[str] | None
) -> tuple[Span, ...]:
    """The marks of a row's turns, in order. Where both kinds overlap the payload is marked."""
    found = []
    for number, text in enumerate(turns):
        taken: list[tuple[int, int]] = []
        for kind, wanted in (("payload", payload), ("trigger", trigger)):
            if wanted is None:
                continue
            for at, match in enumerate(wanted.finditer(text)):
                if at == MARKS:
                    break
                start, end = match.span()
                if start < end and not any(start < b and a < end for a, b in taken):
                    taken.append((start, end))
                    found.append(Span(number, start, end, kind))
    return tuple(sorted(found, key=lambda span: (span.turn, span.start)))
