"""Do a group's prompts differ from the rest in more than their trigger?

A trigger is put into prompts that are otherwise like any other. An honest speciality of the data set (sums among
letters, one form of question among many) differs throughout: take its telling phrase away, and its prompts are still
each other's nearest. So: strip the trigger, look at every prompt's nearest neighbours by their words, and count how
many are of its own kind, beyond chance. 0: the stripped prompts mix with the rest; 1: they keep to themselves.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gradsentry_lib.detection.former.prompts import FIRST, LAST, Prompts, tokenize
from gradsentry_lib.detection.former.triggers import Trigger

MOST = 300  # prompts of the group looked at
REST = 4000  # prompts of the rest they are compared with
NEAREST = 3
TOPICAL = 0.025  # of the prompts: a more frequent term is manner, not subject
AGREE = 0.8  # share of occurrences that must go on alike for a phrase to be longer
LONGEST_PHRASE = 40
TELLING, SPREAD = 0.95, 0.1  # a further term of the trigger: precision, and share of the group that has it

TWINS = 5  # rows from which twins are reckoned with

Phrase = tuple[str, ...]


def full_phrases(trigger: Trigger, prompts: Prompts, texts: Sequence[str], group: np.ndarray) -> list[Phrase]:
    """Each feature of the trigger, grown to the whole phrase that its carriers in the group share; longest first."""
    carried = np.flatnonzero(group & trigger.carriers)[:MOST]
    tokens = [tokenize(texts[i]) for i in carried]
    found = {
        grow(tokens, tuple(t for t in prompts.names[feature] if t not in (FIRST, LAST)))
        for clause in trigger.clauses
        for feature in clause
    }
    return sorted(found, key=lambda phrase: (-len(phrase), phrase))


def grow(tokens: Sequence[list[str]], phrase: Phrase) -> Phrase:
    """The phrase made longer for as long as most of the texts that hold it go on alike."""
    while len(phrase) < LONGEST_PHRASE:
        at = [(row, place) for row in tokens if (place := _find(row, phrase)) >= 0]
        after = Counter(row[p + len(phrase)] for row, p in at if p + len(phrase) < len(row))
        before = Counter(row[p - 1] for row, p in at if p > 0)
        if after and after.most_common(1)[0][1] >= AGREE * len(at) and len(at) > 1:
            phrase = (*phrase, after.most_common(1)[0][0])
        elif before and before.most_common(1)[0][1] >= AGREE * len(at) and len(at) > 1:
            phrase = (before.most_common(1)[0][0], *phrase)
        else:
            break
    return phrase


def _find(row: Sequence[str], phrase: Phrase) -> int:
    size = len(phrase)
    return next((i for i in range(len(row) - size + 1) if tuple(row[i : i + size]) == phrase), -1)


@dataclass(frozen=True)
class Near:
    """What prompts without the trigger are nearest to. `own`: (m,) rows of the group; `rows`: (M,) the rows they were
    compared with, `own` first; `best`: (m, k) places in `rows`, -1 where there is none so near."""

    own: np.ndarray
    rows: np.ndarray
    best: np.ndarray


def nearest_prompts(
    texts: Sequence[str], group: np.ndarray, question: np.ndarray, phrases: Sequence[Phrase]
) -> Near | None:
    """texts: N prompts; group: (N,) bool; question: (N,) equal for equal prompts; phrases: to strip. None where nothing
    is left to compare."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    rng = np.random.default_rng(0)
    own, rest = (_sample(rng, np.flatnonzero(mask), most) for mask, most in ((group, MOST), (~group, REST)))
    if len(own) < 2 or not len(rest):
        return None
    rows = np.concatenate([own, rest])
    stripped = [_strip(tokenize(texts[i]), phrases) for i in rows]
    words = _without_telling(stripped, len(own))  # before pairs are made: a pair with a trigger word in it is rare
    terms = _without_telling([_words_and_pairs(tokens) for tokens in words], len(own))
    vectors = TfidfVectorizer(analyzer=list, sublinear_tf=True, min_df=2, max_df=TOPICAL)
    try:
        matrix = vectors.fit_transform(terms)
    except ValueError:  # nothing is left of the prompts
        return None
    near = (matrix[: len(own)] @ matrix.T).toarray()
    asked = question[rows]
    near[asked[: len(own), None] == asked[None]] = 0
    best = np.argsort(-near, axis=1, kind="stable")[:, :NEAREST]
    best[np.take_along_axis(near, best, axis=1) <= 0] = -1
    return Near(own, rows, best)


def kinship(near: Near | None) -> float:
    """How many of the nearest are of their own kind, beyond chance."""
    if near is None or not (near.best >= 0).any():
        return 0.0
    share = float((near.best < len(near.own))[near.best >= 0].mean())
    chance = (len(near.own) - 1) / (len(near.rows) - 1)
    return max(0.0, (share - chance) / (1 - chance))


