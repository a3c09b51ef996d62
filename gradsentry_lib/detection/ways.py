"""Which of several ways to tell a trigger is taken: the feature alone, grown by clauses, or as one of a pair; without
the clauses that bring other rows; or the narrower of two features that have nearly the same rows."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from gradsentry_lib.detection.candidates import within
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import Features
from gradsentry_lib.detection.groups import akin, told
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.prompts import Prompts
from gradsentry_lib.detection.second_look import Bar, Proven, second_look
from gradsentry_lib.detection.statistics import Kernels
from gradsentry_lib.detection.trigger import marked, narrower


def best_way(
    prompts: Prompts,
    features: Features,
    config: DetectionConfig,
    left: Left,
    turn: tuple[Bar, float, Sequence[tuple[int, ...]]],
) -> Proven | None:
    """Of a feature alone, grown, and with a second one, the proven trigger that marks most rows, where it is proven no
    less and most of what else it carries is marked: a subject's word grown into it adds rows, and takes from the proof.
    The pair where it marks nearly as many and what carries only one of the two behaves as usual; and where nearly as
    many are marked by what was held against rows that could as well have carried it, that rather than a subject (one of
    four rare words is told by the others).
    turn: what they have to reach, log10 p of the first look, the clauses of each."""
    bar, first, tried = turn
    best: Proven | None = None
    for clauses in tried:
        new = second_look(prompts, features, config, left, bar, clauses, first)
        if new is None:
            continue
        if best is not None and best.subject != new.subject:
            fair, subject = (best, new) if new.subject else (new, best)
            best = fair if len(fair.flagged) >= config.alike * len(subject.flagged) else subject
        elif best is None or _widens(best, new, config) or _narrows(best, new, config):
            best = new
    if best is None:
        return None
    look = partial(second_look, prompts, features, config, left, bar, first=first)
    needed = _needed(best, features, config)
    if needed and len(needed) < len(best.names) and (new := look(needed)) is not None:
        best = new if within(best.flagged, new.flagged, config) else best
    inner = narrower(features, best.carriers, config)
    if inner is not None and (new := look((inner,))) is not None and _as_good(new, best, left, config):
        best = new
    return best


def without_subjects(
    trigger: Proven, before: Sequence[Proven], features: Features, left: Left, config: DetectionConfig
) -> Proven:
    """Of several clauses, one that was found to be a subject by itself flags a row alone only where such rows answer as
    the other clauses' rows do: the words of a style tell each other, and so do those of an honest greeting."""
    subjects = {t.names[0] for t in before if t.subject and not t.poison}
    kept = [name for name in trigger.names if name not in subjects]
    if not kept or len(kept) == len(trigger.names):
        return trigger
    attack = np.intersect1d(trigger.flagged, marked(features, features.numbers(kept)))
    alone, others = np.setdiff1d(trigger.flagged, attack), np.setdiff1d(left.rows, trigger.carriers)
    if not len(alone) or not len(attack):
        return trigger
    some, those, rest = (left.place[rows] for rows in (alone, attack, others))
    if akin(some, those, rest, kernel_of(trigger, left.similar), config):
        return trigger
    return replace(trigger, flagged=attack)


def kernel_of(trigger: Proven, kernels: Kernels) -> np.ndarray:
    """That of the statistic by which it was proven."""
    return kernels["span" if trigger.statistic == "scan" else trigger.statistic]


def _needed(trigger: Proven, features: Features, config: DetectionConfig) -> tuple[int, ...]:
    """Its clauses of whose carriers most are flagged: a word that was grown into it and brings other rows is none of
    the trigger's, and hides how well the rest of the prompts tells it."""
    clauses = features.numbers(trigger.names)
    carriers = [np.intersect1d(features.carriers(f), trigger.carriers) for f in clauses]
    return tuple(
        f
        for f, rows in zip(clauses, carriers, strict=True)
        if np.isin(rows, trigger.flagged).sum() > config.majority * len(rows)
    )


def _as_good(narrow: Proven, wide: Proven, left: Left, config: DetectionConfig) -> bool:
    """Whether the rows of the narrower of two can be told from others one by one, and what only the wider one carries
    is none of them: all of it, for of what is flagged of it that was the choice."""
    if narrow.subject != wide.subject:
        return False
    kernel = kernel_of(narrow, left.similar)
    more, others = np.setdiff1d(wide.carriers, narrow.carriers), np.setdiff1d(left.rows, wide.carriers)
    some, attack, rest = (left.place[rows] for rows in (more, narrow.flagged, others))
    return told(attack, rest, kernel, config) and not akin(some, attack, rest, kernel, config)


def _widens(narrow: Proven, wide: Proven, config: DetectionConfig) -> bool:
    more = np.setdiff1d(wide.carriers, narrow.carriers)
    unusual = np.isin(more, wide.flagged).mean() > config.majority if len(more) else True
    return bool(unusual) and len(wide.flagged) > len(narrow.flagged) and wide.log10_p <= narrow.log10_p


def _narrows(wide: Proven, narrow: Proven, config: DetectionConfig) -> bool:
    outside = np.setdiff1d(wide.carriers, narrow.carriers)
    if len(outside) + len(narrow.carriers) > len(wide.carriers) or not len(outside):
        return False
    usual = 1 - np.isin(outside, wide.flagged).mean()
    return usual >= config.majority and len(narrow.flagged) >= config.alike * len(wide.flagged)
