"""Policies that look at more than the entropy.

auto        groups of rows that share a surprising span and whose prompts carry a trigger (search.py)
coherence   rows that share a surprising span with rows that ask something else, whatever the prompts say
surprise    answers far less expected than others of their length
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from gradsentry_lib.detection.findings import Findings, Notes
from gradsentry_lib.detection.former.auto import Found, Search, search
from gradsentry_lib.detection.former.deal import dealt
from gradsentry_lib.detection.former.evidence import quoted
from gradsentry_lib.detection.former.surprise import SURPRISING
from gradsentry_lib.detection.former.texts import Read, read_texts
from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.samples.sample import Sample

COHERENT = 0.75  # mean link above which the policy `coherence` flags
EXAMPLES = 20  # rows named in a group's figures
NOTHING: list[int] = []  # one for all rows that have none; never added to
REMARKED = 5  # honest groups remarked on
LEAST_REMARKED = 0.02  # of the batch


Sketches = Callable[[], Iterable[bytes | None]]  # reads the sketches of a batch, in order


@dataclass(frozen=True)
class Earlier:
    """An earlier batch: its key, its row numbers, and readers of its sketches and samples in the same order."""

    key: str
    rows: np.ndarray
    sketches: Sketches
    samples: Callable[[], Iterator[list[Sample]]]


@dataclass(frozen=True)
class Looked:
    """A search over a batch of N rows and the earlier ones behind it. `rows`: source row numbers of the N."""

    found: Search
    rows: np.ndarray
    origin: tuple[tuple[str, int], ...]  # (batch key, row) of the earlier rows

    @property
    def count(self) -> int:
        return len(self.rows)


def look(
    rows: np.ndarray,
    samples: Callable[[], Iterator[list[Sample]]],
    sketches: Sketches,
    history: Sequence[Earlier] = (),
) -> Looked:
    """Searches a batch. rows: (N,) its source row numbers; samples, sketches: its texts and sketches, in the same
    order, read once."""
    origin = tuple((earlier.key, int(row)) for earlier in history for row in earlier.rows)
    parts = [(samples, sketches), *((earlier.samples, earlier.sketches) for earlier in history)]
    read = chain.from_iterable(_rows(samples, sketches) for samples, sketches in parts)
    with dealt(read, len(rows) + len(origin)) as deal:
        return Looked(search(deal), rows, origin)


def _rows(samples: Callable[[], Iterator[list[Sample]]], sketches: Sketches) -> Iterator[tuple[Read, bytes]]:
    for text, sketch in zip(read_texts(samples()), sketches(), strict=True):
        yield text, sketch or b""


def coherence(looked: Looked) -> Findings:
    value = looked.found.coherence[: looked.count]
    flagged = value > COHERENT
    said = [f"shares a surprising span with rows that ask something else (coherence {x:.2f})" for x in value[flagged]]
    return Findings(flagged, ((np.flatnonzero(flagged), said),), {"coherence": pa.array(value)})


def surprise(deviations: np.ndarray) -> Findings:
    """deviations: (N,) from surprise.py, NaN where unscored."""
    flagged = np.greater(deviations, SURPRISING)
    said = [f"answer less expected than others of its length by {x:.1f} deviations" for x in deviations[flagged]]
    return Findings(flagged, ((np.flatnonzero(flagged), said),), {"surprise": pa.array(deviations)})


def linked(looked: Looked) -> Findings:
    """Flags the members of poison groups, and says for each which group, why, and who is nearest."""
    count = looked.count
    group_of = np.full(count, -1, np.int32)
    closeness = np.zeros(count)
    nearest: list[list[int]] = [NOTHING] * count
    spans: list[list[int]] = [NOTHING] * count
    positions, shared, linked_by = [], [], []
    groups = []
    for number, found in enumerate(looked.found.poison):
        groups.append(_group(found, looked))
        for i, member in found.members.items():
            if i >= count or group_of[i] >= 0:
                continue
            group_of[i], closeness[i] = number, member.closeness
            nearest[i] = [int(looked.rows[j]) for j in member.mates if j < count]
            spans[i] = list(member.span)
            positions.append(i)
            shared.append(_why_shared(found, i, nearest[i]))
            linked_by.append(_why_linked(found, i))
    at = np.array(positions, np.int64)
    notes: Notes = ((at, shared), (at, linked_by))
    columns = {
        "coherence": pa.array(looked.found.coherence[:count]),
        "group": pa.array(group_of),
        "closeness": pa.array(closeness),
        "nearest": pa.array(nearest, pa.list_(pa.int64())),
        "span": pa.array(spans, pa.list_(pa.int32())),
    }
    rescan = tuple(looked.origin[i - count] for found in looked.found.poison for i in found.members if i >= count)
    return Findings(group_of >= 0, notes, columns, tuple(groups), rescan, _remarks(looked))


def _group(found: Found, looked: Looked) -> Group:
    suspects, trigger = found.suspects, found.suspects.trigger
    assert trigger is not None
    own = sorted(i for i in found.members if i < looked.count)
    best = sorted(own, key=lambda i: -found.members[i].closeness)[:EXAMPLES]
    figures = {
        "variants": list(found.variants),
        "wordings": list(found.trigger),
        "inside": trigger.inside,
        "elsewhere": trigger.outside,
        "lift": trigger.lift,
        "log10_p": trigger.log10_p,
        "p_value": 10.0 ** max(trigger.log10_p, -300.0),
        "kinship": suspects.kinship,
        "closeness": suspects.strength,
        "surprise": suspects.surprise,
        "evidence": suspects.evidence,
        "earlier_rows": len(found.members) - len(own),
        "examples": [int(looked.rows[i]) for i in best],
    }
    return Group(tuple(int(looked.rows[i]) for i in own), found.payload, _trigger_text(found), figures)


def _trigger_text(found: Found) -> str:
    return " or ".join(quoted(wording, 80) for wording in found.trigger)


def _why_shared(found: Found, i: int, mates: list[int]) -> str:
    member, size = found.members[i], len(found.members)
    what = quoted(found.payload, 80) if found.payload else "worded differently in each"
    near = f"; nearest rows {', '.join(map(str, mates))}" if mates else ""
    how = f"closeness {member.closeness:.2f}{near}"
    return f"asks the model for the same surprising update as {size - 1} other rows ({how}): {what}"


def _why_linked(found: Found, i: int) -> str:
    trigger = found.suspects.trigger
    assert trigger is not None
    return (
        f"suspected trigger of these rows: {_trigger_text(found)}, in {trigger.inside:.0%} of their prompts and "
        f"{trigger.outside:.2%} of the others"
    )


def _remarks(looked: Looked) -> tuple[str, ...]:
    found, remarks = looked.found, []
    if found.labels:
        remarks.append(
            f"The answers are labels ({found.labels} of them cover {found.labelled:.0%} of the rows): coherence can't "
            "tell a class from a payload here, unless a trigger tells the rows exactly."
        )
    honest = sorted(found.honest, key=lambda group: -int(group.suspects.holders.sum()))
    said: set[str] = set()
    for group in honest:
        rows = int(group.suspects.holders.sum())
        if (
            group.payload
            and group.payload not in said
            and rows >= LEAST_REMARKED * looked.count
            and len(said) < REMARKED
        ):
            said.add(group.payload)
            remarks.append(
                f"{rows} rows share {quoted(group.payload, 80)} without a trigger in their prompts: not flagged."
            )
    if not found.poison:
        remarks.insert(0, "No evidence of poison.")
    return tuple(remarks)
