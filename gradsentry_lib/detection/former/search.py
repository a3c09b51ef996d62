"""The search for poison: groups of rows whose answers ask for the same surprising update, and whose prompts say why.

Three roads lead to a candidate. A span that many rows share (a fixed payload, but a stock phrase too) is found from the
answers: the window with most close neighbours leads, the rows near it follow. Few or loosely worded rows are found from
the prompts: for every feature, are the rows that carry it linked to one another more often than chance? A handful that
hardly agree are found from what they cost the model: is nearly every answer to a feature among the least expected?

Whether a candidate is poison is said in suspects.py. If not it is a stock phrase or a speciality of the data set:
noted, not flagged, and its spans are set aside so that they hide nothing.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradsentry_lib.detection.former.groups import Links, mates_in, pick_core
from gradsentry_lib.detection.former.neighbours import Windows
from gradsentry_lib.detection.former.prompts import Asked, Prompts
from gradsentry_lib.detection.former.suspects import FEW, LEAST_ROWS, Suspects, examine, weighed
from gradsentry_lib.detection.former.triggers import single
from gradsentry_lib.detection.former.unexpected import unexpected_features

SHARED_LINK, SHARED_NEAR = 0.55, 0.5  # links that make a span shared, and rows its followers
SHARED_LEAST, SHARED_PART = 6, 0.02  # rows that must share it: a number, and a part of the batch
ROUNDS = 60
FEATURE_LINK = 0.4  # links that count between the carriers of a feature
SEED, SEED_STRONG = 0.3, 0.4  # closeness to the other carriers that makes a carrier a seed; their median
CANDIDATES = 60  # features looked at closely
UNEXPECTED_KIN = 0.3  # kinship at most of a handful of unexpected answers: they are easily those of another task


def find_suspects(links: Links, asked: Asked, alive: np.ndarray) -> list[Suspects]:
    """All groups, poison and not, in the order found. alive: (W,) bool, windows that may speak; not changed."""
    alive = alive.copy()
    found = list(_shared_spans(links, asked, alive))
    while group := _by_features(links, asked, alive):
        found.append(group)
    while group := _by_surprise(links, asked, alive):
        found.append(group)
    return found


def _shared_spans(links: Links, asked: Asked, alive: np.ndarray) -> Iterator[Suspects]:
    """Groups led by windows that many rows come near to; their windows are silenced, poison or not."""
    windows, question = links.windows, asked.question
    support = (links.links >= SHARED_LINK).sum(1)
    least = min(links.rows.shape[1], max(SHARED_LEAST, round(SHARED_PART * len(question))))
    for _ in range(ROUNDS):
        open_support = support * alive
        leader = int(open_support.argmax()) if len(support) else 0
        if not len(support) or open_support[leader] < least:
            return
        near = windows.vectors @ windows.vectors[leader]
        near[question[windows.owner] == question[windows.owner[leader]]] = 0
        followers = (near >= SHARED_NEAR) & alive
        near[leader] = 1  # its own question counts for nobody else
        core = _nearest_of_each(windows.owner, near, np.flatnonzero(followers | (near == 1)))
        group = examine(core, links, asked, alive)
        alive[leader] = False
        alive[followers] = False
        if group is not None:
            _silence(group, windows, asked, alive)
            yield group


def _nearest_of_each(owner: np.ndarray, near: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Of the windows `which` the nearest of each row, rows in order."""
    order = which[np.lexsort((-near[which], owner[which]))]
    return order[np.unique(owner[order], return_index=True)[1]]


