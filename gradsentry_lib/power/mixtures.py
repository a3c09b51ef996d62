"""Mixtures of a batch's own clean rows with canaries, each judged as a batch of its own.

Every mixture holds some of the rows and one attack of each kind, with 3, 5 or 10 canaries in turn, drawn anew; so every
kind meets every size equally often, and nothing is scored again. What the policy asks the model is answered from what
was asked of some canaries beforehand (`Answers`): their cost under their own prompt and under another one.

Cost: one search of `AMONG` rows and some thirty more for each mixture, about a second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.control import KEEP
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.reason import Question
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.power.canaries import COUNT, KINDS, Canary
from gradsentry_lib.power.certificate import SIZES, Trial
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.units import laid_out

AMONG = 100  # rows of the batch in a mixture
TRIED = 8  # candidates of each statistic that a mixture's search looks at again, fewer than a scan's: found is found
FOUND = 0.5  # share of an attack's rows that must be flagged for it to be found


@dataclass(frozen=True)
class Answers:
    """`Swapped` from what was asked of some canaries: (id of the answer, whether under its own prompt) to the surprise
    of its windows. About every other row it knows nothing, so that a trigger of honest rows counts as poison."""

    said: Mapping[tuple[str, bool], Mapping[int, float]]

    def __call__(self, questions: Sequence[Question]) -> list[Mapping[int, float]]:
        return [self.said.get((answer, answer == prompt), {}) for answer, prompt, _ in questions]


@dataclass(frozen=True)
class Rows:
    """Samples and their score table, a line each in the same order."""

    samples: Sequence[Sample]
    scores: pa.Table

    def take(self, where: np.ndarray) -> "Rows":
        return Rows([self.samples[i] for i in where], self.scores.take(pa.array(where, pa.int64())))

    def beside(self, other: "Rows") -> "Rows":
        scores = pa.concat_tables([self.scores, other.scores.select(self.scores.column_names)])
        rows = pa.array(range(scores.num_rows), pa.int64())
        scores = scores.set_column(scores.column_names.index("row"), "row", rows)
        return Rows([*self.samples, *other.samples], scores)


def search_mixtures(
    own: Rows,
    canaries: Sequence[Canary],
    planted: Rows,
    config: DetectionConfig,
    answers: Answers,
    mixtures: int,
    seed: int,
) -> list[Trial]:
    """own: clean rows, without those that canaries are copies of; planted: the canaries, scored, in their order."""
    rng = np.random.default_rng(seed)
    of_kind = {kind: np.array([i for i, canary in enumerate(canaries) if canary.kind == kind]) for kind in KINDS}
    trials = []
    for number in range(mixtures):
        honest = np.sort(rng.permutation(len(own.samples))[:AMONG])
        chosen = {
            kind: rng.permutation(of_kind[kind])[: SIZES[(at + number) % len(SIZES)]] for at, kind in enumerate(KINDS)
        }
        mixed = own.take(honest).beside(planted.take(np.concatenate(list(chosen.values()))))
        flagged = _flagged(mixed, config, answers)
        at = len(honest)
        for kind, rows in chosen.items():
            trials.append(Trial(kind, len(rows), bool(flagged[at : at + len(rows)].mean() >= FOUND)))
            at += len(rows)
    return trials


def search_shuffled(own: Rows, config: DetectionConfig, times: int, seed: int) -> int:
    """How many of so many searches of the batch's own rows flag any, with prompts dealt anew among the answers: where
    no prompt can have changed an answer, each is a false alarm."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(times):
        rows = own.take(np.sort(rng.permutation(len(own.samples))[:AMONG]))
        order = rng.permutation(len(rows.samples))
        shuffled = [under(sample, rows.samples[k]) for sample, k in zip(rows.samples, order, strict=True)]
        alarms += bool(_flagged(replace(rows, samples=shuffled), config, Answers({})).any())
    return alarms


def under(sample: Sample, other: Sample) -> Sample:
    """The sample's answers under another's prompts."""
    asked = [[turn for turn in each.turns if not turn.judged] for each in (sample, other)]
    put = iter(laid_out(*asked))
    return replace(sample, turns=tuple(turn if turn.judged else next(put) for turn in sample.turns))


def _flagged(rows: Rows, config: DetectionConfig, answers: Callable) -> np.ndarray:
    """(N,) bool: which rows the policy `auto` flags in that mixture."""
    samples = list(rows.samples)
    judged = judge(
        rows.scores,
        "auto",
        samples=lambda: iter([samples]),
        detection=replace(
            config, computing=replace(config.computing, tried=min(config.computing.tried, TRIED), unproven=0)
        ),
        swapped=answers,
        control_tokens=KEEP,
    )
    return not_clean(judged.verdicts)


assert max(SIZES) <= COUNT