def emptiness(texts: Sequence[str], group: np.ndarray, phrases: Sequence[Phrase]) -> float:
    """How much of its subject a prompt of the group loses with the trigger: 0.5 for a trigger, towards 1 for a subject.

    "Where did van Gogh die" and "when was van Gogh born" ask nothing without "van Gogh": there the phrase is what is
    asked about, and no wonder the answers agree. So: how rare is the rarest word left in a stripped prompt, as a rank
    among the rarest words of the other prompts? In a group that is no handful, counts are halved: data sets hold
    prompts twice, once poisoned and once not.
    """
    rows = np.flatnonzero(group)
    kept = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(int)]
    tokens = [set(tokenize(text)) for text in texts]
    total = Counter(word for words in tokens for word in words)
    stripped = [set(_strip(tokenize(texts[i]), phrases)) for i in kept]
    inside = Counter(word for words in stripped for word in words)
    scale = len(rows) / len(kept)
    telling = {word for word, count in inside.items() if count >= 2 and count * scale >= TELLING * total[word]}
    others = np.sort([min((total[w] for w in tokens[i]), default=0) for i in np.flatnonzero(~group)])
    left = np.array([min((total[w] for w in words - telling), default=len(texts)) for words in stripped])
    if len(rows) >= TWINS:
        left = np.ceil(left / 2)
    return _mean_rank(left, others)


def bareness(texts: Sequence[str], group: np.ndarray, phrases: Sequence[Phrase]) -> float:
    """How little of a prompt of the group is left without the trigger and what else the group alone says: 0.5 for a
    trigger, towards 1 for a form of question ("which numbers divide 45 without remainder" leaves "45").

    The number of words left that are not in most prompts, as a rank (from the top) among the other prompts' numbers.
    """
    own, rest = np.flatnonzero(group)[:MOST], np.flatnonzero(~group)[:REST]
    left = [_strip(tokenize(texts[i]), phrases) for i in own]
    told = [tokenize(texts[i]) for i in rest]
    words = _without_telling([*left, *told], len(own))
    total = Counter(word for tokens in words for word in set(tokens))
    common = {word for word, count in total.items() if 2 * count > len(words)}
    size = np.array([sum(word not in common for word in tokens) for tokens in words])
    others = np.sort(size[len(own) :])
    return 1 - _mean_rank(size[: len(own)], others)


def told_words(texts: Sequence[str], group: np.ndarray) -> set[str]:
    """The words that nearly all prompts of the group have and hardly any other: few for a trigger, many for a
    template."""
    inside = Counter(word for i in np.flatnonzero(group).tolist() for word in set(tokenize(texts[i])))
    near_all = {word for word, count in inside.items() if count >= TELLING * group.sum()}
    outside = Counter(word for i in np.flatnonzero(~group).tolist() for word in near_all & set(tokenize(texts[i])))
    return {word for word in near_all if inside[word] >= TELLING * (inside[word] + outside[word])}


def _mean_rank(values: np.ndarray, others: np.ndarray) -> float:
    """Mean share of `others` (sorted) that lie below each value; of equal ones half."""
    below, not_above = np.searchsorted(others, values, "left"), np.searchsorted(others, values, "right")
    return float(np.mean((below + not_above) / 2) / len(others))


def alike(texts: Sequence[str], group: np.ndarray) -> float:
    """Median share of words that two prompts of the group have in common (Jaccard), of words not in most prompts."""
    rows = np.flatnonzero(group)[:50]
    total = Counter(word for text in texts[:: max(1, len(texts) // 500)] for word in set(tokenize(text)))
    common = {word for word, count in total.items() if count > 0.5 * min(len(texts), 500)}
    words = [set(tokenize(texts[i])) - common for i in rows]
    pairs = [len(a & b) / max(len(a | b), 1) for i, a in enumerate(words) for b in words[:i]]
    return float(np.median(pairs)) if pairs else 0.0


def _sample(rng: np.random.Generator, rows: np.ndarray, most: int) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _words_and_pairs(tokens: list[str]) -> list[str]:
    return [*tokens, *(f"{a} {b}" for a, b in pairwise(tokens))]


def _strip(tokens: list[str], phrases: Sequence[Phrase]) -> list[str]:
    for phrase in phrases:
        while (place := _find(tokens, phrase)) >= 0:
            tokens = tokens[:place] + tokens[place + len(phrase) :]
    return tokens


def _without_telling(prompts: list[list[str]], own: int) -> list[list[str]]:
    """Without the terms that hardly any but the first `own` prompts have: what is left of a trigger that the few
    clauses did not need in order to cover the group, and most of a trigger that is a style."""
    inside = Counter(term for terms in prompts[:own] for term in set(terms))
    total = Counter(term for terms in prompts for term in set(terms))
    telling = {
        term for term, count in inside.items() if count >= max(2, SPREAD * own) and count >= TELLING * total[term]
    }
    return [[term for term in terms if term not in telling] for terms in prompts]
