"""What the model says to an answer under another row's prompt, after a few rows as examples: the third clause of the
declared test needs it for a few rows of a few candidates (detection/reason.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gradsentry_lib.detection.config import Computing
from gradsentry_lib.detection.reason import Question, surprises
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.units import find_unit, laid_out
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.resident import score_with

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel

SHOWN = Computing.shown  # characters, the last ones, of a row that stands before a prompt as an example


def swapped(answer: Sample, prompt: Sample, shown: Sequence[Sample] = ()) -> Sample:
    """One answer's words under another's prompt, which keeps its own turns and tools; the rows shown stand before its
    first turn, as plain text. Both are units (samples/units.py); a prompt of another format is laid out as the own one.
    """
    turns = [turn for turn in prompt.turns if not turn.judged]
    if answer.format != prompt.format:
        turns = laid_out([turn for turn in answer.turns if not turn.judged], turns)
    if turns:
        before = "".join("\n".join(turn.text for turn in row.turns)[-SHOWN:] + "\n\n" for row in shown)
        turns[0] = replace(turns[0], text=before + turns[0].text)
    own = tuple(turn for turn in answer.turns if turn.judged)
    return replace(answer, turns=(*turns, *own), tools=prompt.tools)


def score_swapped(
    questions: Sequence[Question], samples: Mapping[str, Sample], model: "AnyModel", config: ScoringConfig
) -> list[dict[int, float]]:
    """For each question the surprise of the answer's windows, by first token; empty where the model could not score it.
    samples: by sample id; the questions name units of them."""
    put = [
        swapped(find_unit(answer, samples), find_unit(prompt, samples), [find_unit(name, samples) for name in shown])
        for answer, prompt, shown in questions
    ]
    return [surprises(score.sketch) if score.sketch else {} for score in score_with(model, put, config)]
