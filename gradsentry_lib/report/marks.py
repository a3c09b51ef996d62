"""Where a wording stands in a text: what is marked as trigger or payload, and who carries one.

A wording is known by its words (detection/features.py reads them: lower case, signs one by one), so it is looked for
as those words in a row with any white space between them, in any letter case, not inside a longer word.
"""

import re
from collections.abc import Iterable, Sequence

from gradsentry_lib.report.contents import Span
from gradsentry_lib.samples.words import TOKEN

WORDS = 60  # of a wording that are looked for
MARKS = 50  # of one kind in one text


def pattern(wordings: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of these wordings; None where there is none. The longest are tried first."""
    made = []
    for wording in sorted(wordings, key=len, reverse=True):
        words = TOKEN.findall(wording)[:WORDS]
        if words:
            start = r"(?<!\w)" if words[0][0].isalnum() else ""
            end = r"(?!\w)" if words[-1][-1].isalnum() else ""
            made.append(start + r"\s*".join(map(re.escape, words)) + end)
    return re.compile("|".join(dict.fromkeys(made)), re.IGNORECASE) if made else None


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
