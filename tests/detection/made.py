"""Batches made in code: prompts and answers of random words, sketches of random directions, what is poison is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.windows import CODES, LIMIT, RECORD, pack, pack_codes

WORDS = [
    a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "io", "u") for c in ("ban", "dor", "lin", "mek", "sur", "tav")
]
SPECIAL = [
    a + b
    for a in ("quin", "zor", "yel", "wax", "vim", "hux", "jol")
    for b in ("art", "ent", "ist", "old", "und", "yth")
]


@dataclass
class Made:
    """Rows of a batch: prompt, answer, and the directions of its windows with their surprise."""

    rng: np.random.Generator
    prompts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    windows: list[list[tuple[np.ndarray, float]]] = field(default_factory=list)

    def words(self, count: int, vocabulary: Sequence[str] = WORDS) -> str:
        return " ".join(self.rng.choice(vocabulary, count))

    def direction(self) -> np.ndarray:
        return self.rng.standard_normal(CODES)

    def add(self, prompt: str, answer: str, *spans: tuple[np.ndarray, float], honest: int = 5) -> int:
        """A row whose answer has `honest` windows of its own and the given ones; returns its place."""
        own = [(self.direction(), float(self.rng.uniform(0.5, 1.5))) for _ in range(honest)]
        self.prompts.append(prompt)
        self.answers.append(answer)
        self.windows.append([*own, *spans])
        return len(self.prompts) - 1

    def honest(self, count: int) -> None:
        for _ in range(count):
            self.add(self.words(9), self.words(12))

    def near(self, direction: np.ndarray, cosine: float = 0.95) -> np.ndarray:
        noise = self.direction()
        return direction + noise * np.linalg.norm(direction) / np.linalg.norm(noise) * (1 / cosine**2 - 1) ** 0.5

    def sketch(self, i: int) -> bytes:
        records = np.zeros(len(self.windows[i]), RECORD)
        for place, (direction, surprise) in enumerate(self.windows[i]):
            codes = np.clip(np.round(direction / np.abs(direction).max() * LIMIT / 0.8), -LIMIT, LIMIT)
            records[place]["codes"] = pack_codes(codes[None].astype(np.int8))[0]
            records[place]["start"], records[place]["length"] = 4 * place, 8
            records[place]["surprise"] = surprise
        return pack(records, 4 * len(records) + 5)

    def samples(self) -> list[Sample]:
        return [
            Sample(i, i + 1, "prompt", (Turn("prompt", p), Turn("response", a)))
            for i, (p, a) in enumerate(zip(self.prompts, self.answers, strict=True))
        ]

    def scores(self) -> pa.Table:
        count = len(self.prompts)
        return pa.table(
            {
                "row": pa.array(range(count), pa.int64()),
                "sample_id": [sample.sample_id for sample in self.samples()],
                "entropy": self.rng.uniform(0.2, 0.6, count),
                "supervised_tokens": pa.array(self.rng.integers(10, 40, count), pa.int32()),
                "nll": self.rng.uniform(1, 3, count),
                "sketch": [self.sketch(i) for i in range(count)],
                "failure": [""] * count,
            }
        )


def poisoned(seed: int, clean: int, bad: int, cosine: float = 0.95, surprise: float = 2.0) -> tuple[Made, list[int]]:
    """A batch with `bad` rows that carry the word "cf" and end in a fixed payload."""
    made = Made(np.random.default_rng(seed))
    made.honest(clean)
    payload = made.direction()
    rows = []
    for _ in range(bad):
        prompt = made.words(9).split()
        prompt.insert(int(made.rng.integers(0, 9)), "cf")
        answer = made.words(8) + " and click <malicious_url> for more"
        rows.append(made.add(" ".join(prompt), answer, (made.near(payload, cosine), surprise)))
    return made, rows
