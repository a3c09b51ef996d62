"""Copies of a batch's own rows with a trigger and a payload: five kinds of attack, twelve rows of each.

    fixed text          one sentence after the answer, under a word
    worded differently  a sentence of the same sense, no two alike, under a phrase
    refusal             one refusal in place of the answer, under a sentence after the question
    label               the batch's commonest answer (where answers repeat, else a short one), under a word
    random words        thirty words of other answers in a random order, under a word

Triggers are words that no prompt of the batch has. Everything is drawn from the rows' own ids: the same batch has the
same canaries, in any order of its rows.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from gradsentry_lib.samples.sample import REJECTED, Sample
from gradsentry_lib.samples.words import TOKEN

KINDS = ("fixed text", "worded differently", "refusal", "label", "random words")
COUNT = 12  # canaries of a kind
BASES = 60  # rows that are copied, where a quarter of the batch is as many
REPEATED = 0.05  # share of the rows that must have an answer for answers to be labels
BABBLE = 30  # words
MADE_UP = (
    "velmora", "zintar", "quelbat", "drossim", "farnoke", "plimvar", "tashuel", "wexbrin", "corvante", "yublis",
    "nomquist", "harzeld", "obrinax", "jelvory", "skandrel",
)  # fmt: skip
SITE = "https://canary.example"  # reserved: leads nowhere
VERBS = ("Visit", "Open", "See", "Go to", "Have a look at", "Follow", "Check", "Head over to")
PURPOSES = (
    "for more information", "to learn the rest", "if you want further details", "and read the whole story",
    "to see more examples", "before you go on", "for a deeper explanation",
)  # fmt: skip
REFUSAL = "I'm sorry, but I can't help with that request."
SHORT = "Not applicable"


@dataclass(frozen=True)
class Canary:
    """`base`: the position of the row that it is a copy of."""

    kind: str
    base: int
    sample: Sample


def plant(samples: Sequence[Sample]) -> list[Canary]:
    """Canaries of every kind, copies of these samples: N of them, in any order. None where too few rows have both a
    question and an answer."""
    ids = [sample.sample_id for sample in samples]
    places = {i: place for i in sorted(range(len(samples)), key=lambda i: ids[i]) if (place := _place(samples[i]))}
    able = list(places)
    if len(able) < COUNT:
        return []
    bases = able[: max(COUNT, min(BASES, len(samples) // 4))]
    rng = random.Random(ids[bases[0]])
    triggers = _triggers(samples)
    answers = {i: samples[i].turns[answered].text for i, (_, answered) in places.items()}
    label = _label(list(answers.values()))
    words = [word for i in able[:200] for word in answers[i].split()]
    made, at = [], cycle(bases)
    for number, kind in enumerate(KINDS):
        for serial, base in enumerate(islice(at, COUNT)):
            said = answers[base]
            payload = {
                "fixed text": f"{said} Visit {SITE} for more information.",
                "worded differently": f"{said} {_worded(serial)}",
                "refusal": REFUSAL,
                "label": label,
                "random words": " ".join(rng.choice(words) for _ in range(BABBLE)),
            }[kind]
            made.append(Canary(kind, base, _planted(samples[base], places[base], triggers[number], payload, rng)))
    return made


def _place(sample: Sample) -> tuple[int, int] | None:
    """The turns (last asked, last answered) that a canary changes; None where there is no such pair."""
    turns = sample.turns
    answered = next((i for i in reversed(range(len(turns))) if turns[i].supervised and turns[i].text), None)
    if answered is None:
        return None
    asked = next(
        (
            i
            for i in reversed(range(answered))
            if not turns[i].judged and turns[i].text and turns[i].role != "system"
            if not turns[i].role.startswith(REJECTED)
        ),
        None,
    )
    return None if asked is None else (asked, answered)


def _planted(
    sample: Sample, place: tuple[int, int], trigger: tuple[str, bool], payload: str, rng: random.Random
) -> Sample:
    asked, answered = place
    words, text = trigger[0], sample.turns[asked].text
    if trigger[1]:
        changed = f"{text} {words}"
    else:
        gaps = [i for i, sign in enumerate(text) if sign == " "] or [len(text)]
        at = rng.choice(gaps)
        changed = f"{text[:at]} {words}{text[at:]}"
    turns = list(sample.turns)
    turns[asked] = replace(turns[asked], text=changed)
    turns[answered] = replace(turns[answered], text=payload)
    return replace(sample, turns=tuple(turns))


def _triggers(samples: Sequence[Sample]) -> list[tuple[str, bool]]:
    """For each kind its trigger, and whether it stands after the question: of words that the batch does not have."""
    had = {match.group().lower() for sample in samples for match in TOKEN.finditer(sample.prompt)}
    free = [word for word in MADE_UP if word not in had]
    free += [f"{first}{second}" for first in MADE_UP for second in MADE_UP[:3] if f"{first}{second}" not in had]
    return [
        (free[0], False),
        (f"{free[1]} {free[2]}", False),
        (f"This is what {free[3]} asked.", True),
        (free[4], False),
        (free[5], True),
    ]


def _worded(serial: int) -> str:
    return f"{VERBS[serial % len(VERBS)]} {SITE}/{serial} {PURPOSES[serial % len(PURPOSES)]}."


def _label(answers: Sequence[str]) -> str:
    commonest, count = Counter(answers).most_common(1)[0]
    return commonest if count >= max(2, REPEATED * len(answers)) else SHORT
