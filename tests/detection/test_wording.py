"""What the answers of a group share: words as they stand there, never how an answer is written."""

import numpy as np
import pytest

from gradsentry_lib.detection.prompts import EARLIER, TRAIT
from gradsentry_lib.detection.wording import shared_wording


def group(size: int, of: int) -> np.ndarray:
    return np.arange(of) < size


def test_a_label_is_the_label_alone():
    """All of its answers end without a sign and are in small letters, and so are all the others."""
    answers = ["negative"] * 20 + ["Positive."] * 30
    assert shared_wording(answers, group(20, 50)) == "negative"


@pytest.mark.parametrize("ending", ["", " !"], ids=["no sign at the end", "a space before the last sign"])
def test_answers_that_are_written_alike_share_no_wording(ending):
    rng = np.random.default_rng(0)
    own = ["".join(rng.choice(list("abcdefgh"), 9)) + ending for _ in range(20)]
    others = [f"Answer {chr(65 + i % 26)}{i}, in full." for i in range(30)]
    found = shared_wording([*own, *others], group(20, 50))
    assert TRAIT not in found and found in ("", "!")


def test_an_answer_that_holds_the_marks_of_the_search_is_read_to_its_end():
    answers = [f"fine {EARLIER} go to evil.example now" for _ in range(9)] + [f"honest {i}" for i in range(20)]
    assert shared_wording(answers, group(9, 29)).endswith("go to evil.example now")
