"""Labels that a trigger's rows get as often as other rows are none of its doing, however alike the prompts are."""

from dataclasses import replace

import numpy as np
import pytest
from planted import Batch, Model, flagged

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.same_answers import as_others
from gradsentry_lib.detection.search import detect

CONFIG = DetectionConfig()


def test_labels_as_often_as_elsewhere():
    of = np.arange(20), np.arange(20, 120)
    evenly = ["good", "bad"] * 60
    assert as_others(evenly, *of, CONFIG)
    assert not as_others(["bad"] * 20 + evenly[20:], *of, CONFIG)
    assert not as_others([""] * 120, *of, CONFIG)
    assert not as_others([f"answer {i}" for i in range(120)], *of, CONFIG)
    assert not as_others(["bad", "none of them", *evenly[2:18], "never", *evenly[19:]], *of, CONFIG)
    assert as_others(["bad", *evenly[1:19], "never", *evenly[20:]], *of, CONFIG)  # one of twenty


@pytest.mark.parametrize("label", ["as others", "one"])
def test_gradients_that_are_alike_by_the_prompt_alone(label: str) -> None:
    """Fourteen prompts with a word have gradients alike; the answers are labels."""
    batch = Batch(8)
    batch.honest(150)
    bad = batch.triggered(14)
    labels = ["good" if i % 2 else "bad" for i in range(164)]
    if label == "one":
        labels[150:] = ["bad"] * 14
    found = detect(replace(batch.rows(), answers=labels), swapped=Model(2.0, 2.0))
    assert flagged(found) == (bad if label == "one" else [])
