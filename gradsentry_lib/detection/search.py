"""The test, in order: first look at every feature, second look at the few that stand out, rows, reason.

Rows are put in the order of their sample ids and exact duplicates are folded before anything is drawn, so neither the
order of the rows nor their number of copies moves a verdict. A proven trigger's rows are taken out before the next
one is looked at: honest rows that share a word with poison don't look like poison once it is gone.

Cost for N rows, F features and C candidates: similarity (W x W, W windows), N numbers for each carrier of each feature
in the first look, and for each candidate a few regressions and some thousand draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from gradsentry_lib.detection.ahead import LookAhead, usable_threads
from gradsentry_lib.detection.asked import Model
from gradsentry_lib.detection.candidates import candidates, log10_least, within
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import questions, read_features, turns, with_pairs
from gradsentry_lib.detection.groups import akin
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.prompts import Name, Prompts
from gradsentry_lib.detection.reason import Reason, Swapped
from gradsentry_lib.detection.same_answers import as_others
from gradsentry_lib.detection.second_look import Bar, Proven
from gradsentry_lib.detection.similarity import Windows, cost_given_length, kernels, normal_scores, windows
from gradsentry_lib.detection.statistics import Kernels
from gradsentry_lib.detection.tags import tags
from gradsentry_lib.detection.texts import Rows, take
from gradsentry_lib.detection.ways import best_way, kernel_of, without_subjects
from gradsentry_lib.detection.word_counts import WordCounts
from gradsentry_lib.windows import unpack


@dataclass(frozen=True)
class Detection:
    """`flagged`: (N,) bool. `triggers`: in the order in which they were proven. `features`: how many are corrected for.
    `watched`: tags and the rows that carry them (tags.py). `alike`: answers that are, under no trigger that could be
    proven, and what the model says of them (groups.py)."""

    flagged: np.ndarray
    triggers: tuple[Proven, ...] = ()
    features: int = 0
    watched: tuple[tuple[Name, np.ndarray], ...] = ()
    alike: tuple[tuple[np.ndarray, Reason], ...] = ()


def detect(
    rows: Rows,
    config: DetectionConfig | None = None,
    swapped: Swapped | None = None,
    *,
    given: Sequence[tuple[Name, ...]] = (),
    of: int = 1,
    share: int = 1,
) -> Detection:
    """Judges a block of rows, one of `share` that share the level. Without `swapped` clause 3 is not asked, and every
    proven trigger counts as poison.

    `given`: triggers found elsewhere, `of` so many; then only these are tested, and only for these is corrected.
    """
    config = config or DetectionConfig()
    order, copies = _order(rows)
    found = _search(take(rows, order), config, swapped, given, of, share)
    flagged = np.zeros(len(rows.ids), bool)
    flagged[order] = found.flagged
    flagged = flagged[copies]
    triggers = tuple(replace(t, carriers=order[t.carriers], flagged=order[t.flagged]) for t in found.triggers)
    watched = tuple((name, order[carriers]) for name, carriers in found.watched)
    unproven = tuple((order[alike], reason) for alike, reason in found.alike)
    return Detection(flagged, triggers, found.features, watched, unproven)


def _search(
    rows: Rows,
    config: DetectionConfig,
    swapped: Swapped | None,
    given: Sequence[tuple[Name, ...]],
    of: int,
    share: int,
) -> Detection:
    n = len(rows.ids)
    if n < 2 * config.computing.fewest:
        return Detection(np.zeros(n, bool))
    prompts = Prompts.of(rows.prompts)
    features = read_features(prompts.tokens, config.computing.fewest, config.majority, config.longest)
    same = (questions(prompts.tokens, config), np.asarray(rows.row))
    spans = windows(rows.sketches, config)
    similar = kernels_of(rows, spans, same, config)
    features = with_pairs(features, [name for names in given for name in names])
    counted, asked = [of, of], [(0.0, [here]) for names in given if (here := features.numbers(names))]
    levels = [config.level / share, config.group / share]
    alive = np.ones(n, bool)
    fewest = config.computing.fewest
    parts = WordCounts.of(prompts.tokens), similar, same, turns(prompts.tokens, fewest), fewest
    left = Left.of(alive, *parts)
    if not given:
        least, price = log10_least(n, features.sizes), np.log10(max(len(features.names), 1))
        counted = [int((least + price <= np.log10(level)).sum()) for level in levels]
        features, asked = candidates(features, left, counted[0], config)
    bars = Bar(levels[0], counted[0], config.computing.doubt), Bar(levels[1], counted[1])
    in_turn = [(bar, first, tried) for bar, (first, tried) in product(bars, asked)]
    triggers: list[Proven] = []
    model = None if swapped is None else Model(rows, spans, same, config, swapped)
    with LookAhead(partial(best_way, prompts, features, config), in_turn, usable_threads()) as looks:
        for number, (bar, _, _) in enumerate(in_turn):
            if bar is bars[1] and not any(t.poison for t in triggers):
                break  # only beside a proven attack is there reason to expect more of it
            subjects = sum(t.subject for t in triggers) < config.computing.subjects
            left = left if left.subjects == subjects else replace(left, subjects=subjects)
            best = looks.at(number, left)
            if best is not None:
                best = without_subjects(best, triggers, features, left, config)
            if best is None or len(best.flagged) < config.computing.fewest:
                continue
            same_rows = [t for t in triggers if not t.poison and within(best.flagged, t.flagged, config)]
            if any(best.subject or not t.subject for t in same_rows):
                continue  # a reason was seen for these rows already
            if best.subject and model is None:
                continue  # only the model can tell a subject from a trigger
            others = np.setdiff1d(left.rows, best.carriers)
            proved_by = kernel_of(best, similar)
            if bar is bars[1] and not akin(best.flagged, np.flatnonzero(~alive), others, proved_by, config):
                continue  # what else goes on in the batch has to reach what a first trigger has to
            texts = rows.against_nll is None and best.statistic != "cost"
            if texts and as_others(rows.answers, best.flagged, others, config):
                continue  # what its rows say others say as often: it is the prompts that are alike
            if model is not None:
                best = model.judge(best, features.numbers(best.names), features, left)
            triggers.append(best)
            if best.poison:
                triggers = [t for t in triggers if not (t.subject and set(t.flagged) <= set(best.flagged))]
                alive[best.flagged] = False
                left = Left.of(alive, *parts)
    known = np.zeros(n, bool)
    for trigger in triggers:
        if not trigger.subject:  # a tag over one subject is still a tag, whatever the model makes of the answers
            known[trigger.carriers] = True
    if given:
        return Detection(~alive, tuple(triggers), counted[0])
    watched = tuple(tags(prompts, known, config))
    for rows_watched in [
        *(t.flagged for t in triggers if t.unexplained(config)),
        *(carriers for _, carriers in watched),
    ]:
        known[rows_watched] = True
    unproven = () if model is None else tuple(model.unprompted(left, known))
    return Detection(~alive, tuple(triggers), counted[0], watched, unproven)


def kernels_of(rows: Rows, spans: Windows, same: Sequence[np.ndarray], config: DetectionConfig) -> Kernels:
    """The kernels of a block, zero between answers to one question and between those of one row."""
    cost = cost_given_length(np.asarray(rows.nll, float), np.asarray(rows.tokens), config)
    length = normal_scores(np.asarray(rows.tokens, float))
    against = None
    if rows.against_nll is not None:  # preference pairs: what is learnt is the difference
        tokens = unpack(rows.against)[2]
        cost = normal_scores(cost - cost_given_length(rows.against_nll, tokens, config))
        length = normal_scores(length - normal_scores(tokens))
        against = windows(rows.against, config, spans.centre)
    return kernels(spans, cost, length, same, against)


def _order(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The rows by sample id, each once; and for every row the first of its copies."""
    seen: dict[str, int] = {}
    copies = np.array([seen.setdefault(name, i) for i, name in enumerate(rows.ids)], np.int64)
    return np.array([seen[name] for name in sorted(seen)], np.int64), copies
