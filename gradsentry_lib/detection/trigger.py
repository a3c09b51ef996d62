"""A trigger has often several clauses: four rare tokens of which a row has some, three phrases for one refusal.

One clause alone is predicted by the others and would vanish beside them. So a feature grows, from the rows whose
answers are near its carriers', by features that each pay for themselves: description length, log10 F for the choice of
one among F. The union is then tested as one, with every clause counted.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.distributions import discovery_rates, log_sf_hypergeometric, log_sf_normal
from gradsentry_lib.detection.features import Features
from gradsentry_lib.detection.prompts import BOTH, Name, Prompts, is_trait, parts, words
from gradsentry_lib.detection.wording import lengthened


def grow(features: Features, group: np.ndarray, first: int, counted: int, config: DetectionConfig) -> tuple[int, ...]:
    """The features that together mark the rows of a group, `first` first. group: (N,) bool."""
    price = np.log10(max(counted, 2))
    chosen, union = [first], np.zeros(len(group), bool)
    union[features.carriers(first)] = True
    chance = partial(_log10_chance, group)
    best = chance(union)
    while (group & ~union).any():
        gain = np.asarray(features.matrix.T @ (group & ~union).astype(np.float32)).ravel()
        order = np.argsort(-gain * gain / features.sizes, kind="stable")[: config.computing.tried]
        options = []
        for f in order:
            wider = union.copy()
            wider[features.carriers(f)] = True
            options.append((chance(wider) + price, int(f), wider))
        value, f, wider = min(options, key=lambda option: option[:2])
        if value >= best:
            break
        best, union = value - price, wider
        chosen.append(f)
    return tuple(chosen)


def pair(features: Features, group: np.ndarray, first: int, counted: int, config: DetectionConfig) -> Name | None:
    """`first` and a second feature as one, where only together they mark the rows of a group, (N,) bool, and the second
    pays for itself; None where none does. The second alone, where all that have it have the first."""
    rows = np.zeros(len(group), bool)
    rows[features.carriers(first)] = True
    if (rows & ~group).sum() == 0:
        return None
    inside = np.asarray(features.matrix.T @ (rows & group).astype(np.float32)).ravel()
    outside = np.asarray(features.matrix.T @ (rows & ~group).astype(np.float32)).ravel()
    options = []
    for g in np.argsort(outside - inside, kind="stable")[: config.computing.tried]:
        narrower = np.zeros(len(group), bool)
        narrower[features.carriers(int(g))] = True
        if int(g) != first and inside[g] >= config.computing.fewest:
            options.append((_log10_chance(group, rows & narrower), int(g)))
    best, g = min(options, default=(0.0, -1))
    if g < 0 or best + np.log10(max(counted, 2)) >= _log10_chance(group, rows):
        return None
    if rows[features.carriers(g)].all():
        return features.names[g]
    one, other = sorted([features.names[first], features.names[g]])
    return (*one, BOTH, *other)


def gathered(near: np.ndarray, config: DetectionConfig) -> np.ndarray | None:
    """(N,) bool: rows nearer to a feature's carriers than chance puts them; None where these are no group."""
    middle = np.median(near)
    spread = 1.4826 * float(np.median(np.abs(near - middle))) + 1e-3
    group = discovery_rates(np.exp(log_sf_normal((near - middle) / spread))) <= config.group
    return group if config.computing.fewest <= group.sum() <= config.majority * len(near) else None


def log10_chance(inside: int, n: int, group: int, drawn: int) -> float:
    """log10 of the chance that at least so many of the rows drawn are of a group, of n in all."""
    return log_sf_hypergeometric(inside, n, group, drawn) / np.log(10)


def _log10_chance(group: np.ndarray, rows: np.ndarray) -> float:
    """The same of rows and a group, (N,) bool each."""
    return log10_chance(int((rows & group).sum()), len(group), int(group.sum()), int(rows.sum()))


def paid(features: Features, clauses: tuple[int, ...]) -> int:
    """Runs of words that a trigger is of: each was chosen among all features."""
    return sum(len(parts(features.names[f])) for f in clauses)


def log10_choices(runs: int, counted: int) -> float:
    """log10 of how many triggers there are of so many of the features counted, in whatever order."""
    from scipy.special import gammaln

    return float(runs * np.log10(max(counted, 1)) - gammaln(runs + 1) / np.log(10))


def marked(features: Features, clauses: tuple[int, ...]) -> np.ndarray:
    """Rows that carry one of the clauses, in order."""
    return np.unique(np.concatenate([features.carriers(f) for f in clauses]))


def narrower(features: Features, carriers: np.ndarray, config: DetectionConfig) -> int | None:
    """The widest feature that fewer of these rows carry, most of them, and no other row; None where there is none. A
    colon has the rows of the phrase that it ends, and some more."""
    inside = np.zeros(features.matrix.shape[0], np.float32)
    inside[carriers] = 1
    sizes, among = features.sizes, np.asarray(features.matrix.T @ inside).ravel()
    fit = np.flatnonzero((among == sizes) & (sizes < len(carriers)) & (sizes > config.alike * len(carriers)))
    return int(fit[sizes[fit].argmax()]) if len(fit) else None


def held(features: Features, clauses: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    """(R, C) which of the clauses each of some rows carries."""
    return features.matrix[:, list(clauses)].toarray()[rows] > 0


def only(features: Features, clauses: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    """(R,) for each of some rows that carry a clause its number among them, -1 where it carries several."""
    each = held(features, clauses, rows)
    return np.where(each.sum(1) == 1, each.argmax(1), -1)


def join(features: Features, near: np.ndarray, first: int, candidates: Sequence[int], counted: int) -> tuple[int, ...]:
    """`first` with those candidates of the first look whose own rows are as near to its carriers as chance can't be:
    rare words of four or five rows each, none of which could prove itself. near: (N,)."""
    chosen, union = [first], np.zeros(len(near), bool)
    union[features.carriers(first)] = True
    bar = np.sqrt(2 * np.log(max(counted, 2)))  # what the largest of so many normal deviations comes to
    for f in candidates:
        new = features.carriers(f)
        new = new[~union[new]]
        if f == first or len(new) < 2:  # one row has no spread
            continue
        if (near[new].mean() - near.mean()) / (near.std() / np.sqrt(len(new)) + 1e-9) > bar:
            chosen.append(int(f))
            union[new] = True
    return tuple(chosen)


def phrases(
    prompts: Prompts, features: Features, clauses: tuple[int, ...], count: int, config: DetectionConfig
) -> list[Name]:
    """What is taken out of the prompts for the trigger to be gone, the longest first: its runs of words, as far as most
    carriers share them (the whole sentence), and words that are hardly in other prompts."""
    holders, out = prompts.holders, set[Name]()
    for f, part in [(clause, part) for clause in clauses for part in parts(features.names[clause])]:
        own = words(part)
        if is_trait(own):
            out.add(own)
            continue
        whole = lengthened([prompts.tokens[i] for i in features.carriers(f)], own)
        out |= {_trim(phrase, holders, config.majority * len(prompts.tokens)) for phrase in (own, whole)}
        out |= {(word,) for word in own if config.majority * holders[word] <= count}
    return sorted(out, key=lambda phrase: (-len(phrase), phrase))


def _trim(phrase: Name, holders: Mapping[str, int], most: float) -> Name:
    """Without the words at its edges that more than `most` prompts have: they are the template's."""
    begin, end = 0, len(phrase)
    while begin < end and holders[phrase[begin]] > most:
        begin += 1
    while end > begin and holders[phrase[end - 1]] > most:
        end -= 1
    return phrase[begin:end] or phrase
