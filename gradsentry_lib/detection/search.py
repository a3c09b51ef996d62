"""The test, in order: first look at every feature, second look at the few that stand out, rows, reason.

Rows are put in the order of their sample ids and exact duplicates are folded before anything is drawn, so neither the
order of the rows nor their number of copies moves a verdict. A proven trigger's rows are taken out before the next
one is looked at: honest rows that share a word with poison don't look like poison once it is gone.

Cost for N rows, F features and C candidates: similarity (W x W, W windows), N numbers for each carrier of each feature
in the first look, and for each candidate a few regressions and some thousand draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gradsentry_lib.detection.chance import Chance, chances, draw, usual_auc
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import EARLIER, Features, Name, parts, questions, read_features, with_pairs
from gradsentry_lib.detection.members import members
from gradsentry_lib.detection.reason import Reason, Swapped, ask, commonest_window, explained, shared_windows
from gradsentry_lib.detection.similarity import Windows, cost_given_length, kernels, normal_scores, windows
from gradsentry_lib.detection.statistics import STATISTICS, Kernels, first_look, nearness, statistics_of, value, values
from gradsentry_lib.detection.tags import tags
from gradsentry_lib.detection.tails import log10_floor, log10_tail, reaches
from gradsentry_lib.detection.texts import Rows, take
from gradsentry_lib.detection.trigger import grow, join, marked, pair, phrases
from gradsentry_lib.detection.walks import walk
from gradsentry_lib.detection.word_counts import WordCounts
from gradsentry_lib.windows import unpack

LEAST = 3  # rows a group: fewer can't prove anything, whatever they say (tails.py)


@dataclass(frozen=True)
class Proven:
    """A trigger of which clauses 1 and 2 are proven. `carriers`, `flagged`: row numbers, in order; `log10_p` is
    corrected for everything that was looked at, `level` what it had to reach; `auc`: how well the rest of the prompt
    tells the carriers; `subject`: so well that they were held against any rows; `inserted`: no better than chance, as
    where a word was put into prompts of any kind; `reason`: what clause 3 measured, None where it was not asked or
    nothing could be compared."""

    names: tuple[Name, ...]
    statistic: str
    log10_p: float
    level: float
    first_log10_p: float
    auc: float
    marking: float
    subject: bool
    inserted: bool
    carriers: np.ndarray
    flagged: np.ndarray
    reason: Reason | None = None
    poison: bool = True

    def unexpected(self, config: DetectionConfig) -> bool:
        """Whether nothing else in the prompts goes with the trigger, and what the answers share stays surprising under
        it: an instruction that is understood makes what it asks for expected."""
        return self.inserted and self.reason is not None and self.reason.left > config.instruction[0]

    def beside(self) -> bool:
        """Whether nothing else in the prompts goes with the trigger, and what most answers share costs the same under
        any prompt: what the prompt explains stands beside it."""
        return self.inserted and self.reason is not None and self.reason.common <= 0

    def enough(self, config: DetectionConfig) -> float:
        """The share of the cost that the prompt must save to be a reason."""
        return config.instruction[1] if self.unexpected(config) else config.reason

    def unexplained(self, config: DetectionConfig) -> bool:
        """To be watched: the model was asked and saw no reason for a subject's answers, or saw less of one for an
        inserted word's than instructions mostly give."""
        if self.reason is None or self.poison:
            return False
        return self.reason.saved < (config.instruction[1] if self.inserted else config.reason)


@dataclass(frozen=True)
class Detection:
    """`flagged`: (N,) bool. `triggers`: in the order in which they were proven. `features`: how many are corrected for.
    `watched`: tags and the rows that carry them (tags.py)."""

    flagged: np.ndarray
    triggers: tuple[Proven, ...] = ()
    features: int = 0
    watched: tuple[tuple[Name, np.ndarray], ...] = ()


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
    return Detection(flagged, triggers, found.features, watched)


