"""Loops over single rows, compiled (numba): each step is a few dozen links or words, so that by arrays most of the time
goes into calling for them, and other threads stand still meanwhile. Numbers of rows and words are unsigned: such are
looked up twice as fast, for none is counted from the end.

Imported where they are called: numba takes a third of a second to import, and a few to compile them for the first time.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Without the interpreter's lock; kept on disk from the first time on, where there is a place for it."""
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # neither the package's folder nor the user's own can be written to
        return cast(Function, numba.njit(nogil=True)(function))


@compiled
def add_curvature(
    ends: np.ndarray, words: np.ndarray, said: np.ndarray, bent: np.ndarray, along: np.ndarray, found: np.ndarray
) -> None:
    """Adds (bent * (along z')) z to `found` (K, D). ends, words, said: the indptr, indices and data of z (N, D); bent:
    (K, N); along: (K, D)."""
    for k in range(len(along)):
        for i in range(bent.shape[1]):
            odds = 0.0
            for at in range(ends[i], ends[i + 1]):
                odds += said[at] * along[k, words[at]]
            odds *= bent[k, i]
            for at in range(ends[i], ends[i + 1]):
                found[k, words[at]] += said[at] * odds


@compiled
def add_pairs(kernel: np.ndarray, sets: np.ndarray, found: np.ndarray) -> None:
    """Adds each set's sum over all pairs of its rows. sets: (B, n); found: (B,)."""
    for b in range(len(sets)):
        rows = sets[b]
        total = 0 * kernel[0, 0]  # of whole numbers exactly
        for i in range(len(rows)):
            for k in range(i + 1, len(rows)):
                total += kernel[rows[i], rows[k]]
        found[b] += 2 * total


@compiled
def holds(rows: np.ndarray, row: int) -> bool:
    for k in range(len(rows)):  # noqa: SIM110 (nothing else is compiled)
        if rows[k] == row:
            return True
    return False


@compiled
def move_quadratic(
    kernel: np.ndarray,
    expected: np.ndarray,
    level: float,
    place: np.ndarray,
    new: np.ndarray,
    sets: np.ndarray,
    said: np.ndarray,
) -> None:
    """The steps of a `QuadraticWalk` (walks.py)."""
    for b in range(len(sets)):
        rows = sets[b]
        for step in range(len(place)):
            gone, come = rows[place[step, b]], new[step, b]
            if holds(rows, come):
                continue
            total = -kernel[come, gone]
            for k in range(len(rows)):
                total += kernel[come, rows[k]] - kernel[gone, rows[k]]
            now = said[b] + 2 * (total - expected[come] + expected[gone])
            if now >= level:
                rows[place[step, b]] = come
                said[b] = now


@compiled
def look_up(links: np.ndarray, rows: np.ndarray, row: int, largest: np.ndarray) -> float:
    """The largest links of a row to a set's rows, in descending order; the sum of all but the last of them."""
    last = len(largest) - 1
    largest[:] = -np.inf
    for k in range(len(rows)):
        link, at = links[row, rows[k]], last
        if link <= largest[last]:
            continue
        while at > 0 and largest[at - 1] < link:
            largest[at] = largest[at - 1]
            at -= 1
        largest[at] = link
    total = 0.0
    for k in range(last):
        total += largest[k]
    return total


@compiled
def look_up_all(
    links: np.ndarray, sets: np.ndarray, counted: int, sums: np.ndarray, least: np.ndarray, spare: np.ndarray
) -> None:
    """What a scan counts of each row of each set; sums, least, spare: (B, n), see `statistics.largest`."""
    largest = np.empty(counted + 1)
    for b in range(len(sets)):
        for k in range(sets.shape[1]):
            sums[b, k] = look_up(links, sets[b], sets[b, k], largest)
            least[b, k], spare[b, k] = largest[counted - 1], largest[counted]


@compiled
def move_scan(
    links: np.ndarray,
    counted: int,
    level: float,
    place: np.ndarray,
    new: np.ndarray,
    sets: np.ndarray,
    sums: np.ndarray,
    least: np.ndarray,
    spare: np.ndarray,
    said: np.ndarray,
) -> None:
    """The steps of a `ScanWalk` (walks.py)."""
    size, largest = sets.shape[1], np.empty(counted + 1)
    for b in range(len(sets)):
        rows = sets[b]
        for step in range(len(place)):
            at, come = place[step, b], new[step, b]
            gone = rows[at]
            if holds(rows, come):
                continue
            rows[at] = come
            total = look_up(links, rows, come, largest)
            for k in range(size):
                if k != at:
                    lost, won = links[gone, rows[k]], links[come, rows[k]]
                    total += sums[b, k]
                    if lost >= least[b, k]:  # it counted, or one as large did
                        total += max(won, spare[b, k]) - lost
                    elif won > least[b, k]:
                        total += won - least[b, k]
            now = total / (size * counted)
            if now < level:
                rows[at] = gone
                continue
            said[b] = now
            for k in range(size):
                lost, won = links[gone, rows[k]], links[come, rows[k]]
                if k == at or (lost != won and (lost >= spare[b, k] or won > spare[b, k])):
                    sums[b, k] = look_up(links, rows, rows[k], largest)
                    least[b, k], spare[b, k] = largest[counted - 1], largest[counted]
