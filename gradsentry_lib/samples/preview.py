"""How a source would be read, from its first rows and without a model: what `gradsentry formats` shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from gradsentry_lib.samples.observed import Observed, UnreadColumn
from gradsentry_lib.samples.sample import REJECTED, Reject, Sample, Turn
from gradsentry_lib.samples.source import Source

SHOWN = 3  # rows shown in full
LOOKED_AT = 1000  # rows read

# What each layout means: what is learnt, and who reads it so.
MEANING = {
    "prompt": "the answer is learnt, behind the prompt (TRL prompt-completion, Axolotl, most scripts)",
    "alpaca": "the output is learnt, behind instruction and input (Alpaca, LLaMA-Factory, Axolotl)",
    "chat": "every assistant turn is learnt that the row does not except (TRL, LLaMA-Factory, Axolotl, OpenAI)",
    "pair": "the chosen answer is learnt, the rejected one turned down, both scored (TRL DPO, LLaMA-Factory, OpenAI)",
    "text": "the text is learnt, or the answers in it where something marks them (TRL text, Axolotl completion)",
    "segments": "the segments labelled true are learnt (Axolotl input_output)",
}


@dataclass(frozen=True)
class Refused:
    """Rows refused for one reason; `first`: the line of the first, or its row number where there are no lines."""

    reason: str
    rows: int
    first: int


@dataclass(frozen=True)
class Preview:
    """`layout` is "" where no row can be read. `looked_at` = `readable` + the rows of `refused`; `more`: whether the
    source goes on behind them. `unread`, and all text of `rows`, is untrusted."""

    facts: Mapping[str, str]
    layout: str
    meaning: str
    looked_at: int
    more: bool
    readable: int
    rows: tuple[Sample, ...]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]
    unread: tuple[UnreadColumn, ...]


def preview(source: Source, limit: int = LOOKED_AT) -> Preview:
    """Reads the first `limit` rows."""
    observed = Observed()
    samples: list[Sample] = []
    refused: dict[str, list[int]] = {}
    readable = 0
    rows = source.rows(observed)
    for row in islice(rows, limit):
        if isinstance(row, Reject):
            first = row.line if row.line is not None else row.row
            refused.setdefault(row.reason, [0, first])[0] += 1
            continue
        readable += 1
        if len(samples) < SHOWN:
            samples.append(row)
    more = next(rows, None) is not None
    return Preview(
        facts=facts(source),
        layout=observed.layout,
        meaning=MEANING.get(observed.layout.partition(" ")[0], ""),
        looked_at=readable + sum(count for count, _ in refused.values()),
        more=more,
        readable=readable,
        rows=tuple(samples),
        refused=tuple(Refused(r, n, first) for r, (n, first) in sorted(refused.items(), key=lambda item: -item[1][0])),
        notes=observed.notes,
        unread=observed.unread,
    )


def facts(source: Source) -> dict[str, str]:
    """What is known of the file itself."""
    found = {"kind": source.kind, "named": source.suffix or "a folder"}
    for name in ("compression", "encoding", "separator"):
        if value := getattr(source, name, None):
            found[name] = {"\t": "tab"}.get(value, str(value))
    return found


def standing(turn: Turn) -> str:
    """What training does with a turn, in a word."""
    if turn.supervised:
        return "learnt"
    return "turned down" if turn.role == REJECTED else "read"