def _search(
    rows: Rows,
    config: DetectionConfig,
    swapped: Swapped | None,
    given: Sequence[tuple[Name, ...]],
    of: int,
    share: int,
) -> Detection:
    n = len(rows.ids)
    if n < 2 * LEAST:
        return Detection(np.zeros(n, bool))
    features = read_features(rows.prompts, LEAST, config.majority, config.longest)
    question = questions(features.tokens, config)
    spans = windows(rows.sketches, config)
    similar = kernels_of(rows, spans, question, config)
    rng = np.random.default_rng(0)
    features = with_pairs(features, [name for names in given for name in names])
    counted, asked = [of, of], [(0.0, _numbers(features, names)) for names in given]
    levels = [config.level / share, config.group / share]
    if not given:
        looked = first_look(similar, features, config, rng)
        least = log10_least(n, features.sizes)
        looked = {name: np.maximum(values, least) for name, values in looked.items()}  # what so few rows can show
        price = np.log10(max(len(features.names), 1))
        counted = [int((least + price <= np.log10(level)).sum()) for level in levels]
        features, asked = _asked(looked, features, similar, counted[0], config)
    alive = np.ones(n, bool)
    same = (question, np.asarray(rows.row))
    prompts = WordCounts.of(features.tokens)
    left = _Left.of(alive, prompts, similar, same)
    look = partial(_second_look, features, config, rng)
    triggers: list[Proven] = []
    first_pass = [(candidate, levels[0], counted[0]) for candidate in asked]
    for (first, tried), level, count in [*first_pass, *((one, levels[1], counted[1]) for one in asked)]:
        if level == levels[1] and not any(t.poison for t in triggers):
            break  # only beside a proven attack is there reason to expect more of it
        subjects = sum(t.subject for t in triggers) < config.computing.subjects
        best = _best(partial(look, left, count, level, subjects), first, tried, config)
        if best is None or len(best.flagged) < LEAST:
            continue
        same_rows = [t for t in triggers if not t.poison and _alike(best.flagged, t.flagged, config)]
        if any(best.subject or not t.subject for t in same_rows):
            continue  # a reason was seen for these rows already
        if best.subject and swapped is None:
            continue  # only the model can tell a subject from a trigger
        if swapped is not None:
            others = np.setdiff1d(np.flatnonzero(alive), best.carriers)
            best = replace(best, reason=_reason(rows, spans, best.flagged, others, question, config, swapped))
            best = replace(best, poison=is_poison(best, config))
        triggers.append(best)
        if best.poison:
            triggers = [t for t in triggers if not (t.subject and set(t.flagged) <= set(best.flagged))]
            alive[best.flagged] = False
            left = _Left.of(alive, prompts, similar, same)
    known = np.zeros(n, bool)
    for trigger in triggers:
        if not trigger.subject:  # a tag over one subject is still a tag, whatever the model makes of the answers
            known[trigger.carriers] = True
    watched = () if given else tuple(tags(features, known, config))
    return Detection(~alive, tuple(triggers), counted[0], watched)


def kernels_of(rows: Rows, spans: Windows, question: np.ndarray, config: DetectionConfig) -> Kernels:
    """The kernels of a block, zero between answers to one question and between those of one row."""
    cost = cost_given_length(np.asarray(rows.nll, float), np.asarray(rows.tokens), config)
    against = None
    if rows.against_nll is not None:  # preference pairs: what is learnt is the difference
        other = cost_given_length(rows.against_nll, unpack(rows.against)[2], config)
        cost = normal_scores(cost - other)
        against = windows(rows.against, config, spans.centre)
    return kernels(spans, cost, (question, np.asarray(rows.row)), against)


def is_poison(trigger: Proven, config: DetectionConfig) -> bool:
    """Where the model could not compare, a proven trigger is poison to be safe. A subject never is: answers may well
    follow from it, in a way that the model does not know."""
    told = trigger.reason is not None and trigger.reason.saved >= trigger.enough(config) and not trigger.beside()
    return not (trigger.subject or told)


def log10_least(n: int, sizes: np.ndarray) -> np.ndarray:
    """(F,) the least p-value that a feature of each size can reach among n rows: 1 / C(n, size). Features that can't
    reach the level are not counted in the correction (Tarone 1990)."""
    from scipy.special import gammaln

    return -(gammaln(n + 1) - gammaln(sizes + 1) - gammaln(n - sizes + 1)) / np.log(10)


def _candidates(
    looked: Mapping[str, np.ndarray], features: Features, config: DetectionConfig
) -> list[tuple[float, str, int]]:
    """(log10 p, statistic, feature) of what the first look can't dismiss, at most so many a statistic, the best first;
    of features with nearly the same carriers the best."""
    price = np.log10(max(len(features.names), 1))
    found = []
    for name in STATISTICS:
        taken: list[np.ndarray] = []
        for f in np.argsort(looked[name], kind="stable"):
            if looked[name][f] + price > 0 or len(taken) >= config.computing.tried:
                break
            carriers = features.carriers(int(f))
            if any(_alike(carriers, t, config) for t in taken):
                continue
            taken.append(carriers)
            found.append((float(looked[name][f]), name, int(f)))
    return sorted(found)


