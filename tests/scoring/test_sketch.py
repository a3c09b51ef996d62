"""Span sketches against a reference, and what their bytes promise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradsentry_lib.scoring.sketch import SIDE, Projection, _signs, join, project, windows
from gradsentry_lib.windows import CODES, LIMIT, MAX_WINDOWS, RECORD, pack, pack_codes, unpack, unpack_codes

V, D = 300, 48


def projection() -> Projection:
    usual = torch.linspace(-1, 1, D)
    return Projection(_signs(V, SIDE, 1), _signs(D, SIDE, 2), _signs(SIDE * SIDE, CODES, 3), usual, price=2.0)


def spans(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    errors = torch.randn(count, V, generator=generator)
    hidden = torch.randn(count, D, generator=generator)
    return errors, hidden, torch.rand(count, generator=generator) * 5


def test_a_window_is_the_projected_sum_of_its_tokens_gradients():
    errors, hidden, nll = spans([21])
    made = projection()
    (records,) = windows(project(errors, hidden, made), nll, [21], made)
    assert records["start"].tolist() == [0, 4, 8, 12] and (records["length"] == 8).all()
    for record in records:
        at = range(record["start"], record["start"] + 8)
        gradient = sum(torch.outer(errors[t].double(), (hidden[t] - made.usual).double()) for t in at)  # (V, D)
        square = made.errors.double().T @ gradient @ made.states.double()
        expected = (square.flatten() @ made.outer.double()).numpy()
        codes = unpack_codes(record["codes"][None])[0].astype(float)
        cosine = codes @ expected / np.linalg.norm(codes) / np.linalg.norm(expected)
        assert cosine > 0.98
        assert record["surprise"] == pytest.approx(float(nll[list(at)].mean()) / 2, rel=1e-3)


def test_sketches_keep_the_cosine_of_whole_gradients():
    """Two windows share part of their gradient; their sketches' cosine says how much, up to the projections' noise."""
    made = projection()
    differences = []
    for seed in range(40):
        errors, hidden, nll = spans([9, 9], seed)
        share = seed / 40
        errors[9:], hidden[9:] = (
            share * errors[:9] + (1 - share) * errors[9:],
            share * hidden[:9] + (1 - share) * hidden[9:],
        )
        one, two = (record[0] for record in windows(project(errors, hidden, made), nll, [9, 9], made))
        a, b = (unpack_codes(record["codes"][None])[0].astype(float) for record in (one, two))
        full = [sum(torch.outer(errors[t], hidden[t] - made.usual) for t in range(s, s + 8)).flatten() for s in (0, 9)]
        true = torch.nn.functional.cosine_similarity(full[0], full[1], dim=0)
        differences.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b) - float(true))
    assert abs(np.mean(differences)) < 0.05 and np.std(differences) < 0.15


def test_a_span_makes_the_same_records_alone_and_among_others():
    made = projection()
    lengths = [1, 5, 9, 30, 2]
    errors, hidden, nll = spans(lengths)
    tokens = project(errors, hidden, made)
    together = windows(tokens, nll, lengths, made)
    start = 0
    for length, records in zip(lengths, together, strict=True):
        (alone,) = windows(tokens[start : start + length], nll[start : start + length], [length], made)
        assert (
            alone["start"].tolist() == records["start"].tolist()
            and alone["length"].tolist() == records["length"].tolist()
        )
        assert np.abs(unpack_codes(alone["codes"]).astype(int) - unpack_codes(records["codes"])).max() <= 1
        start += length


def test_the_end_of_sequence_is_left_out_where_there_is_more():
    made = projection()
    errors, hidden, nll = spans([9, 4, 1])
    first, second, third = windows(project(errors, hidden, made), nll, [9, 4, 1], made)
    assert [records["length"].tolist() for records in (first, second, third)] == [[8], [3], [1]]


def test_a_window_without_a_gradient_is_dropped():
    made = projection()
    (records,) = windows(torch.zeros(9, 2 * SIDE), torch.zeros(9), [9], made)
    assert len(records) == 0
    assert len(unpack([join([records], [9])])[0]) == 0


def test_a_surprising_span_of_a_long_answer_is_kept_in_four_kilobytes():
    made = projection()
    errors, hidden, nll = spans([2001])
    nll[:] = 1
    nll[1200:1208] = 9
    sketch = join(windows(project(errors, hidden, made), nll, [2001], made), [2001])
    records, _, tokens = unpack([sketch])
    assert len(sketch) <= 4096 and len(records) == MAX_WINDOWS and tokens.tolist() == [2001]
    assert 1200 in records["start"] and (np.diff(records["start"].astype(int)) > 0).all()


def test_the_turns_of_a_chat_are_counted_on():
    made = projection()
    errors, hidden, nll = spans([9, 12])
    sketch = join(windows(project(errors, hidden, made), nll, [9, 12], made), [9, 12])
    records, owner, tokens = unpack([b"", sketch, None])
    assert records["start"].tolist() == [0, 9, 12] and owner.tolist() == [1, 1, 1] and tokens.tolist() == [0, 21, 0]


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(-LIMIT, LIMIT), min_size=CODES, max_size=CODES), min_size=1, max_size=4))
def test_codes_come_back(values):
    codes = np.array(values, np.int8)
    assert np.array_equal(unpack_codes(pack_codes(codes)), codes)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"X" + b[1:], lambda b: b[:3] + b"\x09" + b[4:], lambda b: b[:5]]
)
def test_bytes_that_are_no_sketch_are_refused(damage):
    sketch = pack(np.zeros(2, RECORD), 11)
    with pytest.raises(ValueError, match="sketch 0"):
        unpack([damage(sketch)])


def test_the_projections_are_the_same_everywhere():
    signs = _signs(7, 5, 1) * 5**0.5
    assert signs.abs().allclose(torch.ones(7, 5))
    assert (signs[0] > 0).tolist() == (_signs(7, 5, 1)[0] > 0).tolist() != (_signs(7, 5, 2)[0] > 0).tolist()
