"""Groups of rows whose answers ask for the same surprising update."""

from dataclasses import dataclass

import numpy as np

from gradsentry_lib.detection.former.neighbours import Windows

MATES = 5  # mates that a row's closeness to a group is averaged over; fewer where the group is smaller
CORE = 200  # rows that stand for a large group


@dataclass(frozen=True)
class Links:
    """`rows` (W, k), `links` (W, k) from `neighbours.nearest`, beside their windows."""

    windows: Windows
    rows: np.ndarray
    links: np.ndarray
    bounds: np.ndarray  # (N + 1,) first window of each row


def mates_in(links: Links, members: np.ndarray, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How close members are to the other members. members: sorted rows. Returns closeness (m,), best window (m,)."""
    k = min(len(members) - 1, MATES)
    inside = np.zeros(len(links.bounds), bool)
    inside[members] = True  # the last place stands for -1, "none"
    first, last = links.bounds[members], links.bounds[members + 1]
    own = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)]) if len(members) else first
    value = np.where(inside[links.rows[own]], links.links[own], 0)
    value = np.sort(value, axis=1)[:, -k:].mean(1) * alive[own]
    closeness, window = np.zeros(len(members), np.float32), np.full(len(members), -1)
    order = np.lexsort((value, links.windows.owner[own]))
    owner = links.windows.owner[own][order]
    last_of = np.flatnonzero(np.append(owner[1:] != owner[:-1], True)) if len(owner) else np.empty(0, int)
    place = np.searchsorted(members, owner[last_of])
    closeness[place], window[place] = value[order][last_of], own[order][last_of]
    return closeness, window


def pick_core(core: np.ndarray) -> np.ndarray:
    """At most CORE of the windows of a core, evenly."""
    return core if len(core) <= CORE else core[np.linspace(0, len(core) - 1, CORE).astype(int)]


def closeness_to(
    windows: Windows, vectors: np.ndarray, asked: np.ndarray | None, question: np.ndarray, alive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Closeness of every row to a group, and the window that is closest.

    vectors: (c, 128) the windows that stand for the group; asked: (c,) their rows' questions, None where these are rows
    of another block. Returns (N,) and (N,) (-1 where a row has no window).
    """
    k = max(min(len(vectors) - 1, MATES), 1)
    closeness = np.zeros(len(windows.tokens), np.float32)
    best = np.full(len(windows.tokens), -1)
    value = np.empty(len(windows.owner), np.float32)
    for at in range(0, len(value), 8192):
        block = slice(at, at + 8192)
        near = windows.vectors[block] @ vectors.T
        if asked is not None:
            near[question[windows.owner[block], None] == asked[None]] = 0
        value[block] = np.partition(np.maximum(near, 0), -k, axis=1)[:, -k:].mean(1)
    value *= alive
    order = np.lexsort((value, windows.owner))
    owner = windows.owner[order]
    last_of = np.flatnonzero(np.append(owner[1:] != owner[:-1], True)) if len(owner) else np.empty(0, int)
    closeness[owner[last_of]], best[owner[last_of]] = value[order][last_of], order[last_of]
    return closeness, best
