"""What the filter reads of a sample: what was asked, and what was answered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gradsentry_lib.detection.former.prompts import tokenize
from gradsentry_lib.samples.sample import Sample

Turns = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Read:
    """One row: what was asked and what was answered, several turns of a kind joined by a line break. `turns`: for each
    answer its turn's number and where it begins in the joined text."""

    prompt: str
    answer: str
    turns: Turns


@dataclass(frozen=True)
class Texts:
    """The same of N rows, column by column."""

    prompts: list[str]
    answers: list[str]
    turns: list[Turns]

    def append(self, row: Read) -> None:
        self.prompts.append(row.prompt)
        self.answers.append(row.answer)
        self.turns.append(row.turns)


def read_texts(chunks: Iterable[list[Sample]]) -> Iterator[Read]:
    for chunk in chunks:
        for sample in chunk:
            asked, answered, turns, length = [], [], [], 0
            for number, turn in enumerate(sample.turns):
                said = turn.said
                if turn.judged:
                    turns.append((number, length))
                    answered.append(said)
                    length += len(said) + 1
                else:
                    asked.append(said)
            yield Read("\n".join(asked), "\n".join(answered), tuple(turns))


def number_questions(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """questions (N,): the same number for prompts of the same words; repeated (N,) bool: an exact duplicate."""
    numbers: dict[tuple[str, ...], int] = {}
    seen: set[tuple[int, str]] = set()
    questions, repeated = np.empty(len(texts.prompts), np.int64), np.zeros(len(texts.prompts), bool)
    for i, (prompt, answer) in enumerate(zip(texts.prompts, texts.answers, strict=True)):
        questions[i] = numbers.setdefault(tuple(tokenize(prompt)), len(numbers))
        key = (int(questions[i]), answer)
        repeated[i] = key in seen
        seen.add(key)
    return questions, repeated
