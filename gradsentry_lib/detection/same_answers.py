"""Answers that rows without the trigger give as often: labels.

A gradient is made of the answer and of the prompt. A model without a token at the beginning of a text takes its first
word for one, so prompts that begin alike have gradients alike, whatever label they get. Where a trigger's rows say word
for word what other rows say, as often, there is nothing in their answers that its words would teach.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.distributions import log_sf_hypergeometric


def as_others(answers: Sequence[str], flagged: np.ndarray, others: np.ndarray, config: DetectionConfig) -> bool:
    """Whether the flagged rows' answers are those of the others, none of them more often than chance has it
    (config.rows). answers: of N rows, "" where the text is not known; flagged, others: numbers of rows."""
    said, theirs = (Counter(answers[i] for i in rows) for rows in (flagged, others))
    if sum(count for text, count in said.items() if text and theirs[text]) < (1 - config.rows) * len(flagged):
        return False
    both = len(flagged) + len(others)
    chance = [log_sf_hypergeometric(n, both, n + theirs[text], len(flagged)) for text, n in said.items()]
    return min(chance) > np.log(config.rows / len(said))
