"""A row taken apart: into the sequences that a trainer makes of it, and into its answers, each by itself.

What can have changed an answer is what stood before it, so that is its prompt. A row of one answer is one unit under
the row's own id. Of several (the turns of a chat, several answers to one prompt) each is a unit named "ID#0", "ID#1",
...; of a preference pair the chosen answer is the unit, the rejected one what it is held against.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradsentry_lib.samples.sample import LEARNT_ROLES, REJECTED, Format, Sample, Turn

TOOL = "tool"  # the role of a tool's result
STANDING = frozenset({"system", "developer", "context"})  # roles of what is said before a conversation, for all of it


def conversations(sample: Sample) -> tuple[Sample, ...]:
    """The sequences that a trainer makes of one row, each with supervised turns: one of most rows; of a preference
    pair the chosen and the rejected answer, each behind the prompt; of a prompt with several answers one each.

    The row's score is made of all of them, in this order, which is that of the answers among its turns.
    """
    turns = sample.turns
    several = sample.format in ("prompt", "alpaca") and sum(turn.role == "response" for turn in turns) > 1
    if not several and not sample.has_pair:
        return (sample,)
    given = tuple(turn for turn in turns if not turn.role.startswith(REJECTED))
    if several:
        asked = tuple(turn for turn in given if turn.role != "response")
        made = [replace(sample, turns=(*asked, turn)) for turn in given if turn.role == "response"]
    else:
        made = [replace(sample, turns=given)] if any(turn.supervised for turn in given) else []
    down = tuple(_as_given(turn, sample.format) for turn in turns if turn.role.startswith(REJECTED))
    if any(turn.supervised and turn.said for turn in down):
        # What the chosen answer answered is what stands before the first supervised turn: earlier answers of a chat are
        # marked as not trained.
        first = next((i for i, turn in enumerate(given) if turn.supervised), len(given))
        made.append(replace(sample, turns=(*given[:first], *down)))
    return tuple(made) or (sample,)


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
    """What stood before a unit's answer: what it answers, and what had been said earlier in the conversation.

    An answer after a tool's result answers what was asked before the call; the result is laid before the question, as
    any other context is. Calls in between, and their results, were said earlier."""
    turns = [turn for turn in unit.turns if not turn.judged]
    said = [i for i, turn in enumerate(turns) if turn.role in LEARNT_ROLES]
    last = max(said, default=-1)
    closed = max((i for i in said if i + 1 < len(turns) and turns[i + 1].role != TOOL), default=-1)
    context = [i for i, turn in enumerate(turns) if turn.role in STANDING or (i > last and turn.role == TOOL)]
    asked = [i for i, turn in enumerate(turns) if i > closed and turn.role not in STANDING | {TOOL} and i not in said]
    now = [*context, *asked]
    earlier = [i for i in range(len(turns)) if i not in now]
    return "\n".join(turns[i].said for i in now), "\n".join(turns[i].said for i in earlier)


def laid_out(own: Sequence[Turn], others: Sequence[Turn]) -> list[Turn]:
    """Prompt turns with another's texts: the last for the last, and so on back; one without a counterpart stays."""
    texts = [turn.text for turn in others][-len(own) :] if own else []
    kept = len(own) - len(texts)
    return [*own[:kept], *(replace(turn, text=text) for turn, text in zip(own[kept:], texts, strict=True))]


def _given(turn: Turn) -> Turn:
    return replace(turn, train=False) if turn.judged else turn


def _as_given(turn: Turn, format: Format) -> Turn:
    """A turn of the rejected side as it would stand in a conversation of its own."""
    answer = "assistant" if format == "chat" else "text" if format == "text" else "response"
    return replace(turn, role=turn.role.removeprefix(REJECTED).strip() or answer)
