"""Second look: a trigger against rows that could as well have carried it, and which of its carriers are unlike those.

What a look draws depends on the trigger's words and the rows alone, not on what was looked at before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gradsentry_lib.detection.chance import Chance, chances, draw, usual_auc
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import Features
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.members import members
from gradsentry_lib.detection.prompts import Name, Prompts
from gradsentry_lib.detection.reason import Reason
from gradsentry_lib.detection.statistics import STATISTICS, Kernels, against, nearness, statistics_of, sums, value
from gradsentry_lib.detection.tails import log10_floor, log10_tail, reaches
from gradsentry_lib.detection.trigger import log10_choices, marked, only, paid, phrases
from gradsentry_lib.detection.walks import walk


@dataclass(frozen=True)
class Proven:
    """A trigger of which clauses 1 and 2 are proven. `carriers`, `flagged`: row numbers, in order, of the latter some
    that are no carriers where it is poison (groups.py); `log10_p` is
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
        it, what most of them share under any prompt: an instruction that is understood makes what it asks for
        expected."""
        if not self.inserted or self.reason is None:
            return False
        return self.reason.left > config.instruction[0] and self.reason.typical < config.reason

    def beside(self, config: DetectionConfig) -> bool:
        """Whether what most answers share costs the same under any prompt: what the prompt explains stands beside it.
        Asked where nothing else in the prompts goes with the trigger, or what is shared stays surprising under it: in
        answers that a subject explains the commonest window is often a turn of phrase."""
        if self.reason is None or not (self.inserted or self.reason.left > config.instruction[0]):
            return False
        return self.reason.common <= 0

    def expected(self, config: DetectionConfig) -> bool:
        """Whether what the answers share is what the model says there anyway."""
        return self.reason is not None and self.reason.left < config.computing.expected

    def enough(self, config: DetectionConfig) -> float:
        """The share of the cost that the prompt must save to be a reason."""
        return config.instruction[1] if self.unexpected(config) else config.reason

    def unexplained(self, config: DetectionConfig) -> bool:
        """To be watched: the model was asked and saw no reason for a subject's answers, or saw less of one for an
        inserted word's than instructions mostly give. Where what most of a subject's answers share is dearer under
        their own prompts, other prompts lead to such answers: that is no sign of poison, which costs the same."""
        if self.reason is None or self.poison or self.expected(config):
            return False
        if self.subject and self.reason.common <= -config.reason:
            return False
        return self.reason.saved < (config.instruction[1] if self.inserted else config.reason)


def is_poison(trigger: Proven, config: DetectionConfig) -> bool:
    """Where the model could not compare, a proven trigger is poison to be safe. A subject never is: answers may well
    follow from it, in a way that the model does not know. Nor is what the model says anyway."""
    if trigger.reason is None:
        return not trigger.subject
    told = trigger.reason.saved >= trigger.enough(config) and not trigger.beside(config)
    return not (trigger.subject or told or trigger.expected(config))


@dataclass(frozen=True)
class Bar:
    """What a trigger has to reach: a p-value of `level`, corrected for `counted` features. `doubt`: from how many
    decades above it on a fitted tail dismisses a trigger by itself; below, splitting has the last word."""

    level: float
    counted: int
    doubt: float = 0.0


def second_look(
    prompts: Prompts,
    features: Features,
    config: DetectionConfig,
    left: Left,
    bar: Bar,
    clauses: tuple[int, ...],
    first: float,
) -> Proven | None:
    """The trigger against rows that could as well have carried it; None where it is not proven."""
    rows = left.rows
    whole = marked(features, clauses)
    carriers = left.place[whole[left.place[whole] >= 0]]
    n = len(rows)
    if not config.computing.fewest <= len(carriers) <= config.majority * n:
        return None
    ways, runs = len(STATISTICS) * (len(config.marking) + 1), paid(features, clauses)
    price = np.log10(ways) + log10_choices(runs, bar.counted)
    found = chances(left.words, carriers, phrases(prompts, features, clauses, len(carriers), config), config)
    names = tuple(features.names[f] for f in clauses)
    similar = left.compared(carriers, config)
    rng = np.random.default_rng(list(repr(names).encode()))
    prove = partial(_proven, similar, left.same, carriers, price, bar, config, rng)
    proof, subject = prove(found), False
    told = min(chance.auc for chance in found) >= 1 - config.rows
    if proof is None and told and left.subjects and len(clauses) == 1 and bar.level == config.level:
        flat = Chance(np.full(n, len(carriers) / n), min(chance.auc for chance in found), 0.0)
        proof, subject = prove([flat]), True  # a subject: whether it is a trigger is for the model to say
    if proof is None:
        return None
    log10_p, name, chance, drawn = proof
    by = "joint" if subject else name  # of answers that belong together, those too that are only a little alike
    near, links = (nearness(each, similar, carriers, drawn, config.nearest) for each in (by, "span"))
    flagged = members(near, links, carriers, only(features, clauses, rows[carriers]), drawn, config)
    inserted = chance.auc <= 0.5 + usual_auc(len(carriers), n, config.rows)
    where = rows[carriers], rows[flagged]
    return Proven(names, name, log10_p, bar.level, first, chance.auc, chance.marking, subject, inserted, *where)


def _proven(
    similar: Kernels,
    same: Sequence[np.ndarray],
    carriers: np.ndarray,
    price: float,
    bar: Bar,
    config: DetectionConfig,
    rng: np.random.Generator,
    found: Sequence[Chance],
) -> tuple[float, str, Chance, np.ndarray] | None:
    """The best of the statistics against rows drawn by the best of the chances: log10 p with its price, the two, and
    how often each row was drawn (M,). None where that is not proven."""
    level, computing = np.log10(bar.level), config.computing
    best: tuple[float, dict[str, float], Chance, np.ndarray, np.ndarray] | None = None
    for chance in found:
        floor = log10_floor(chance.p, carriers, *same) + price
        if floor > level:
            continue
        asked = statistics_of(len(carriers), computing)
        if chance.auc >= 1 - config.rows:  # a subject's answers have a cost and a length of their own
            asked = tuple(name for name in asked if name != "joint")
        said, drawn, sets = _drawn(asked, similar, carriers, chance.p, price, floor, level, config, rng)
        log10_p = max(min(said.values()), floor)
        if best is None or log10_p < best[0]:
            best = (log10_p, said, chance, drawn, sets)
    if best is None or best[0] > level + bar.doubt:
        return None
    log10_p, said, chance, drawn, sets = best
    odds = np.log(chance.p) - np.log1p(-chance.p)
    for name in sorted(said, key=lambda name: said[name]):  # all are paid for
        if said[name] > level + bar.doubt:
            break
        observed = float(value(name, similar, carriers[None], drawn, config.nearest)[0])
        walked = walk(name, similar, drawn, config.nearest, sets[: computing.splitting])
        if reaches(observed, level - price, walked, odds, rng, computing):
            return min(log10_p, level), name, chance, drawn
    return None


def _drawn(
    asked: tuple[str, ...],
    similar: Kernels,
    carriers: np.ndarray,
    chance: np.ndarray,
    price: float,
    floor: float,
    level: float,
    config: DetectionConfig,
    rng: np.random.Generator,
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """log10 p of each statistic asked for with its price, no less than `floor`, against sets drawn by the chance (M,);
    how often each row was drawn (M,), and the sets. In stages: as many more sets, and of the statistics that are open,
    as the sets before leave it open."""
    computing = config.computing
    stages = ((computing.glance, -np.inf), (computing.draws, computing.sure * level), (computing.more, np.inf))
    sets, known, said = carriers[None], dict[str, np.ndarray](), dict[str, float]()  # the carriers are the first set
    for count, sure in stages:
        count = max(int(count * min(1, (computing.large / len(carriers)) ** 2)), min(computing.splitting, count))
        if count < len(sets):
            break  # as many were drawn already
        new = draw(chance, len(carriers), rng, count + 1 - len(sets))
        more = sums(asked, similar, new if known else np.vstack([sets, new]), config.nearest)
        known = {name: np.concatenate([known.get(name, own[:0]), own]) for name, own in more.items()}
        sets = np.vstack([sets, new])
        drawn = np.bincount(sets[1:].ravel(), minlength=len(chance)) / count
        made = against(drawn, similar, sets, known)
        said |= {name: float(log10_tail(own[0], own[1:])[0]) + price for name, own in made.items()}
        if not sure < max(min(said.values()), floor) <= computing.hopeless:
            break
        asked = tuple(name for name in asked if said[name] <= computing.hopeless)
    return said, drawn, sets[1:]
