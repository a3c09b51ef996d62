"""The model's word on swapped prompts, asked for a decision and kept with it: swapped.json in the decision's folder,
its SHA-256 in the decision's recorded settings. A decision is derived again from the file, without a model."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradsentry_lib.detection.reason import Question, Said, Swapped, answered
from gradsentry_lib.errors import DamagedStore
from gradsentry_lib.files import has_digest, sha256_file, write_json
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.samples.units import sample_of
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.store.paths import DecisionFiles

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel


class Asked:
    """`Swapped` that asks a model, loaded on the first question, and remembers what it said."""

    def __init__(self, samples: Path, load: Callable[[], "AnyModel"], config: ScoringConfig) -> None:
        self.samples, self.load, self.config = samples, load, config
        self.said: Said = {}

    def __call__(self, questions: Sequence[Question]) -> list[Mapping[int, float]]:
        return answered(self._ask, questions, self.said)

    def _ask(self, questions: Sequence[Question]) -> Sequence[Mapping[int, float]]:
        from gradsentry_lib.scoring.swapped import score_swapped

        wanted = {sample_of(name) for answer, prompt, shown in questions for name in (answer, prompt, *shown)}
        chunks = read_samples(self.samples)
        found = {s.sample_id: s for chunk in chunks for s in chunk if s.sample_id in wanted}
        return score_swapped(questions, found, self.load(), self.config)

    def write(self, path: Path) -> str:
        """Writes the file; its SHA-256."""
        write_json(path, [[*asked, sorted(costs.items())] for asked, costs in sorted(self.said.items())])
        return sha256_file(path)


def recorded(decision: DecisionFiles, sha256: str) -> Swapped:
    """`Swapped` from what a decision kept. Raises BadInput where the file is gone, altered, or lacks a question."""
    path = decision.swapped
    if not has_digest(path, sha256):
        raise DamagedStore(f"what the model said for this decision is gone or altered: {path}")
    said = {
        (answer, prompt, tuple(shown)): dict(costs)
        for answer, prompt, shown, costs in json.loads(path.read_text(encoding="utf-8"))
    }

    def lookup(questions: Sequence[Question]) -> list[Mapping[int, float]]:
        missing = next((asked for asked in questions if asked not in said), None)
        if missing is not None:
            raise DamagedStore(f"{path} does not hold what the model said of sample {missing[0]} under another prompt")
        return [said[asked] for asked in questions]

    return lookup
