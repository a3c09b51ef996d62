"""What the model says to an answer under another row's prompt, after a few rows as examples: the third clause of the
declared test needs it for a few rows of a few candidates (detection/reason.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gradsentry_lib.detection.reason import Question, surprises
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.resident import score_with

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel


def swapped(sample: Sample, other: Sample, shown: Sequence[Sample] = ()) -> Sample:
    """The sample under another's prompt: its prompt turns, the last for the last; a turn without a counterpart stays.
    The rows shown stand before the first prompt turn, as plain text."""
    mine = [i for i, turn in enumerate(sample.turns) if not turn.supervised]
    theirs = [turn for turn in other.turns if not turn.supervised]
    texts = {i: turn.text for i, turn in zip(reversed(mine), reversed(theirs), strict=False)}
    if mine:
        before = "".join("\n".join(turn.text for turn in row.turns) + "\n\n" for row in shown)
        texts[mine[0]] = before + texts.get(mine[0], sample.turns[mine[0]].text)
    turns = tuple(replace(turn, text=texts.get(i, turn.text)) for i, turn in enumerate(sample.turns))
    return replace(sample, turns=turns)


def score_swapped(
    questions: Sequence[Question], samples: Mapping[str, Sample], model: "AnyModel", config: ScoringConfig
) -> list[dict[int, float]]:
    """For each question the surprise of the answer's windows, by first token; empty where the model could not score it.
    samples: by sample id."""
    put = [
        swapped(samples[answer], samples[prompt], [samples[name] for name in shown])
        for answer, prompt, shown in questions
    ]
    return [surprises(score.sketch) if score.sketch else {} for score in score_with(model, put, config)]
