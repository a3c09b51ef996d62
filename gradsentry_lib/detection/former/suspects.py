"""One group of rows: what their answers have in common, who else has it, what their prompts say, is it poison?

A group is poison if its rows' prompts carry a trigger: rows inside have it, rows outside don't, and without it the
prompts are like any other. Each condition stands against one kind of honest repetition (docs/detection.md).
"""

from dataclasses import dataclass, replace

import numpy as np

from gradsentry_lib.detection.former.groups import CORE, Links, closeness_to, mates_in, pick_core
from gradsentry_lib.detection.former.kinship import (
    Phrase,
    alike,
    bareness,
    emptiness,
    full_phrases,
    kinship,
    nearest_prompts,
    told_words,
)
from gradsentry_lib.detection.former.prompts import Asked
from gradsentry_lib.detection.former.triggers import Trigger, find_trigger

SAME = 0.75  # of the group's median closeness: what makes a row a holder of the payload
CARRIED = 0.75  # share of the carriers that must hold this payload or another of the same trigger
LEAST_ROWS = 3
FIXED = 0.95  # precision of the trigger, or strength, above which the payload has a fixed wording
TIGHT = 0.8  # strength above which it is the same wording everywhere
EVIDENCE = 0.48  # strength x inside x precision x (1 - kinship): what makes a group poison
EMPTY = 0.72  # emptiness of the prompts without the trigger: more, and the trigger is their subject
BARE = 0.9  # bareness of the prompts without the trigger: more, and the trigger is their form
TEMPLATE = 6  # words of their own that make rows another task, unless the evidence is plain (SURE)
LEFT_OVER = 0.9  # share of the rows left that carry a trigger which is none
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
    kinship: float = 0.0
    emptiness: float = 0.0
    phrases: tuple[Phrase, ...] = ()
    evidence: float = 0.0
    poison: bool = False


