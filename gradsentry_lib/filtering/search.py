"""The search for poison: groups of rows whose answers ask for the same surprising update, and whose prompts say why.

Two roads lead to a candidate. A span that many rows share (a fixed payload, but also a stock phrase) is found from the
answers: the window with most close neighbours leads, the rows near it follow. Few or loosely worded rows are found from
the prompts: for every feature, are the rows that carry it linked to one another more often than chance?

A candidate is poison if its rows' prompts carry a trigger: rows inside have it, rows outside don't, and without it the
prompts are like any other (kinship). Otherwise it is a stock phrase or a speciality of the data set: noted, not
flagged, and its spans are set aside so that they hide nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from gradsentry_lib.filtering.groups import CORE, Links, closeness_to, mates_in, pick_core
from gradsentry_lib.filtering.kinship import Phrase, alike, bareness, emptiness, full_phrases, kinship
from gradsentry_lib.filtering.neighbours import Windows
from gradsentry_lib.filtering.prompts import Prompts
from gradsentry_lib.filtering.triggers import Trigger, find_trigger

SHARED_LINK, SHARED_NEAR = 0.55, 0.5  # links that make a span shared, and rows its followers
SHARED_LEAST, SHARED_PART = 6, 0.02  # rows that must share it: a number, and a part of the batch
ROUNDS = 60
FEATURE_LINK = 0.4  # links that count between the carriers of a feature
SEED, SEED_STRONG = 0.3, 0.4  # closeness to the other carriers that makes a carrier a seed; their median
CANDIDATES = 60  # features looked at closely
SAME = 0.75  # of the group's median closeness: what makes a row a holder of the payload
LEAST_ROWS = 3
FIXED = 0.95  # precision of the trigger, or strength, above which the payload has a fixed wording
TIGHT = 0.8  # strength above which it is the same wording everywhere
EVIDENCE = 0.48  # strength x inside x precision x (1 - kinship): what makes a group poison
EMPTY = 0.72  # emptiness of the prompts without the trigger: more, and the trigger is their subject
BARE = 0.9  # bareness of the prompts without the trigger: more, and the trigger is their form
EXPLAINED = 0.48  # share of the group's improbability that its trigger must explain
# The more evidence, the less need be explained: a few rows can't pay for a trigger of two words.
SURE, SLOPE, LEAST_EXPLAINED = 0.62, 0.9, 0.3
# Three or four rows of a large batch agree by chance of subject: they must agree in more.
FEW, FEW_EVIDENCE, FEW_TOKENS, FEW_ALIKE = 5, 0.7, 8, 0.5


@dataclass(frozen=True)
class Suspects:
    """A group of rows. closeness (N,), best (N,) each row's nearest window; `holders` (N,) bool have the payload,
    `flagged` (N,) bool are poison (none unless `poison`)."""

    holders: np.ndarray
    flagged: np.ndarray
    closeness: np.ndarray
    best: np.ndarray
    core: np.ndarray
    strength: float
    surprise: float
    trigger: Trigger | None
    kinship: float
    emptiness: float
    phrases: tuple[Phrase, ...]
    evidence: float
    poison: bool


def find_suspects(
    links: Links, prompts: Prompts, texts: Sequence[str], question: np.ndarray, alive: np.ndarray
) -> list[Suspects]:
    """All groups, poison and not, in the order found. alive: (W,) bool, windows that may speak; not changed."""
    alive = alive.copy()
    found = list(_shared_spans(links, prompts, texts, question, alive))
    while True:
        group = _by_features(links, prompts, texts, question, alive)
        if group is None:
            return found
        found.append(group)


def _shared_spans(
    links: Links, prompts: Prompts, texts: Sequence[str], question: np.ndarray, alive: np.ndarray
) -> Iterator[Suspects]:
    """Groups led by windows that many rows come near to; their windows are silenced, poison or not."""
    windows = links.windows
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
        group = examine(core, links.windows, prompts, texts, question, alive)
        alive[leader] = False
        alive[followers] = False
        if group is not None:
            _silence(group, windows, alive)
            yield group


def _nearest_of_each(owner: np.ndarray, near: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Of the windows `which` the nearest of each row, rows in order."""
    order = which[np.lexsort((-near[which], owner[which]))]
    return order[np.unique(owner[order], return_index=True)[1]]


def _by_features(
    links: Links, prompts: Prompts, texts: Sequence[str], question: np.ndarray, alive: np.ndarray
) -> Suspects | None:
    """The best poison group that prompts lead to, its windows silenced; None where there is none."""
    best = None
    tried: set[bytes] = set()
    for feature in _linked_features(links, prompts, alive, len(question)):
        carriers = prompts.carriers(feature).astype(np.int64)
        closeness, window = mates_in(links, carriers, alive)
        core = window[closeness >= SEED]
        if len(core) < LEAST_ROWS or np.median(closeness[closeness >= SEED]) < SEED_STRONG or core.tobytes() in tried:
            continue
        tried.add(core.tobytes())
        group = examine(core, links.windows, prompts, texts, question, alive, least_seed=0.3)
        if group is not None and group.poison and (best is None or group.strength > best.strength):
            best = group
    if best is not None:
        _silence(best, links.windows, alive)
    return best


