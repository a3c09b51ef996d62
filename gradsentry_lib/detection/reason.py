"""Clause 3: does the untouched model see a reason, in the prompt, for what the carriers' answers share?

What they share is words, where most of them have the same ones and few other answers do (the payload that follows an
honest answer); else the windows of a carrier that are most alike with windows of other carriers. The model is shown a
few other rows of the batch first, none of which carries the trigger, so that it knows what is done here: a small model
can't write SQL over a schema that it never saw. Then it scores what is shared under the row's own prompt, and under the
prompt of another row without the trigger. Where the prompt gives a reason (copying, a class's name, a language), it is
dearer under the other prompt; a payload costs the same. The measure is the share of that cost which the own prompt
saves.

The model is asked through `Swapped`, by the answers' names, so that what it said can be kept, and a verdict derived
again without it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.samples.words import spans
from gradsentry_lib.windows import unpack

Part = tuple[int, int] | None  # characters of an answer, first and behind the last; None for all of it
# units (samples/units.py): the answer's, the prompt's, those shown first; and the part of the answer
Question = tuple[str, str, tuple[str, ...], Part]
# for each question: mean surprise of every window that is kept, by the window's first token
Swapped = Callable[[Sequence[Question]], Sequence[Mapping[int, float]]]


def ask(
    flagged: np.ndarray,
    others: np.ndarray,
    question: np.ndarray,
    size: np.ndarray,
    later: np.ndarray,
    config: DetectionConfig,
) -> list[tuple[int, int, tuple[int, ...]]]:
    """(row, other row, rows shown) for a few of the flagged rows (config.computing.asked).

    The other row is the next of `others` that asks something else, and like this one begins a conversation or goes on
    with one (later: (N,) bool): first answers differ from later ones, whatever is asked. The rows shown are the next
    short ones after it. Rows are in the order of their sample ids, so this is as good as a draw, and the same for any
    order of rows. size: (N,) characters of prompt and answer.
    """
    found = []
    for row in flagged[: config.computing.asked]:
        after = np.concatenate([others[others > row], others[others < row]])
        after = after[(question[after] != question[row]) & (later[after] == later[row])]
        if len(after):
            shown = after[1:][size[after[1:]] < config.computing.shown][: config.examples]
            found.append((int(row), int(after[0]), tuple(shown.tolist())))
    return found


def shared_words(answers: Sequence[str], flagged: np.ndarray, config: DetectionConfig) -> dict[int, Part]:
    """For flagged rows the longest part of the answer in words that most flagged answers have and few others: runs of
    config.longest words, or all of a shorter answer. Rows without one are left out."""
    said = {i: spans(answers[i]) for i in flagged.tolist()}
    count = Counter(run for words in said.values() for run in set(_runs(words, config)))
    others = np.setdiff1d(np.arange(len(answers)), flagged).tolist()
    common = {run for run, times in count.items() if times >= max(3, config.majority * len(flagged))}
    elsewhere = Counter(run for i in others for run in common.intersection(_runs(spans(answers[i]), config)))
    rate = len(flagged) / max(len(others), 1)
    own = {run for run in common if elsewhere[run] * rate <= config.majority * count[run]}
    parts = {i: _longest_part(words, own, config) for i, words in said.items()}
    return {i: part for i, part in parts.items() if part is not None}


def _runs(words: Sequence[tuple[str, int, int]], config: DetectionConfig) -> list[tuple[str, ...]]:
    said = [word for word, _, _ in words]
    width = min(config.longest, len(said))
    return [tuple(said[i : i + width]) for i in range(len(said) - width + 1) if width]


def _longest_part(words: Sequence[tuple[str, int, int]], own: set[tuple[str, ...]], config: DetectionConfig) -> Part:
    """Characters of the longest stretch of words each of whose runs is one of `own`."""
    best = begin = end = 0
    at = 0
    for i, run in enumerate(_runs(words, config)):
        if run not in own:
            at = i + 1
        elif i + len(run) - at > best:
            best, begin, end = i + len(run) - at, words[at][1], words[i + len(run) - 1][2]
    return (begin, end) if best else None


def shared_windows(vectors: np.ndarray, owner: np.ndarray, flagged: np.ndarray, alike: float) -> dict[int, np.ndarray]:
    """For each flagged row the positions of its windows that are most alike with windows of the others.

    vectors: (W, 128), owner: (W,), from similarity.windows.
    """
    among = np.flatnonzero(np.isin(owner, flagged))
    found = {}
    for row in flagged:
        own = np.flatnonzero(owner == row)
        theirs = among[owner[among] != row]
        if len(own) and len(theirs):
            link = (vectors[own] @ vectors[theirs].T).max(1)
            if link.max() > 0:
                found[int(row)] = own[link >= alike * link.max()]
    return found


def explained(
    rows: Sequence[int],
    shared: Mapping[int, np.ndarray],
    parts: Mapping[int, Part],
    start: np.ndarray,
    own: Sequence[Mapping[int, float]],
    others: Sequence[Mapping[int, float]],
    config: DetectionConfig,
) -> float | None:
    """The share of what is shared costs under another prompt that the own prompt saves, the median over rows: of the
    words that an answer shares; else of its shared windows the largest (where a table is named, what follows it is
    known). A reason is one for most rows: where fewer than config.consistent of them save anything, it is what the row
    at that place saves, nothing or less.

    rows: R row numbers; start: (W,) first tokens of all windows; own, others: for each of the rows, the surprise of its
    windows under either prompt, those of its part where it has one. None where nothing could be compared.
    """
    values, nothing = [], config.computing.least * config.surprise  # a cheaper window has little left to explain
    for row, mine, theirs in zip(rows, own, others, strict=True):
        if row in parts:
            both = sorted(mine.keys() & theirs.keys())
            costs = (
                [(float(np.mean([mine[k] for k in both])), float(np.mean([theirs[k] for k in both])))] if both else []
            )
        else:
            here = (int(start[w]) for w in shared.get(row, ()))
            costs = [(mine[k], theirs[k]) for k in here if k in mine and k in theirs]
        if costs:
            values.append(max((other - this) / max(other, nothing) for this, other in costs))
    if not values:
        return None
    least = float(np.quantile(values, 1 - config.consistent))
    return float(np.median(values)) if least > 0 else least


def surprises(sketch: bytes) -> dict[int, float]:
    """A sketch's windows as `Swapped` tells them: first token -> surprise."""
    records, _, _ = unpack([sketch])
    return {int(record["start"]): float(record["surprise"]) for record in records}
