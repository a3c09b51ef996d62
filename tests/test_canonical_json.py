"""Digests of JSON values: what they share with RFC 8785, and where they differ (docs/decisions/0007)."""

import hashlib
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gradsentry_lib.files import sha256_json
from gradsentry_lib.samples.sample import Sample, Turn

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)  # Cs: halves of surrogate pairs
BASIC = st.text(st.characters(max_codepoint=0xD7FF), max_size=10)
EXACT = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | EXACT | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(BASIC, inner, max_size=4),
    max_leaves=12,
)


def of_the_standard(value: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


@given(VALUES)
def test_without_fractions_the_form_is_that_of_rfc_8785(value: Any) -> None:
    assert sha256_json(value) == of_the_standard(value)


@given(st.lists(st.tuples(WORDS, WORDS, st.none() | st.booleans()), min_size=1, max_size=4), WORDS)
def test_a_sample_id_can_be_computed_with_any_library_of_the_standard(
    turns: list[tuple[str, str, bool | None]], tools: str
) -> None:
    sample = Sample(0, None, "chat", tuple(Turn(role, text, train) for role, text, train in turns), tools)
    content = [[role, text, *([train, ""] if train is not None else [])] for role, text, train in turns]
    assert sample.sample_id == of_the_standard(["chat", content, *([tools] if tools else [])])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1.0, "a whole fraction, such as a gate limit of 1.0, loses its point there"),
        (1e16, "so does a large one"),
        ({"\U0001f600": 1, "￿": 2}, "keys are ordered by UTF-16 there, by code points here"),
    ],
)
def test_recorded_digests_would_change(value: Any, why: str) -> None:
    assert sha256_json(value) != of_the_standard(value), why


@pytest.mark.parametrize("value", [2**53, "\ud800"])
def test_some_values_have_a_digest_here_and_none_there(value: Any) -> None:
    assert len(sha256_json(value)) == 64
    with pytest.raises((ValueError, OverflowError)):
        of_the_standard(value)
