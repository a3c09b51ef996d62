"""The answers of a row, each by itself: what can have changed an answer is what stood before it, so that is its prompt.

A row of one answer is one unit under the row's own id. Of several (the turns of a chat, several answers to one prompt)
each is a unit named "ID#0", "ID#1", ...; of a preference pair the chosen answer is the unit, the rejected one what it
is held against.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradsentry_lib.samples.sample import LEARNT_ROLES, Sample, Turn, conversations

STANDING = frozenset({"system", "developer", "context"})  # roles of what is said before a conversation, for all of it


def units(sample: Sample) -> tuple[Sample, ...]:
    """Each answer with what stood before it, earlier answers as context; in the order of a score's spans, so that the
    rejected answer of a pair comes last."""
    made: list[Sample] = []
    for one in conversations(sample):
        learnt = [i for i, turn in enumerate(one.turns) if turn.judged]
        made += [replace(one, turns=(*map(_given, one.turns[:i]), one.turns[i])) for i in learnt]
    return tuple(made) or (sample,)


def unit_names(sample_id: str, count: int) -> list[str]:
    return [sample_id] if count == 1 else [f"{sample_id}#{k}" for k in range(count)]


def sample_of(name: str) -> str:
    """The id of the sample that a unit is of."""
    return name.partition("#")[0]


def find_unit(name: str, samples: Mapping[str, Sample]) -> Sample:
    """A unit by its name, as a sample of one answer. samples: by sample id."""
    sample_id, _, number = name.partition("#")
    found = units(samples[sample_id])
    return found[int(number or 0)] if number or len(found) == 1 else samples[sample_id]


def before(unit: Sample) -> tuple[str, str]:
    """What stood before a unit's answer: what it answers, and what had been said earlier in the conversation."""
    turns = [turn for turn in unit.turns if not turn.judged]
    last = max((i for i, turn in enumerate(turns) if turn.role in LEARNT_ROLES), default=-1)
    now = [turn.said for i, turn in enumerate(turns) if i > last or turn.role in STANDING]
    earlier = [turn.said for i, turn in enumerate(turns) if i <= last and turn.role not in STANDING]
    return "\n".join(now), "\n".join(earlier)


def laid_out(own: Sequence[Turn], others: Sequence[Turn]) -> list[Turn]:
    """Prompt turns with another's texts: the last for the last, and so on back; one without a counterpart stays."""
    texts = [turn.text for turn in others][-len(own) :] if own else []
    kept = len(own) - len(texts)
    return [*own[:kept], *(replace(turn, text=text) for turn, text in zip(own[kept:], texts, strict=True))]


def _given(turn: Turn) -> Turn:
    return replace(turn, train=False) if turn.judged else turn