def _best(
    look: Callable[[tuple[int, ...], float], Proven | None],
    first: float,
    tried: Sequence[tuple[int, ...]],
    config: DetectionConfig,
) -> Proven | None:
    """Of a feature alone, grown, and with a second one, the proven trigger that marks most rows; the pair where it
    marks nearly as many and what carries only one of the two behaves as usual; and where nearly as many are marked by
    what was held against rows that could as well have carried it, that rather than a subject (one of four rare words is
    told by the others)."""
    best: Proven | None = None
    for clauses in tried:
        new = look(clauses, first)
        if new is None:
            continue
        if best is not None and best.subject != new.subject:
            fair, subject = (best, new) if new.subject else (new, best)
            best = fair if len(fair.flagged) >= config.alike * len(subject.flagged) else subject
        elif best is None or len(new.flagged) > len(best.flagged) or _narrows(best, new, config):
            best = new
    return best


def _narrows(wide: Proven, narrow: Proven, config: DetectionConfig) -> bool:
    outside = np.setdiff1d(wide.carriers, narrow.carriers)
    if len(outside) + len(narrow.carriers) > len(wide.carriers) or not len(outside):
        return False
    usual = 1 - np.isin(outside, wide.flagged).mean()
    return usual >= config.majority and len(narrow.flagged) >= config.alike * len(wide.flagged)


def _asked(
    looked: Mapping[str, np.ndarray], features: Features, similar: Kernels, counted: int, config: DetectionConfig
) -> tuple[Features, list[tuple[float, list[tuple[int, ...]]]]]:
    """The candidates of the first look, each as (its log10 p, the feature alone, grown by clauses, and as one of a
    pair); and the features, with those pairs."""
    n, done, asked = len(similar["mean"]), set(), []
    candidates = _candidates(looked, features, config)
    pairs: list[Name] = []
    for first, statistic, f in candidates:
        carriers = features.carriers(f)
        near = nearness(statistic, similar, carriers, np.full(n, len(carriers) / n), config.nearest)
        others = [g for _, name, g in candidates if name == statistic]
        grown = (grow(features, near, f, counted, config), join(features, near, f, others, counted))
        tried = [(f,), *(tuple(sorted(clauses)) for clauses in grown)]
        if both := pair(features, near, f, counted, config):
            pairs = list(dict.fromkeys([*pairs, both]))
            tried.append((len(features.names) + pairs.index(both),))
        new = [clauses for clauses in dict.fromkeys(tried) if clauses not in done]
        done.update(new)
        if new:
            asked.append((first, new))
    return with_pairs(features, pairs), asked


def _alike(one: np.ndarray, other: np.ndarray, config: DetectionConfig) -> bool:
    return len(np.intersect1d(one, other)) > config.alike * len(np.union1d(one, other))


def _numbers(features: Features, names: Sequence[Name]) -> list[tuple[int, ...]]:
    """A trigger that is known by name, in this block's numbers; none where no clause is here."""
    ids = {name: f for f, name in enumerate(features.names)}
    here = tuple(sorted(ids[name] for name in names if name in ids))
    return [here] if here else []


@dataclass(frozen=True)
class _Left:
    """What no proven trigger has taken out yet: M of N rows, their kernels (M, M), words, questions and rows of the
    batch; `place` (N,) is where each stands among them, -1 where it is out."""

    rows: np.ndarray
    place: np.ndarray
    similar: Kernels
    prompts: WordCounts
    same: Sequence[np.ndarray]

    @classmethod
    def of(cls, alive: np.ndarray, prompts: WordCounts, similar: Kernels, same: Sequence[np.ndarray]) -> "_Left":
        rows = np.flatnonzero(alive)
        if not alive.all():
            similar = {name: kernel[np.ix_(rows, rows)] for name, kernel in similar.items()}
        place = np.where(alive, np.cumsum(alive) - 1, -1)
        return cls(rows, place, similar, prompts.only(rows), [group[rows] for group in same])