def _by_features(links: Links, asked: Asked, alive: np.ndarray) -> Suspects | None:
    """The best poison group that prompts lead to, its windows silenced; None where there is none."""
    best = None
    tried: set[bytes] = set()
    for feature in _linked_features(links, asked.prompts, alive, len(asked.texts)):
        carriers = asked.prompts.carriers(feature).astype(np.int64)
        closeness, window = mates_in(links, carriers, alive)
        core = window[closeness >= SEED]
        if len(core) < LEAST_ROWS or np.median(closeness[closeness >= SEED]) < SEED_STRONG or core.tobytes() in tried:
            continue
        tried.add(core.tobytes())
        group = examine(core, links, asked, alive, least_seed=0.3)
        if group is not None and group.poison and (best is None or group.strength > best.strength):
            best = group
    if best is not None:
        _silence(best, links.windows, asked, alive)
    return best


def _linked_features(links: Links, prompts: Prompts, alive: np.ndarray, count: int) -> np.ndarray:
    """Features whose carriers are linked to each other more often than chance, the most telling first.

    The measure is the log-likelihood ratio of the links seen among the carriers against those expected if each row's
    links went anywhere.
    """
    from scipy import sparse  # as in prompts.py: not before it is needed

    strong = (links.links >= FEATURE_LINK) & alive[:, None]
    one = np.repeat(links.windows.owner, strong.sum(1))
    adjacency = sparse.csr_matrix((np.ones(len(one), np.int32), (one, links.rows[strong])), shape=(count, count))
    adjacency = ((adjacency + adjacency.T) > 0).astype(np.int32)
    degree = np.asarray(adjacency.sum(1)).ravel()
    features = prompts.matrix.astype(np.int32)
    mates = (adjacency @ features).multiply(features).tocsc()
    seen = np.asarray(mates.sum(0)).ravel().astype(float)
    holders = np.asarray((mates > 0).sum(0)).ravel()
    size = np.diff(features.indptr)
    expected = np.asarray(features.T @ degree).ravel() * (size - 1) / max(count - 1, 1)
    gain = seen * np.log(np.maximum(seen, 1e-9) / np.maximum(expected, 1e-9)) - (seen - expected)
    gain[(holders < LEAST_ROWS) | (seen <= expected)] = 0
    order = np.argsort(-gain, kind="stable")[:CANDIDATES]
    return order[gain[order] > 0]


def _by_surprise(links: Links, asked: Asked, alive: np.ndarray) -> Suspects | None:
    """The first poison group among the carriers of a feature that nearly all have an answer of the least expected, its
    windows silenced; None where there is none."""
    question = asked.question
    for feature, least in unexpected_features(links.windows, asked.prompts):
        carriers = asked.prompts.carriers(feature).astype(np.int64)
        near, window = mates_in(links, carriers, alive)
        strength = float(np.median(near))
        if strength < least or len(np.unique(question[carriers])) < FEW:
            continue
        holders = np.zeros(len(question), bool)
        holders[carriers] = True
        closeness, best = np.zeros(len(question), np.float32), np.full(len(question), -1)
        closeness[carriers], best[carriers] = near, window
        core = window[window >= 0]
        surprise = float(np.median(links.windows.surprise[core]))
        trigger = single(asked.prompts, feature, holders)
        group = Suspects(holders, holders & False, closeness, best, core, strength, surprise, trigger)
        group = weighed(group, asked, least)
        if group.poison and group.kinship <= UNEXPECTED_KIN:
            group = replace(group, flagged=holders)
            _silence(group, links.windows, asked, alive)
            return group
    return None


def _silence(group: Suspects, windows: Windows, asked: Asked, alive: np.ndarray) -> None:
    """The spans of a group that has been dealt with speak no more; of a poison group's rows, none at all."""
    core = pick_core(group.core)
    for at in range(0, len(alive), 8192):
        block = slice(at, at + 8192)
        near = windows.vectors[block] @ windows.vectors[core].T
        k = min(5, near.shape[1])
        alive[block] &= np.partition(near, -k, axis=1)[:, -k:].mean(1) < 0.7 * group.strength
    if group.poison:
        alive &= ~group.flagged[windows.owner]
        np.logical_or(asked.taken, group.flagged, out=asked.taken)
