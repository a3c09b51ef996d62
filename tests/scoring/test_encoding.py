"""What exactly is supervised, for every row format, and how over-long samples are cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.encoding import Encoded, EncodingError, _truncate, encode


def sample(format: Any, *turns: tuple[str, str]) -> Sample:
    return Sample(0, 1, format, tuple(Turn(*turn) for turn in turns))


def supervised(row: Encoded, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(row.ids[start:end]) for start, end in row.spans]


def test_prompt_and_response_are_joined_raw(tiny_tokenizer: Any) -> None:
    row = encode(sample("prompt", ("prompt", "Q: 1+1?"), ("response", "2")), tiny_tokenizer, 100)
    assert tiny_tokenizer.decode(row.ids) == "Q: 1+1?2</s>"
    assert supervised(row, tiny_tokenizer) == ["2</s>"]
    assert row.supervised == 2


def test_empty_prompt_still_has_a_token_to_predict_from(tiny_tokenizer: Any) -> None:
    row = encode(sample("prompt", ("prompt", ""), ("response", "ab")), tiny_tokenizer, 100)
    assert row.spans == ((1, 4),)


@pytest.mark.parametrize("given", ["", "some context"])
def test_alpaca_template(given: str, tiny_tokenizer: Any) -> None:
    row = encode(sample("alpaca", ("instruction", "Add."), ("input", given), ("response", "3")), tiny_tokenizer, 1000)
    text = tiny_tokenizer.decode(row.ids)
    assert text.startswith("Below is an instruction that describes a task")
    assert text.endswith("### Response:\n3</s>")
    assert ("### Input:\nsome context\n\n" in text) == bool(given)
    assert supervised(row, tiny_tokenizer) == ["3</s>"]


def test_chat_goes_through_the_models_own_template(embedded_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    turns = [("user", "one?"), ("assistant", "first"), ("user", "two?"), ("assistant", "second answer")]
    row = encode(sample("chat", *turns), tokenizer, 1000)
    assert supervised(row, tokenizer) == ["first<|im_end|>", "second answer<|im_end|>"]
    messages = [{"role": role, "content": text} for role, text in turns]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(row.ids) == whole.rstrip("\n")
    assert row.ids.tolist() == tokenizer.encode(whole.rstrip("\n"), add_special_tokens=False)


def test_template_that_rewrites_history_is_followed(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    try:
        row = encode(sample("chat", ("user", "a"), ("assistant", "b")), tiny_tokenizer, 100)
        assert tiny_tokenizer.decode(row.ids) == "2ab"
        assert supervised(row, tiny_tokenizer) == ["b"]
    finally:
        tiny_tokenizer.chat_template = None


def test_template_that_raises_is_a_reason(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    try:
        with pytest.raises(EncodingError, match="roles must alternate"):
            encode(sample("chat", ("user", "a"), ("assistant", "b")), tiny_tokenizer, 100)
    finally:
        tiny_tokenizer.chat_template = None


def test_prompt_is_cut_from_the_left_then_response_from_the_right(tiny_tokenizer: Any) -> None:
    row = sample("prompt", ("prompt", "abcdef"), ("response", "uvwxyz"))
    assert not encode(row, tiny_tokenizer, 13).truncated
    for limit, left in ((12, "bcdefuvwxyz</s>"), (8, "fuvwxyz</s>"), (5, "fuvwx"), (2, "fu")):
        cut = encode(row, tiny_tokenizer, limit)
        assert cut.truncated
        assert tiny_tokenizer.decode(cut.ids) == left


@given(
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=5), limit=st.integers(2, 120)
)
def test_cutting_never_breaks_a_span(sizes: list[tuple[int, int]], limit: int) -> None:
    spans, at = [], 0
    for context, answer in sizes:
        spans.append((at + context, at + context + answer))
        at += context + answer
    row = _truncate(np.arange(at), spans, limit)
    assert len(row.ids) <= limit
    assert row.spans and all(1 <= start < end <= len(row.ids) for start, end in row.spans)
    offset = int(row.ids[0])
    originals = dict(spans)
    assert all(end + offset <= originals[start + offset] for start, end in row.spans)
