"""Sentences on the whole batch: what a policy found, and before it what keeps that from being the whole truth."""

import re
from collections import Counter

import numpy as np
import pyarrow as pa

from gradsentry_lib.detection.control import KEEP, holding
from gradsentry_lib.detection.verdict import FLAGGED, UNSCORED

NOTHING_FOUND = "No evidence of poison."
NAMED = 3  # reasons for having no score


def batch_remarks(
    found: tuple[str, ...], failures: pa.Array, verdict: np.ndarray, scores: pa.Table, control_tokens: str
) -> tuple[str, ...]:
    """The policy's remarks, `found`, below those on rows without a score and on control tokens.

    `failures`: the scorer's words, "" for scored rows. `verdict`: (N,) final verdicts, as places in VERDICTS. Where
    rows are left out of what the policy saw, it is not said that there is no evidence of poison in the batch.
    """
    unscored = verdict == UNSCORED
    held = holding(scores)
    flagged = int(np.count_nonzero(verdict[held] == FLAGGED))
    remarks = []
    if verdict.size and unscored.all():
        remarks.append("No row could be scored: nothing is known of this batch.")
    remarks += _without_score(failures, unscored)
    if len(held) and control_tokens == KEEP:
        remarks.append(f"{_rows(len(held), 'hold')} control tokens, kept as asked: scored as a trainer reads them.")
    elif flagged:
        remarks.append(
            f"{_rows(flagged, 'hold')} control tokens in their own text, which a trainer takes for other turns: "
            "flagged. If they belong there, --control-tokens keep lets them pass."
        )
    for remark in found:
        if remark != NOTHING_FOUND or not (unscored.any() or flagged):
            remarks.append(remark)
        elif not unscored.all():
            scored = f" in the {int(np.count_nonzero(~unscored)):,} rows that have a score" if unscored.any() else ""
            remarks.append(f"{NOTHING_FOUND[:-1]}{scored}{' otherwise' if flagged else ''}.")
    return tuple(remarks)


def _without_score(failures: pa.Array, unscored: np.ndarray) -> list[str]:
    """How many rows have no score for which reason, the commonest first, in the words of one of them."""
    words = failures.filter(pa.array(unscored)).to_pylist()
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    for word in words:
        kind = re.sub(r"\d+", "#", word or "")
        counts[kind] += 1
        example.setdefault(kind, word or "its entropy is not a number")
    told = [f"{_rows(count, 'have')} no score: {example[kind]}" for kind, count in counts.most_common(NAMED)]
    left = len(words) - sum(count for _, count in counts.most_common(NAMED))
    return told + ([f"{_rows(left, 'have')} no score for other reasons."] if left else [])


def _rows(count: int, verb: str) -> str:
    return f"{count:,} rows {verb}" if count != 1 else f"1 row {'has' if verb == 'have' else verb + 's'}"
