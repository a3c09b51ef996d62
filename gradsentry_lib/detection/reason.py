"""Clause 3: does the untouched model see a reason, in the prompt, for what the carriers' answers share?

Looked at are the windows of a carrier that are most alike with windows of other carriers. The model is shown a few
other rows of the batch first, none of which carries the trigger, so that it knows what is done here: a small model
can't write SQL over a schema that it never saw. Then it scores the answer under its own prompt, and under the prompt
of another row without the trigger. Where the prompt gives a reason (copying, a class's name, a language), the shared
windows, or one of them, are dearer under the other prompt; a payload costs the same. The measure is the share of that
cost which the own prompt saves. A window may hold a piece of the honest answer beside a payload, and is dearer for that
piece; so of a word that nothing else in the prompts goes with the window that most of the others share must be dearer
too.

The model is asked through `Swapped`, by the answers' names, so that what it said can be kept, and a verdict derived
again without it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.similarity import GRAIN
from gradsentry_lib.windows import unpack

Question = tuple[str, str, tuple[str, ...]]  # units (samples/units.py): the answer's, the prompt's, those shown first
# for each question: mean surprise of every window that is kept, by the window's first token
Swapped = Callable[[Sequence[Question]], Sequence[Mapping[int, float]]]
Said = dict[Question, Mapping[int, float]]  # what a model answered; ids are of contents, so it holds in any batch


def ask(
    flagged: np.ndarray,
    others: np.ndarray,
    same: Sequence[np.ndarray],
    size: np.ndarray,
    later: np.ndarray,
    config: DetectionConfig,
) -> list[tuple[int, int, tuple[int, ...]]]:
    """(row, other row, rows shown) for a few of the flagged rows (config.computing.asked).

    The other row is the next of `others` that asks something else in another conversation (same: (N,) numbers each),
    which may hold this very answer, and like this one begins a conversation or goes on with one (later: (N,) bool):
    first answers differ from later ones, whatever is asked. The rows shown are the next
    short ones after it, then the next long ones (of which the end is shown). Rows are in the order of their sample ids,
    so this is as good as a draw, and the same for any order of rows. size: (N,) characters of prompt and answer.
    """
    found = []
    for row in flagged[: config.computing.asked]:
        after = np.concatenate([others[others > row], others[others < row]])
        after = after[later[after] == later[row]]
        for group in same:
            after = after[group[after] != group[row]]
        if len(after):
            rest = after[1:]
            short = size[rest] < config.computing.shown
            shown = np.concatenate([rest[short], rest[~short]])[: config.computing.examples]
            found.append((int(row), int(after[0]), tuple(shown.tolist())))
    return found


def shared_windows(
    vectors: np.ndarray, owner: np.ndarray, flagged: np.ndarray, rows: Sequence[int], alike: float
) -> dict[int, np.ndarray]:
    """For each of `rows` the positions of its windows that are most alike with windows of the other flagged rows.

    vectors: (W, 128), owner: (W,), from similarity.windows; rows: some of `flagged`.
    """
    linked = ((row, own, link.max(1)) for row, own, link, _ in _linked(vectors, owner, flagged, rows))
    return {row: own[link >= alike * link.max()] for row, own, link in linked if link.max() > 0}


def commonest_window(
    vectors: np.ndarray, owner: np.ndarray, flagged: np.ndarray, rows: Sequence[int], nearest: int
) -> dict[int, int]:
    """For each of `rows` the position of its window that most of the others share: the largest mean link to so many
    of their nearest windows, one a row. Shapes as above; links are rounded, so that every machine takes the same."""
    found = {}
    for row, own, link, theirs in _linked(vectors, owner, flagged, rows):
        each = np.maximum.reduceat(np.round(link * GRAIN), np.unique(theirs, return_index=True)[1], axis=1)
        found[row] = int(own[np.sort(each, axis=1)[:, -nearest:].sum(1).argmax()])
    return found


def _linked(
    vectors: np.ndarray, owner: np.ndarray, flagged: np.ndarray, rows: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each of `rows` that can be compared: its windows (n,), their links to those of the other flagged rows (n, m),
    and whose those are (m,)."""
    among = np.flatnonzero(np.isin(owner, flagged))
    for row in rows:
        own, theirs = np.flatnonzero(owner == row), among[owner[among] != row]
        if len(own) and len(theirs):
            yield int(row), own, vectors[own] @ vectors[theirs].T, owner[theirs]


