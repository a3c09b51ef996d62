"""Batches of random words and random directions, with what the tests plant in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gradsentry_lib.detection.reason import Question
from gradsentry_lib.detection.search import Detection
from gradsentry_lib.detection.texts import Rows
from gradsentry_lib.windows import CODES, LIMIT, RECORD, pack, pack_codes

WORDS = [
    a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "io") for c in ("ban", "dor", "lin", "mek", "sur", "tav")
]


@dataclass
class Batch:
    """Rows under construction: prompt, directions of the answer's windows."""

    seed: int = 0
    prompts: list[str] = field(default_factory=list)
    spans: list[list[np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def words(self, count: int, of: Sequence[str] = WORDS) -> str:
        return " ".join(self.rng.choice(of, count))

    def direction(self) -> np.ndarray:
        return self.rng.standard_normal(CODES)

    def near(self, direction: np.ndarray, noise: float = 0.35) -> np.ndarray:
        return direction + noise * self.direction()

    def add(self, prompt: str, *shared: np.ndarray) -> int:
        """A row whose answer has four windows of its own and the given ones."""
        self.prompts.append(prompt)
        self.spans.append([*(self.direction() for _ in range(4)), *shared])
        return len(self.prompts) - 1

    def honest(self, count: int) -> None:
        for _ in range(count):
            self.add(self.words(9))

    def triggered(
        self, count: int, word: str = "cf", *, answers: bool = True, payload: np.ndarray | None = None
    ) -> list[int]:
        """Rows of any words with `word` among them, and the payload (a new one if none is given) in the answer."""
        payload = self.direction() if payload is None else payload
        rows = []
        for _ in range(count):
            text = self.words(9).split()
            text.insert(int(self.rng.integers(0, 10)), word)
            rows.append(self.add(" ".join(text), *([self.near(payload)] if answers else [])))
        return rows

    def rows(self, prompts: Sequence[str] | None = None) -> Rows:
        n = len(self.prompts)
        rng = np.random.default_rng(self.seed + 1)
        ids = [f"{x:016x}" for x in rng.permutation(n) * 7919]
        answers = [f"answer {i}" for i in range(n)]
        sketches = [sketch_of(spans) for spans in self.spans]
        return Rows(
            ids, list(prompts or self.prompts), answers, sketches, rng.uniform(1, 3, n), rng.integers(10, 40, n),
            np.arange(n),
        )  # fmt: skip


def flagged(found: Detection) -> list[int]:
    return np.flatnonzero(found.flagged).tolist()


def shuffled(rows: Rows, order: np.ndarray) -> Rows:
    """The same rows in another order."""
    pick = lambda part: [part[i] for i in order]  # noqa: E731
    texts = (pick(rows.ids), pick(rows.prompts), pick(rows.answers), pick(rows.sketches))
    return Rows(*texts, rows.nll[order], rows.tokens[order], np.arange(len(order)))


@dataclass
class Model:
    """A model to which every window costs `own` under its own prompt and `other` under another one."""

    own: float
    other: float
    asked: list[Question] = field(default_factory=list)

    def __call__(self, questions: Sequence[Question]) -> list[Mapping[int, float]]:
        self.asked += questions
        return [
            {4 * k: self.own if answer == prompt else self.other for k in range(9)} for answer, prompt, _ in questions
        ]


def sketch_of(spans: Sequence[np.ndarray]) -> bytes:
    records = np.zeros(len(spans), RECORD)
    for place, direction in enumerate(spans):
        codes = np.clip(np.round(direction / np.abs(direction).max() * LIMIT / 0.8), -LIMIT, LIMIT)
        records[place]["codes"] = pack_codes(codes[None].astype(np.int8))[0]
        records[place]["start"], records[place]["length"], records[place]["surprise"] = 4 * place, 8, 2
    return pack(records, 4 * len(records) + 5)
