"""Which of a trigger's clauses are needed to tell its rows."""

import numpy as np
import pytest
from planted import Batch

from gradsentry_lib.detection import ways
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import read_features, turns
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.prompts import Prompts
from gradsentry_lib.detection.search import kernels_of
from gradsentry_lib.detection.second_look import Bar
from gradsentry_lib.detection.similarity import windows
from gradsentry_lib.detection.word_counts import WordCounts

CONFIG = DetectionConfig()


@pytest.mark.parametrize("answers", [False, True], ids=["honest rows", "rows of the attack"])
def test_a_word_that_was_grown_into_a_trigger_is_its_own_where_its_rows_are(answers):
    batch = Batch(7)
    batch.honest(120)
    payload = batch.direction()
    bad = batch.triggered(12, "cf", payload=payload)
    other = batch.triggered(8, "mb", answers=answers, payload=payload)
    rows, each = batch.rows(), np.arange(140)
    prompts, same = Prompts.of(rows.prompts), (each, each)
    features = read_features(prompts.tokens)
    similar = kernels_of(rows, windows(rows.sketches, CONFIG), same, CONFIG)
    left = Left.of(np.ones(140, bool), WordCounts.of(prompts.tokens), similar, same, turns(prompts.tokens, 3), 3)
    both = features.numbers([("cf",), ("mb",)])
    found = ways.best_way(prompts, features, CONFIG, left, (Bar(1e-3, 300), -20.0, [both]))
    assert found is not None and found.flagged.tolist() == ([*bad, *other] if answers else bad)
    assert found.names == ((("cf",), ("mb",)) if answers else (("cf",),))