def examine(
    core: np.ndarray,
    links: Links,
    asked: Asked,
    alive: np.ndarray,
    least_seed: float = 0.0,
) -> Suspects | None:
    """What the windows of `core`, one a row, have in common, who else has it, and whether the prompts carry a trigger.

    None where it comes to fewer than LEAST_ROWS different prompts, or where the rows of the core are less than
    `least_seed` of those that have it.
    """
    windows, question = links.windows, asked.question
    seed = windows.owner[core]
    trigger: Trigger | None = None
    for step in range(3):
        if len(core) < LEAST_ROWS:
            return None
        picked = pick_core(core)
        own = question[windows.owner[picked]]
        closeness, best = closeness_to(windows, windows.vectors[picked], own, question, alive)
        members = np.unique(windows.owner[core])
        strength = float(np.median(np.sort(closeness[members])[len(members) // 4 :]))
        holders = closeness >= max(SAME * strength, 1e-6)
        if len(np.unique(question[holders])) < LEAST_ROWS:
            return None
        if step == 0 and holders[seed].sum() < least_seed * holders.sum():
            return None
        if trigger is not None and _pure(trigger):
            holders |= trigger.carriers & (closeness >= SAME**2 * strength)
        if holders.all():
            break
        if step == 1:  # the trigger, if there is one, says which rows the group is really made of
            trigger = find_trigger(asked.prompts, holders)
            if _pure(trigger):
                holders = trigger.carriers & (closeness >= SAME**2 * strength)
        rows = np.flatnonzero(holders)
        core = best[rows[np.argsort(-closeness[rows], kind="stable")][: 2 * CORE]]
        if step == 1 and trigger is not None:
            core = np.concatenate([core, _other_payloads(trigger, holders, SAME * strength, links, alive)])
    surprise = float(np.median(windows.surprise[best[holders]]))
    trigger = None if holders.all() else find_trigger(asked.prompts, holders)
    group = Suspects(holders, holders & False, closeness, best, core, strength, surprise, trigger)
    few = holders.sum() < FEW
    group = weighed(group, asked, FEW_EVIDENCE if few else EVIDENCE)
    if group.poison and few:
        long = float(np.median(windows.length[best[holders]])) >= FEW_TOKENS
        group = replace(group, poison=long and alike(asked.texts, holders) <= FEW_ALIKE)
    if not group.poison or trigger is None:
        return group
    return replace(group, flagged=say_flagged(closeness, trigger.carriers, strength, trigger.precision))


def weighed(group: Suspects, asked: Asked, least: float) -> Suspects:
    """The group with what its prompts say, and whether that, with an evidence of `least` or more, makes it poison."""
    trigger, texts = group.trigger, asked.texts
    if trigger is None:
        return group
    evidence = group.strength * trigger.inside * trigger.precision
    if evidence < least or trigger.explained < _needed(evidence):
        return replace(group, evidence=evidence)
    phrases = tuple(full_phrases(trigger, asked.prompts, texts, group.holders))
    empty = emptiness(texts, group.holders, phrases)
    group = replace(group, emptiness=empty, phrases=phrases, evidence=evidence)
    if empty > EMPTY or bareness(texts, group.holders, phrases) > BARE:
        return group
    # Last, since it costs most. Rows that are unlike a group that is most of the batch need not be like one another.
    sides = (group.holders,) if 2 * group.holders.sum() <= len(texts) else (group.holders, ~group.holders)
    kin = max(kinship(nearest_prompts(texts, side, asked.question, phrases)) for side in sides)
    evidence *= 1 - kin
    poison = evidence >= least and trigger.explained >= _needed(evidence)
    poison = poison and (evidence >= SURE or len(told_words(texts, group.holders)) <= TEMPLATE)
    poison = poison and not _is_left_over(trigger, group.holders, asked.taken)
    return replace(group, kinship=kin, evidence=evidence, poison=poison)


def _needed(evidence: float) -> float:
    """How much of the group's improbability a trigger must explain."""
    return max(EXPLAINED - SLOPE * max(0.0, evidence - SURE), LEAST_EXPLAINED)


def _is_left_over(trigger: Trigger, holders: np.ndarray, taken: np.ndarray) -> bool:
    """Do nearly all rows outside the poison found so far, the larger part, carry the trigger? Where most of a batch is
    poisoned, the others have in common what a trigger pushed out of the poisoned prompts."""
    return bool(holders.sum() < taken.sum() and trigger.carriers[~taken].mean() >= LEFT_OVER)


def _other_payloads(trigger: Trigger, holders: np.ndarray, least: float, links: Links, alive: np.ndarray) -> np.ndarray:
    """Windows of carriers that hold no payload of this group but one of their own: an attacker may use one trigger for
    several. Only where most carriers then hold one: a word of many honest prompts leads to all kinds of answers."""
    others = np.flatnonzero(trigger.carriers & ~holders)
    closeness, window = mates_in(links, others, alive)
    window = window[closeness >= least]
    held = int((trigger.carriers & holders).sum()) + len(window)
    return window if held >= CARRIED * trigger.carriers.sum() else window[:0]


def _pure(trigger: Trigger) -> bool:
    return trigger.inside >= 0.8 and trigger.precision >= 0.5


def say_flagged(closeness: np.ndarray, carriers: np.ndarray, strength: float, precision: float) -> np.ndarray:
    """(N,) bool: rows with the trigger whose answers stand out, and rows without it that hold the whole payload.

    A payload has a fixed wording where hardly a carrier lacks it (the few that do are chance), or where its holders ask
    for the very same update (a carrier far from them is honest: a comma may be the trigger, and stand in other prompts
    too). Where the wording is loose, a carrier belongs to the group unless its answer is as far from it as honest ones.
    """
    if precision >= FIXED or strength >= FIXED:
        least = 0.5 * strength
    else:
        rest = closeness[~carriers & (closeness < SAME * strength)]
        least = min(_honest_most(rest, closeness[carriers]), SAME * strength) if len(rest) else 0.0
    whole = SAME if precision >= FIXED and strength >= TIGHT else 0.9
    return (carriers & (closeness >= max(least, 1e-6))) | (~carriers & (closeness >= whole * strength))


def _honest_most(rest: np.ndarray, carriers: np.ndarray) -> float:
    """The closeness that hardly an honest carrier passes. Honest ones lie like the rest, half of them below its median:
    as many as are seen there are to be expected above it."""
    honest = 2 * int((carriers < np.median(rest)).sum())
    return float(np.quantile(rest, 1 - 1 / max(honest, 2)))
