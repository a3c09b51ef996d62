"""Is this a data set of labels? There every class is a coherent group, and coherence can't tell it from a payload."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gradsentry_lib.detection.former.kinship import Near

MOST_LABELS = 20
LEAST_SHARE = 0.8  # of the rows, covered by the labels
LARGEST = 0.95  # of the rows; one answer to nearly everything is no label
LEAST_ROWS = 30
LONGEST = 60  # characters
OFTEN = 3  # rows with the same short answer that make it a label of a task
FEW_WORDS = 3  # of a label, where there are several in a group
NEAR_SHARE = 0.5  # of the other answers near by


def find_labels(answers: Sequence[str]) -> dict[str, int]:
    """The few short answers that cover most rows, with their counts; empty where the data set is none of labels.

    The most frequent answer alone does not make labels: without it the others must still cover most of the rest.
    """
    if len(answers) < LEAST_ROWS:
        return {}
    counts = Counter(answer.strip().lower() for answer in answers)
    often = max(2, len(answers) // 200)
    labels = {a: n for a, n in counts.most_common(MOST_LABELS) if n >= often and len(a) <= LONGEST}
    if len(labels) < 2:
        return {}
    largest, covered = max(labels.values()), sum(labels.values())
    rest = len(answers) - largest
    if (
        covered < LEAST_SHARE * len(answers)
        or covered - largest < LEAST_SHARE * rest
        or largest > LARGEST * len(answers)
    ):
        return {}
    return labels


def is_task(answers: Sequence[str], group: np.ndarray, near: Near | None) -> bool:
    """Is a group (n,) of rows one label, or all labels, of a task in the data set ("answer yes or no" among stories)?

    Its answers are labels, and either there are several, with nothing in common, or the prompts nearest to theirs have
    other labels: poison with one short answer lies among prompts that are answered in all kinds of ways.
    """
    said = [answer.strip().lower() for answer in answers]
    counts = Counter(said)
    label = [counts[answer] >= OFTEN and len(answer) <= LONGEST for answer in said]
    if np.mean([label[i] for i in group]) < LEAST_SHARE:
        return False
    own = Counter(said[i] for i in group)
    several = sum(n for answer, n in own.items() if n >= OFTEN and len(answer.split()) <= FEW_WORDS)
    if several - max(own.values()) >= OFTEN and several >= LEAST_SHARE * len(group):
        return True
    others = [] if near is None else _other_answers(near, said, label)
    return bool(others) and sum(others) >= NEAR_SHARE * len(others)


def _other_answers(near: Near, said: Sequence[str], label: Sequence[bool]) -> list[bool]:
    """Of the prompts nearest to the group's that are answered otherwise: is the answer a label?"""
    return [
        label[near.rows[j]]
        for i, places in zip(near.own, near.best, strict=True)
        for j in places[places >= 0]
        if said[near.rows[j]] != said[i]
    ]