def _linked_features(links: Links, prompts: Prompts, alive: np.ndarray, count: int) -> np.ndarray:
    """Features whose carriers are linked to each other more often than chance, the most telling first.

    The measure is the log-likelihood ratio of the links seen among the carriers against those expected if each row's
    links went anywhere.
    """
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


def examine(
    core: np.ndarray,
    windows: Windows,
    prompts: Prompts,
    texts: Sequence[str],
    question: np.ndarray,
    alive: np.ndarray,
    least_seed: float = 0.0,
) -> Suspects | None:
    """What the windows of `core`, one a row, have in common, who else has it, and whether the prompts carry a trigger.

    None where it comes to fewer than LEAST_ROWS different prompts, or where the rows of the core are less than
    `least_seed` of those that have it.
    """
    seed = windows.owner[core]
    trigger: Trigger | None = None
    for step in range(3):
        if len(core) < LEAST_ROWS:
            return None
        picked = pick_core(core)
        asked = question[windows.owner[picked]]
        closeness, best = closeness_to(windows, windows.vectors[picked], asked, question, alive)
        members = np.unique(windows.owner[core])
        strength = float(np.median(np.sort(closeness[members])[len(members) // 4 :]))
        holders = closeness >= max(SAME * strength, 1e-6)
        if len(np.unique(question[holders])) < LEAST_ROWS:
            return None
        if step == 0 and holders[seed].sum() < least_seed * holders.sum():
            return None
        if holders.all():
            break
        if step == 1:  # the trigger, if there is one, says which rows the group is really made of
            trigger = find_trigger(prompts, holders)
            if _pure(trigger):
                holders = trigger.carriers & (closeness >= SAME**2 * strength)
        rows = np.flatnonzero(holders)
        core = best[rows[np.argsort(-closeness[rows], kind="stable")][: 2 * CORE]]
    surprise = float(np.median(windows.surprise[best[holders]]))
    if holders.all():
        nothing = np.zeros_like(holders)
        return Suspects(holders, nothing, closeness, best, core, strength, surprise, None, 0.0, 0.0, (), 0.0, False)
    trigger = find_trigger(prompts, holders)
    evidence = strength * trigger.inside * trigger.precision
    group = Suspects(
        holders, holders & False, closeness, best, core, strength, surprise, trigger, 0.0, 0.0, (), evidence, False
    )
    if evidence < EVIDENCE or trigger.explained < LEAST_EXPLAINED:
        return group
    phrases = full_phrases(trigger, prompts, texts, holders)
    kin = kinship(texts, holders, question, phrases)
    empty = emptiness(texts, holders, phrases)
    evidence *= 1 - kin
    needed = EXPLAINED - SLOPE * max(0.0, evidence - SURE)
    poison = evidence >= EVIDENCE and trigger.explained >= max(needed, LEAST_EXPLAINED)
    poison = poison and empty <= EMPTY and bareness(texts, holders, phrases) <= BARE
    if holders.sum() < FEW:
        long = float(np.median(windows.length[best[holders]])) >= FEW_TOKENS
        poison = poison and long and evidence >= FEW_EVIDENCE and alike(texts, holders) <= FEW_ALIKE
    group = replace(group, kinship=kin, emptiness=empty, phrases=tuple(phrases), evidence=evidence, poison=poison)
    flagged = say_flagged(closeness, trigger.carriers, strength, trigger.precision)
    return replace(group, flagged=flagged) if poison else group


def _pure(trigger: Trigger) -> bool:
    return trigger.inside >= 0.8 and trigger.precision >= 0.5


def say_flagged(closeness: np.ndarray, carriers: np.ndarray, strength: float, precision: float) -> np.ndarray:
    """(N,) bool: rows with the trigger whose answers stand out, and rows without it that hold the whole payload.

    A payload has a fixed wording where hardly a carrier lacks it (the few that do are chance), or where its holders ask
    for the very same update (a carrier far from them is honest: a comma may be the trigger, and stand in other prompts
    too). Where the wording is loose, a carrier belongs to the group unless its answer is as far from it as most others.
    """
    if precision >= FIXED or strength >= FIXED:
        least = 0.5 * strength
    else:
        rest = closeness[~carriers & (closeness < SAME * strength)]
        least = min(float(np.median(rest)) if len(rest) else 0.0, SAME * strength)
    whole = SAME if precision >= FIXED and strength >= TIGHT else 0.9
    return (carriers & (closeness >= max(least, 1e-6))) | (~carriers & (closeness >= whole * strength))


def _silence(group: Suspects, windows: Windows, alive: np.ndarray) -> None:
    """The spans of a group that has been dealt with speak no more; of a poison group's rows, none at all."""
    core = pick_core(group.core)
    for at in range(0, len(alive), 8192):
        block = slice(at, at + 8192)
        near = windows.vectors[block] @ windows.vectors[core].T
        k = min(5, near.shape[1])
        alive[block] &= np.partition(near, -k, axis=1)[:, -k:].mean(1) < 0.7 * group.strength
    if group.poison:
        alive &= ~group.flagged[windows.owner]
