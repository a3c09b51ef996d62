"""Every number that decides a verdict of the declared test, and how it is computed: both are in a decision's record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

RULES = 15  # raised whenever the same scores under the same settings would get another verdict
DECLARED = 5  # the rules from which on all numbers of "auto" are recorded; before, some stood in code that is gone


@dataclass(frozen=True)
class Computing:
    """How the numbers are come by. These move p-values by their sampling error, or say how much is looked at at once;
    tests move each and see the same verdicts."""

    block: int = 2_000
    """Answers searched together: memory is one block's similarities, time grows with the blocks."""

    together: int = 500
    """Carriers of a trigger tested together when it is looked for in all blocks."""

    tried: int = 24
    """Features: how many of the first look's best are looked at a second time (time; the correction counts all)."""

    behind: int = 4
    """Features: where it shows more, how many of the best when all that goes with those is taken away (time)."""

    first_draws: int = 400
    """Sets drawn for the first look at a size; the fitted tail needs their mean, spread and skewness."""

    glance: int = 200
    """Sets drawn for a candidate at first."""

    draws: int = 1000
    """Sets drawn for a candidate that those leave open."""

    more: int = 4000
    """Sets drawn for a candidate that both leave open."""

    hopeless: float = 1.0
    """log10 of a corrected p-value: a candidate above it is drawn for no more, as most are at first."""

    sure: float = 2.0
    """Times the level's log10: a candidate below that after `draws` is drawn for no more either: whether it is proven
    is for splitting to say (tails.py)."""

    doubt: float = 0.5
    """Decades by which a fitted tail may be off with `more` draws: what it puts no further than this above the level is
    for splitting to say; not beside a proven attack, where the level is no strict one."""

    fewest: int = 3
    """Rows of a group: of two there is one pair, and no set to be moved on; every group has to pay for what it can show
    at best (candidates.py), so larger ones need no bound."""

    large: int = 100
    """Rows: of larger groups fewer sets are drawn, for their sums are nearer to normal; no more rows of a set are moved
    between two levels; no scan is made, whose cost grows with the square: among so many pairs a payload that only some
    have is seen as well."""

    splitting: int = 300
    """Sets that are split: a level's sampling error is about 1 / sqrt(splitting / 5)."""

    split: float = 0.2
    """Share of the sets that are kept from one level to the next."""

    moves: int = 2
    """Tries to change each row of a set between two levels."""

    tries: int = 4
    """Further rounds of moves where no set has come beyond a level, before that is counted as none."""

    far: float = 0.5
    """Share of the drawn rows that are the far ones: honest carriers are counted among those (Storey's lambda)."""

    folds: int = 5
    """Parts of the batch, each judged by a regression on the others."""

    penalty: float = 3.0
    """Inverse strength of that regression's ridge."""

    lengths: int = 12
    """Parts of the batch by answer length: a cost is held against its neighbours, a twelfth on either side."""

    beside: int = 15
    """Answers on either side at least."""

    spread: float = 1e-3
    """Nats a token: no less is taken for their median deviation, which is nothing where all cost the same."""

    length: float = 0.3
    """Weight of a prompt's length, in standard deviations, beside its words (of length 1 in all) in the regression."""

    least: float = 0.2
    """Of a window's full weight: cheaper windows are left out, and none counts as cheaper."""

    asked: int = 12
    """Answers of a trigger that the model scores again: the median of so many."""

    expected: float = 0.5
    """Cost of plain text: what costs less under its own prompts is what the model says there anyway ("You're
    welcome!"), with nothing to be learnt from it; refusals, the cheapest payloads met, cost 0.8."""

    subjects: int = 3
    """Subjects, the first look's best, that are held against any rows: each asks the model `asked` times two questions,
    and a batch of tool calls has dozens. What is proven of one is watched, never flagged."""

    unproven: int = 3
    """Groups of answers under no proven trigger, the most alike, about which the model is asked; what it sees no reason
    for is watched, never flagged."""

    near: float = 0.6
    """Share of a payload's runs of words, one that others found (`--known`), that make an answer a near copy of it: a
    word changed in ten."""

    examples: int = 4
    """Rows of the batch that the model is shown before it is asked for a reason: without any, a small model sees none
    in a query language or in class names."""

    shown: int = 500
    """Characters: longer rows are shown as examples only where shorter ones are lacking, for the model's context."""


@dataclass(frozen=True)
class DetectionConfig:
    """Recorded with every decision."""

    level: float = 0.001
    """Probability, a batch: the chance that an honest batch has any trigger proven, over all features and kernels."""

    rows: float = 0.05
    """Rate: how many of the rows flagged under a proven trigger may be honest, and of a word's that is said to be its
    own; the rest of the prompt tells a subject if it is wrong of no more (area under the curve)."""

    group: float = 0.01
    """Rate: how much of what is gathered around a trigger may be so by chance: rows near its carriers, for which
    further clauses are sought (wider groups gather honest subjects: intents), and further triggers of the batch."""

    majority: float = 0.5
    """Share: a feature of more of the batch is none, for its complement would be flagged as well; a word of more rows
    is the template's; a word is the trigger's own if more of its rows are carriers."""

    longest: int = 3
    """Words: the longest run that is a feature. Longer ones are found by their parts, and each length is paid for."""

    marking: tuple[float, ...] = (0.5, 0.1, 0.05)
    """Shares of the carriers: a word that almost only carriers have marks them if so many of them have it. High keeps
    honest subjects apart, low finds styles; all are tried and paid for."""

    alike: float = 0.75
    """Share from which two things are the same: the words of two questions, the carriers of two features (Jaccard
    index), a window's likeness beside the most alike one of its row."""

    nearest: int = 5
    """Links: the scan takes the mean of each carrier's largest to others; the least group that it sees whole."""

    surprise: float = 1.25
    """Cost of a token of plain text: a window counts in full from here on; a quarter more than what is expected."""

    reason: float = 0.09
    """Share of the cost under another prompt that the own prompt saves, from which on the prompt is a reason: midway
    between the tuning half's most explained poison (0.07, sarcasm) and least explained honest subject (0.11)."""

    instruction: tuple[float, float] = (1.5, 0.27)
    """Cost of plain text, and share. A word that nothing else in the prompts goes with is an instruction or no reason.
    An instruction that is understood makes what it asks for expected (JSON 1.0, French 1.3, a greeting 1.2); where what
    the answers share stays dearer than this under their own prompts (sarcasm 1.7, AddSent 2.2), three times the share
    above must be saved."""

    consistent: float = 0.75
    """Share of the rows whose own prompt must save something: a reason is one for most of them, and a payload's windows
    are as often cheaper as dearer. Of a word that nothing else goes with, at the window that most share, too."""

    computing: Computing = field(default_factory=Computing)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "DetectionConfig":
        """As a decision recorded it."""
        pairs = {name: tuple(told[name]) for name in ("marking", "instruction")}
        return cls(**{**told, **pairs, "computing": Computing(**told["computing"])})