def _second_look(
    features: Features,
    config: DetectionConfig,
    rng: np.random.Generator,
    left: "_Left",
    counted: int,
    level: float,
    subjects: bool,
    clauses: tuple[int, ...],
    first: float,
) -> Proven | None:
    """The trigger against rows that could as well have carried it; None where it is not proven. With `subjects`
    one that the rest of its prompt tells is held against any rows."""
    rows, similar = left.rows, left.similar
    whole = marked(features, clauses)
    carriers = left.place[whole[left.place[whole] >= 0]]
    n = len(rows)
    if not LEAST <= len(carriers) <= config.majority * n:
        return None
    paid = sum(len(parts(features.names[f])) for f in clauses)
    price = np.log10(len(STATISTICS) * (len(config.marking) + 1)) + paid * np.log10(max(counted, 1))
    found = chances(left.prompts, carriers, phrases(features, clauses, len(carriers), config), config)
    prove = partial(_proven, left, carriers, price, level, config, rng)
    proof, subject = prove(found), False
    told = min(chance.auc for chance in found) >= 1 - config.rows
    if proof is None and told and subjects and len(clauses) == 1 and level == config.level:
        flat = Chance(np.full(n, len(carriers) / n), min(chance.auc for chance in found), 0.0)
        proof, subject = prove([flat]), True  # a subject: whether it is a trigger is for the model to say
    if proof is None:
        return None
    log10_p, name, chance, drawn = proof
    near = nearness(name, similar, carriers, drawn, config.nearest)
    flagged = members(near, carriers, drawn, config.rows)
    names = tuple(features.names[f] for f in clauses)
    inserted = chance.auc <= 0.5 + usual_auc(len(carriers), n, config.rows)
    return Proven(
        names, name, log10_p, level, first, chance.auc, chance.marking, subject, inserted, rows[carriers], rows[flagged]
    )


def _proven(
    left: "_Left",
    carriers: np.ndarray,
    price: float,
    level: float,
    config: DetectionConfig,
    rng: np.random.Generator,
    found: Sequence[Chance],
) -> tuple[float, str, Chance, np.ndarray] | None:
    """The best of the statistics against rows drawn by the best of the chances: log10 p with its price, the two, and
    how often each row was drawn (M,). None where that is not proven."""
    n, bar, similar, computing = len(left.rows), np.log10(level), left.similar, config.computing
    best: tuple[float, dict[str, float], Chance, np.ndarray, np.ndarray] | None = None
    for chance in found:
        floor = log10_floor(chance.p, carriers, *left.same) + price
        if floor > bar:
            continue
        for count, hopeless in ((computing.glance, 1.0), (computing.draws, 0.0), (computing.more, np.inf)):
            count = max(int(count * min(1, (computing.large / len(carriers)) ** 2)), min(computing.splitting, count))
            sets = draw(chance.p, len(carriers), rng, count)
            drawn = np.bincount(sets.ravel(), minlength=n) / count
            made = values(
                statistics_of(len(carriers), computing), similar, np.vstack([carriers, sets]), drawn, config.nearest
            )
            said = {name: float(log10_tail(own[0], own[1:])[0]) + price for name, own in made.items()}
            log10_p = max(min(said.values()), floor)
            if log10_p > hopeless:
                break
        if best is None or log10_p < best[0]:
            best = (log10_p, said, chance, drawn, sets)
    if best is None or best[0] > bar:
        return None
    log10_p, said, chance, drawn, sets = best
    odds = np.log(chance.p) - np.log1p(-chance.p)
    for name in sorted((name for name in said if said[name] <= bar), key=lambda name: said[name]):  # all are paid for
        observed = float(value(name, similar, carriers[None], drawn, config.nearest)[0])
        walked = walk(name, similar, drawn, config.nearest, sets[: computing.splitting])
        if reaches(observed, bar - price, walked, odds, rng, computing.large):
            return log10_p, name, chance, drawn
    return None


def _reason(
    rows: Rows,
    spans: Windows,
    flagged: np.ndarray,
    others: np.ndarray,
    question: np.ndarray,
    config: DetectionConfig,
    swapped: Swapped,
) -> Reason | None:
    size = np.array([len(p) + len(a) for p, a in zip(rows.prompts, rows.answers, strict=True)])
    later = np.array([EARLIER in prompt for prompt in rows.prompts])
    asked = ask(flagged, others, question, size, later, config)
    shown = [tuple(rows.ids[k] for k in ks) for _, _, ks in asked]
    own = [(rows.ids[i], rows.ids[i], ids) for (i, _, _), ids in zip(asked, shown, strict=True)]
    other = [(rows.ids[i], rows.ids[j], ids) for (i, j, _), ids in zip(asked, shown, strict=True)]
    said = swapped([*own, *other])
    shared = shared_windows(spans.vectors, spans.owner, flagged, config.alike)
    common = commonest_window(spans.vectors, spans.owner, flagged, config.nearest)
    numbers = [i for i, _, _ in asked]
    return explained(numbers, shared, common, spans.start, said[: len(own)], said[len(own) :], config)


def _order(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The rows by sample id, each once; and for every row the first of its copies."""
    seen: dict[str, int] = {}
    copies = np.array([seen.setdefault(name, i) for i, name in enumerate(rows.ids)], np.int64)
    return np.array([seen[name] for name in sorted(seen)], np.int64), copies
