"""The model's word on swapped prompts for the cached cases, asked once for each asked and kept beside the scores."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scored import MAX_TOKENS, Scored
from gradsentry_lib.detection.reason import Question, Said, answered
from gradsentry_lib.files import atomic_path


class Reasons:
    """`Swapped` for one case. Without `model` a asked that was never asked has no word, and is counted in `missing`."""

    def __init__(self, case: Scored, folder: Path, model: Any = None) -> None:
        self.samples = {sample.sample_id: sample for sample in case.samples}
        self.path = folder / f"{case.name}.swapped.json"
        self.model = model
        self.missing = 0
        said = json.loads(self.path.read_text()) if self.path.exists() else []
        self.known: Said = {
            (answer, prompt, tuple(shown)): {int(start): value for start, value in costs.items()}
            for answer, prompt, shown, costs in said
        }

    def __call__(self, questions: Sequence[Question]) -> list[Mapping[int, float]]:
        if self.model is None:
            self.missing += sum(asked not in self.known for asked in questions)
            return [self.known.get(asked, {}) for asked in questions]
        before = len(self.known)
        found = answered(self._ask, questions, self.known)
        if len(self.known) > before:
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps([[*asked, costs] for asked, costs in self.known.items()]))
        return found

    def _ask(self, questions: Sequence[Question]) -> Sequence[Mapping[int, float]]:
        from gradsentry_lib.scoring.config import ScoringConfig
        from gradsentry_lib.scoring.swapped import score_swapped

        return score_swapped(questions, self.samples, self.model, ScoringConfig(max_tokens=2 * MAX_TOKENS))
