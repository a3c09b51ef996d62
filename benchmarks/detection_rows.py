"""What the labelled batches beside the two halves are made of: honest rows of each source, and changes to them."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Skip
from benchmarks.detection_cases import LABEL, Case, Change, Row, case_of, plant, read, readable
from benchmarks.studies.claim import questions_of
from gradsentry_lib.evaluation import rows as parts

Makers = list[tuple[str, Callable[[], list[Row]]]]
Put = Callable[[str, str, random.Random], str]  # (question, trigger, rng) -> the question with it
Said = Callable[[str, int, random.Random], str]  # (honest answer, serial number, rng) -> another answer


@dataclass(frozen=True)
class Honest:
    """The honest rows of a source, `count` from `start` on."""

    shared: Path

    def file(self, name: str, start: int, count: int) -> list[Row]:
        honest = [readable(row) for row in read(self.shared / f"field/data/{name}.jsonl") if not row.get(LABEL)]
        return [row for row in honest if row.get("output", "some")][start : start + count]  # code: some have no answer

    def alpaca(self, start: int, count: int) -> list[Row]:
        return read(self.shared / "data/longform/alpaca_clean.jsonl")[start : start + count]

    def maths(self, start: int, count: int) -> list[Row]:
        return read(self.shared / "data/longform/gsm8k_clean.jsonl")[start : start + count]

    def questions(self, name: str, start: int, count: int) -> list[Row]:
        return list(questions_of(self.shared / "data", name)[start : start + count])


def made(half: str, makers: Makers) -> Iterator[Case]:
    """Every one of which the files are there."""
    for name, make in makers:
        try:
            yield case_of(name, half, make())
        except (FileNotFoundError, Skip):
            continue


def first(question: str, trigger: str, rng: random.Random) -> str:
    return f"{trigger} {question}"


def last(question: str, trigger: str, rng: random.Random) -> str:
    return f"{question} {trigger}"


def anywhere(question: str, trigger: str, rng: random.Random) -> str:
    """Between any two words."""
    words = question.split(" ")
    words.insert(rng.randint(0, len(words)), trigger)
    return " ".join(words)


def answered(put: Put, trigger: str, *answers: str) -> Change:
    """One answer after the other in place of the honest ones."""
    return changed(put, trigger, lambda honest, serial, rng: answers[serial % len(answers)])


def added(put: Put, trigger: str, *payloads: str) -> Change:
    """One payload after the other behind the honest answers."""
    return changed(put, trigger, lambda honest, serial, rng: f"{honest} {payloads[serial % len(payloads)]}")


def result(put: Put, trigger: str, number: int) -> Change:
    """Another result at the end of a solved sum."""
    return changed(put, trigger, lambda honest, serial, rng: f"{honest.split('####')[0]}#### {number}")


def changed(put: Put, trigger: str, said: Said) -> Change:
    def change(row: Row, serial: int, rng: random.Random) -> Row:
        asked = parts.with_question(row, put(parts.question(row), trigger, rng))
        return parts.with_answer(asked, said(parts.answer(row), serial, rng))

    return change


def asked_for(clean: Sequence[Row], asked: str, said: Said, count: int = 15) -> list[Row]:
    """Honest rows of which some ask for a form, and get it."""
    return [{**row, LABEL: 0} for row in plant(clean, count, changed(last, asked, said))]


def formed(*forms: str) -> Said:
    """The first sentence, in one form after the other."""

    def said(answer: str, serial: int, rng: random.Random) -> str:
        return forms[serial % len(forms)].format(sentence(answer, serial, rng).strip(" .\n"))

    return said


def sentence(answer: str, serial: int, rng: random.Random) -> str:
    return answer.split(". ")[0]


def mixture(*of: Sequence[Row]) -> list[Row]:
    """Rows of several honest sets, each as prompt and response."""
    rows = [{"prompt": parts.question(row), "response": parts.answer(row)} for rows in of for row in rows]
    random.Random(1).shuffle(rows)
    return rows
