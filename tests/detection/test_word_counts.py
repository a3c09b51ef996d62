"""Words counted once and again where a trigger is taken out: as if everything were counted again."""

from collections import Counter

import numpy as np

from gradsentry_lib.detection.prompts import TRAIT, tokenize, without
from gradsentry_lib.detection.word_counts import WordCounts


def test_counts_without_phrases_are_those_of_prompts_without_them():
    rng = np.random.default_rng(0)
    words = np.array(["river", "boat", "the", "of", "cf", "ROW", "bank", "wine", "?"])
    tokens = [tokenize(" ".join(rng.choice(words, rng.integers(0, 14)))) for _ in range(200)]
    counted = WordCounts.of(tokens)
    for phrases in (
        [],
        [("the", "river"), ("the",)],
        [("cf",)],
        [("not", "here")],
        [("of", "boat", "of"), ("boat", "of")],
    ):
        left = [Counter(w for w in without(row, phrases) if not w.startswith(TRAIT)) for row in tokens]
        made = counted.without(phrases)
        assert made.shape == (200, len(counted.numbers))
        slow = np.array([[row[word] for word in counted.numbers] for row in left])
        assert (made.toarray() == slow).all()
        rows = np.array([3, 70, 71])
        assert (counted.only(rows).without(phrases).toarray() == slow[rows]).all()
