"""Pages that leave the house: no text of the data set, only lengths, digests and marks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from gradsentry_lib.report.contents import Card, Contents, Reading, RejectedRow
from gradsentry_lib.report.rows import hidden, redacted

PRIVATE = ("source", "host", "user")  # of the provenance


def redact(contents: Contents) -> Contents:
    """The same page without text: whoever has the data finds a text again by its digest, nobody else reads it.

    Sentences of the detection quote the data, and people's reasons may: they are hidden as well.
    """
    words = {
        sample: (action, hidden(by), when, hidden(reason), scope)
        for sample, (action, by, when, reason, scope) in contents.review.words.items()
    }
    rejected = [RejectedRow(r.row, r.line, hidden(r.reason), hidden(r.excerpt)) for r in contents.rejected]
    return replace(
        contents,
        redacted=True,
        source=hidden(contents.source),
        remarks=tuple(map(hidden, contents.remarks)),
        accepted=hidden(contents.accepted),
        cards=tuple(map(_card, contents.cards)),
        rows=tuple(redacted(row) for row in contents.rows),
        unscored=_counted(contents.unscored),
        refused_rows=_counted(contents.refused_rows),
        rejected=tuple(rejected),
        reading=Reading(hidden(contents.reading.layout)) if contents.reading else None,
        review=replace(contents.review, words=words),
        provenance={name: value for name, value in contents.provenance.items() if name not in PRIVATE},
    )


def _card(card: Card) -> Card:
    return replace(
        card,
        payload=hidden(card.payload),
        wordings=tuple(map(hidden, card.wordings)),
        variants=tuple(map(hidden, card.variants)),
        examples=tuple(redacted(row) for row in card.examples),
        without=tuple(redacted(row) for row in card.without),
    )


def _counted(reasons: Mapping[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for reason, rows in reasons.items():
        found[hidden(reason)] += rows
    return dict(found)
