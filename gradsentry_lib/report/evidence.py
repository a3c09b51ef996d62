"""What the detection measured of a group, one sentence a test, each with its number."""

from collections.abc import Mapping, Sequence
from typing import Any

STATISTICS = {
    "span": "the most alike spans of the answers",
    "mean": "the mean gradients of the answers",
    "cost": "what the answers cost the model",
    "joint": "the answers' spans, gradients, cost and length together",
    "scan": "the spans that each answer shares with its nearest others",
}


def evidence(figures: Mapping[str, Any], rows: int, reason_from: float) -> tuple[tuple[str, str], ...]:
    """(test, sentence). `reason_from`: the share of the cost from which on the prompt counts as a reason, of a decision
    that did not record it with the group."""
    told: list[tuple[str, str]] = []
    if "statistic" in figures:
        told += _declared(figures, rows, reason_from)
    elif "alike" in figures:
        told.append(
            (
                "Answers",
                f"{_count(figures['alike'])} answers share what hardly any others do. It costs the model "
                f"{figures['left']:.1f} times what plain text does, and their own prompts save "
                f"{figures['typical']:.0%} of that: no reason that it sees. Nothing in the prompts could be proven to "
                "go with it.",
            )
        )
    elif figures.get("outcome") == "watched":
        told.append(
            (
                "Place",
                f"It opens or ends {_count(figures.get('carriers', rows))} prompts and stands nowhere else. Their "
                "answers don't differ measurably from others, so nothing is proven.",
            )
        )
    if figures.get("inside") is not None:
        told += _former(figures)
    return tuple(told)


def _declared(figures: Mapping[str, Any], rows: int, reason_from: float) -> list[tuple[str, str]]:
    carriers, p, level = figures["carriers"], figures["log10_p"], figures["level"]
    statistic = STATISTICS.get(figures["statistic"], figures["statistic"])
    against, comparison = "those of prompts that could as well have had it", "What they foretell is taken out of the"
    if figures.get("subject"):
        against, comparison = "any others", "That is too well for a fair comparison: the model's word decides, not the"
    told = [
        (
            "Do the answers depend on it?",
            f"Yes: {statistic} set {_count(carriers)} answers apart from {against}. By chance "
            f"with probability 10^{p:.1f}, corrected for all {figures['features']:,} words and phrases that were "
            f"looked at; proven is what is below {level:g}.",
        ),
        (
            "Does the rest of the prompt foretell it?",
            f"The other words of a prompt tell its carriers from the rest with an AUC of {figures['auc']:.2f} (0.5: "
            f"not at all, 1: always). {comparison} comparison.",
        ),
        (
            "Which rows?",
            f"{_count(rows)} of {_count(carriers)} carriers answer unlike rows without it; the others answer as "
            "usual and are not in the group.",
        ),
    ]
    reason = figures.get("reason")
    if reason is None:
        said = "Not asked of these answers, or nothing could be compared."
    else:
        enough = figures.get("enough", reason_from)
        beside = reason >= enough and figures.get("beside", False)
        said = (
            f"{'No' if reason < enough or beside else 'Yes'}: its own prompt saves the untouched model {reason:.0%} of "
            f"what the shared part costs under another prompt; a reason begins at {enough:.0%}."
            + (" But what most of these answers share costs it the same under either." if beside else "")
        )
    told.append(("Does the model see a reason for it?", said))
    return told


def _former(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of decisions by versions before 0.4."""
    told = [
        (
            "Where does it stand?",
            f"In {figures['inside']:.1%} of the group's prompts and {figures.get('elsewhere') or 0:.2%} of the others"
            + (f" (lift {figures['lift']:.1f})." if figures.get("lift") is not None else "."),
        )
    ]
    if figures.get("log10_p") is not None:
        told.append(("By chance?", f"With probability 10^{figures['log10_p']:.1f}."))
    if figures.get("closeness") is not None:
        told.append(("How alike are the answers?", f"Their gradients are {figures['closeness']:.2f} close (1: alike)."))
    return told


def looked_for(policy: str, scored: int, level: float) -> tuple[str, ...]:
    """What a scan could have found, in sentences: said where it flagged nothing."""
    if policy == "paper":
        return (f"Looked for: answers whose spectral entropy lies above the threshold, among {scored:,} scored rows.",)
    fewest = provable(scored, level)
    can = f"{scored:,} scored rows are too few to prove anything, whatever is in them."
    if fewest:
        can = (
            f"Among {scored:,} scored rows an attack needs at least {fewest} rows with the same trigger before "
            "anything can be proven, and more where their answers are worded differently."
        )
    return (
        "Looked for: words, phrases and tags in prompts whose answers differ from those of rows that could as well "
        "have had them, without a reason in the prompt that the untouched model sees.",
        can,
        f"Not looked for: single poisoned rows, and attacks whose trigger is in more than half of the rows. An honest "
        f"batch has a group flagged with a probability of at most {level:g}.",
    )


def provable(scored: int, level: float, smallest: int = 3) -> int:
    """The least number of carriers that could reach the level in any batch of this size; 0 where none can."""
    from math import comb

    sizes: Sequence[int] = range(smallest, scored // 2 + 1)
    return next((size for size in sizes if comb(scored, size) >= scored / level), 0)


def _count(number: int) -> str:
    return f"{number:,}"
