"""What the test reads of a sample: what was asked, and what was answered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradsentry_lib.samples.sample import Sample


@dataclass(frozen=True)
class Text:
    """One row: what was asked and what was answered, several turns of a kind joined by a line break."""

    prompt: str
    answer: str


def read_texts(chunks: Iterable[list[Sample]]) -> Iterator[Text]:
    for chunk in chunks:
        for sample in chunk:
            yield Text(sample.prompt, "\n".join(sample.answered))
