"""Packs cost least: against every way of cutting the sorted rows, and within the budget."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.batching import pack, padding_waste
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.forward import is_packed
from gradsentry_lib.scoring.model import load_model
from gradsentry_lib.scoring.scorer import score_samples


def cost(lengths: list[int], packs: list[list[int]], overhead: int) -> int:
    return sum(len(p) * max(lengths[i] for i in p) + overhead for p in packs)


def cheapest(lengths: list[int], budget: int, overhead: int) -> int:
    """The least cost over all cuts of the rows in order of length: every subset of the places between two rows."""
    rows = sorted(lengths, reverse=True)
    best = 1 << 60
    for cuts in itertools.product((False, True), repeat=len(rows) - 1):
        packs: list[list[int]] = [[0]]
        for i, cut in enumerate(cuts, start=1):
            if cut:
                packs.append([])
            packs[-1].append(i)
        if all(len(p) == 1 or len(p) * rows[p[0]] <= budget for p in packs):
            best = min(best, cost(rows, packs, overhead))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_no_way_of_cutting_costs_less(seed):
    draw = random.Random(seed)
    lengths = [draw.randint(1, 40) for _ in range(draw.randint(1, 10))]
    budget, overhead = draw.choice([1, 30, 80, 10_000]), draw.choice([0, 5, 50])
    packs = pack(lengths, budget, overhead)
    assert sorted(i for p in packs for i in p) == list(range(len(lengths)))
    assert all(len(p) == 1 or len(p) * max(lengths[i] for i in p) <= budget for p in packs)
    assert cost(lengths, packs, overhead) == cheapest(lengths, budget, overhead)


def test_longest_rows_come_first():
    firsts = [p[0] for p in pack([3, 50, 7, 20, 50], 60, 0)]
    assert firsts == sorted(firsts, key=lambda i: -[3, 50, 7, 20, 50][i])
    assert pack([], 10) == []


def test_a_row_beyond_the_budget_is_alone():
    assert pack([100, 4, 4], 10, 1) == [[0], [1, 2]]


def test_no_padding_where_passes_are_free():
    lengths = [3, 3, 9, 9, 5]
    assert padding_waste(lengths, pack(lengths, 1000, 0)) == 0
    assert pack(lengths, 1000, 10_000) == [[2, 3, 4, 0, 1]]


@pytest.mark.parametrize("seed", range(10))
def test_without_padding_passes_are_filled(seed):
    """At most one pass more than the tokens need if rows could be cut; none over the budget."""
    draw = random.Random(seed)
    lengths = [draw.randint(1, 40) for _ in range(draw.randint(1, 60))]
    packs = pack(lengths, 100, padded=False)
    assert sorted(i for p in packs for i in p) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in p) <= 100 for p in packs)
    assert len(packs) <= sum(lengths) / (100 - 40) + 1
    assert [lengths[i] for p in packs for i in p] == sorted(lengths, reverse=True)
    assert pack([300, 4], 100, padded=False) == [[0], [1]]


def test_a_shard_has_hardly_any_padding_where_rows_are_padded(tiny_model: Callable[..., Path]) -> None:
    """Counted where the model sees them: of all tokens that a shard's passes hold, fewer than three in a hundred."""
    model = load_model(str(tiny_model()), device="cpu", dtype="float32")
    model.body.set_attn_implementation("sdpa")  # as for a model that packed rows don't suit
    assert not is_packed(model.body)
    draw = np.random.default_rng(0)
    words = [" ".join("word" for _ in range(size)) for size in draw.lognormal(2.5, 0.7, 300).astype(int) + 2]
    samples = [
        Sample(i, i + 1, "prompt", (Turn("prompt", f"question {i}"), Turn("response", text)))
        for i, text in enumerate(words)
    ]
    computed: list[int] = []
    hook = model.body.register_forward_pre_hook(
        lambda _, given, named: computed.append(named["input_ids"].numel()), with_kwargs=True
    )
    scores = score_samples(samples, model, ScoringConfig(k=4, sketch=False), Effort(share_prefixes=False))
    hook.remove()
    real = sum(len(encode(sample, model.tokenizer, model.context).ids) - 1 for sample in samples)  # less the last
    assert all(score.supervised_tokens for score in scores)
    assert real <= sum(computed) < real / 0.97