@dataclass(frozen=True)
class Reason:
    """What the own prompts save, as shares of what a window costs under the others.

    saved: of a row's shared windows the largest (where a table is named, what follows it is known), the median over
    rows. A reason is one for most rows: where fewer than config.consistent of them save anything, it is what the row at
    that place saves, nothing or less. left: what the shared windows still cost under the own prompts, against plain
    text, the median over rows. common: what config.consistent of the rows save at least of their commonest window.
    """

    saved: float
    left: float
    common: float
    typical: float


def explained(
    rows: Sequence[int],
    shared: Mapping[int, np.ndarray],
    commonest: Mapping[int, int],
    start: np.ndarray,
    own: Sequence[Mapping[int, float]],
    others: Sequence[Mapping[int, float]],
    config: DetectionConfig,
) -> Reason | None:
    """rows: R row numbers; shared, commonest: from the functions above; start: (W,) first tokens of all windows; own,
    others: for each of the rows, the surprise of its windows under either prompt. None where nothing could be compared.
    """
    values, left, common = [], [], []
    nothing = config.computing.least * config.surprise  # a cheaper window has little left to explain
    for row, mine, theirs in zip(rows, own, others, strict=True):
        saves = {k: (theirs[k] - mine[k]) / max(theirs[k], nothing) for k in mine.keys() & theirs.keys()}
        both = [k for w in shared.get(row, ()) if (k := int(start[w])) in saves]
        if both:
            values.append(max(saves[k] for k in both))
            left.append(float(np.mean([mine[k] for k in both])))
        if row in commonest and (k := int(start[commonest[row]])) in saves:
            common.append(saves[k])
    if not values:
        return None
    least = float(np.quantile(values, 1 - config.consistent))
    saved = float(np.median(values)) if least > 0 else least
    shared_by_most = common or values
    least_common = float(np.quantile(shared_by_most, 1 - config.consistent))
    return Reason(saved, float(np.median(left)), least_common, float(np.median(shared_by_most)))


def answered(ask: Swapped, questions: Sequence[Question], said: Said) -> list[Mapping[int, float]]:
    """What a model says, asked only what is not in `said` yet, which remembers the rest."""
    new = [asked for asked in dict.fromkeys(questions) if asked not in said]
    if new:
        said |= dict(zip(new, ask(new), strict=True))
    return [said[asked] for asked in questions]


def seen(reason: Reason | None, config: DetectionConfig) -> bool:
    """Whether the model sees a reason for what most of some rows share, not only for what stands beside it, in as many
    rows as a reason must be one for."""
    return reason is not None and min(reason.saved, reason.common) >= config.reason


def unseen(reason: Reason | None, config: DetectionConfig) -> bool:
    """Whether it sees none, and what they share is surprising: rows that answer as a proven trigger's do, without its
    words."""
    return reason is not None and reason.left > config.instruction[0] and reason.typical < config.reason


def unprompted(reason: Reason | None, config: DetectionConfig) -> bool:
    """Whether what they share is surprising and costs the same under any prompt, no less and no more: answers that are
    alike without a trigger that could be proven."""
    if reason is None or reason.left <= config.surprise:
        return False
    return reason.typical < config.reason and reason.common > -config.reason


def surprises(sketch: bytes) -> dict[int, float]:
    """A sketch's windows as `Swapped` tells them: first token -> surprise."""
    records, _, _ = unpack([sketch])
    return {int(record["start"]): float(record["surprise"]) for record in records}
