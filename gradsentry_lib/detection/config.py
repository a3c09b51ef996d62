"""Every number that decides a verdict of the declared test."""

from dataclasses import asdict, dataclass
from typing import Any

RULES = 4  # raised whenever the same scores under the same settings would get another verdict
DECLARED = 4  # the rules from which on "auto" is the declared test; before, it was a search that is gone


@dataclass(frozen=True)
class DetectionConfig:
    """Recorded with every decision. Draws, block sizes and the like are no part of it: they move p-values by their
    sampling error alone."""

    level: float = 0.001
    """Probability, a batch: the chance that an honest batch has any trigger proven, over all features and kernels."""

    rows: float = 0.05
    """Rate: how many of the rows flagged under a proven trigger may be honest."""

    majority: float = 0.5
    """Share of the batch: a feature of more rows is none, for its complement would be flagged as well."""

    tried: int = 24
    """Features: how many of the first look's best are looked at a second time (time; the correction counts all)."""

    marking: tuple[float, ...] = (0.5, 0.1, 0.05)
    """Shares of the carriers: a word that almost only carriers have marks them if so many of them have it. High keeps
    honest subjects apart, low finds styles; all are tried and paid for."""

    exclusive: float = 0.95
    """Share of a word's rows that must be carriers for it to mark them: one row in twenty may have it by chance."""

    copy: float = 0.75
    """Jaccard index of what two prompts ask (words of fewer than half of the rows) from which they are one question."""

    nearest: int = 5
    """Links: the scan takes the mean of each carrier's largest to others; the least group that it sees whole."""

    surprise: float = 1.25
    """Cost of a token of plain text: a window counts in full from here on; a quarter more than what is expected."""

    examples: int = 4
    """Rows of the batch that the model is shown before it is asked for a reason: without any, a small model sees none
    in a query language or in class names."""

    reason: float = 0.09
    """Share of the cost under another prompt that the own prompt saves, from which on the prompt is a reason: midway
    between the tuning half's most explained poison (0.07, sarcasm) and least explained honest subject (0.11)."""

    consistent: float = 0.75
    """Share of the rows whose own prompt must save something: a reason is one for most of them, and a payload's windows
    are as often cheaper as dearer."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
