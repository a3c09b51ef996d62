"""The trust diagnostic: each verdict on data made to deserve it, its figures against plain loops, its invariances."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry_lib.detection.length_confounding import Trust, assess

K = 16


def by_length(rng, tokens, slope=0.75, noise=0.05):
    """Entropies that follow their bound, as on real data: H = slope * ln min(T, k) / ln k + noise."""
    return np.clip(slope * np.log(np.minimum(tokens, K)) / np.log(K) + rng.normal(0, noise, tokens.size), 0, 1)


def short_answers(rng, n):
    return rng.integers(2, 24, n)


def test_groups_apart_at_equal_length_are_trustworthy():
    rng = np.random.default_rng(0)
    clean, poison = rng.integers(3, 24, 900), rng.integers(14, 24, 100)
    entropy = np.concatenate([by_length(rng, clean, slope=0.45), rng.normal(0.85, 0.03, 100)])
    trust = assess(entropy, np.concatenate([clean, poison]), tau=0.65)
    assert trust.verdict == "trustworthy"
    assert trust.equal_length_separation > 0.3 and trust.two_groups_p < 0.05


def test_long_answers_beside_short_ones_are_length_confounded():
    rng = np.random.default_rng(1)
    tokens = np.concatenate([rng.integers(2, 5, 700), rng.integers(18, 24, 300)])
    trust = assess(by_length(rng, tokens), tokens, tau=0.55)
    assert trust.verdict == "length-confounded"
    assert trust.explained_by_length > 0.9 and trust.equal_length_separation < 0.05
    assert "parts long answers from short ones" in trust.message


def test_long_answers_are_saturated():
    rng = np.random.default_rng(2)
    trust = assess(rng.normal(0.85, 0.05, 400), rng.integers(40, 400, 400))
    assert trust.verdict == "saturated" and trust.saturated_share > 0.9


def test_saturation_comes_before_two_groups():
    """Very short poison among long answers (negative sentiment): two clear groups, the wrong one above tau."""
    rng = np.random.default_rng(3)
    tokens = np.concatenate([rng.integers(60, 200, 270), rng.integers(4, 7, 30)])
    entropy = np.concatenate([rng.normal(0.85, 0.04, 270), rng.normal(0.35, 0.03, 30)])
    assert assess(entropy, tokens, tau=0.6).verdict == "saturated"


def test_one_group_is_no_evidence():
    rng = np.random.default_rng(4)
    tokens = short_answers(rng, 500)
    trust = assess(rng.normal(0.4, 0.08, 500), tokens)
    assert trust.verdict == "no evidence of two groups" and trust.two_groups_p > 0.05


def test_a_few_suspects_beside_many_clean_rows_are_two_groups():
    """8 % of the rows: lost in the dip of the whole, plain in the dip from the lower peak up."""
    rng = np.random.default_rng(5)
    entropy = np.concatenate([rng.normal(0.4, 0.07, 920), rng.normal(0.8, 0.02, 80)])
    assert assess(entropy, short_answers(rng, 1000)).two_groups_p < 0.05


@pytest.mark.parametrize("n", [0, 1, 29])
def test_too_few_rows_are_no_evidence(n):
    trust = assess(np.linspace(0, 1, n), np.arange(1, n + 1))
    assert (trust.verdict, trust.n) == ("no evidence of two groups", n)
    assert trust.message.startswith(f"Only {n} scored rows")
    assert trust.figures == ()


@pytest.mark.parametrize("entropy", [np.full(100, 0.9), np.repeat([0.2, 0.9], 50)])
def test_constant_lengths_and_few_distinct_entropies(entropy):
    trust = assess(entropy, np.full(100, 12))
    assert trust.rank_correlation is None and trust.explained_by_length == pytest.approx(0, abs=1e-9)
    assert trust.verdict == "no evidence of two groups"


def test_copies_of_a_row_make_no_group():
    rng = np.random.default_rng(6)
    entropy, tokens = rng.normal(0.4, 0.08, 300), short_answers(rng, 300)
    copied = assess(np.append(entropy, np.full(300, 0.7)), np.append(tokens, np.full(300, 9)))
    assert copied.two_groups_p > 0.05


def slow_separation(entropy, tokens, tau):
    below = [(e, t) for e, t in zip(entropy, tokens, strict=True) if e <= tau]
    above = [(e, t) for e, t in zip(entropy, tokens, strict=True) if e > tau]
    differences = []
    for e, t in above:
        like = [other for other, length in below if t / 1.1 <= length <= t * 1.1]
        differences.append(e - sum(like) / len(like) if len(like) >= 3 else 0.0)
    distance = np.median([e for e, _ in above]) - np.median([e for e, _ in below])
    return float(np.clip(np.mean(differences) / distance, 0, 1))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(30, 200), tau=st.floats(0.3, 0.7))
def test_separation_and_correlation_equal_plain_loops(seed, n, tau):
    from scipy.stats import spearmanr

    rng = np.random.default_rng(seed)
    tokens = short_answers(rng, n)
    entropy = by_length(rng, tokens, noise=0.15)
    trust = assess(entropy, tokens, tau=tau)
    if 0 < np.count_nonzero(entropy > tau) < n:
        assert trust.equal_length_separation == pytest.approx(slow_separation(entropy, tokens, tau))
    assert trust.rank_correlation == pytest.approx(spearmanr(entropy, np.log(tokens))[0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 120))
def test_order_never_matters_and_unscored_rows_are_left_out(seed, n):
    rng = np.random.default_rng(seed)
    tokens = short_answers(rng, n)
    entropy = by_length(rng, tokens)
    trust = assess(entropy, tokens)
    mixed = rng.permutation(n + 3)
    padded = np.append(entropy, [np.nan, np.inf, 0.5])[mixed], np.append(tokens, [5, 5, 0])[mixed]
    assert assess(*padded) == trust
    assert Trust.from_dict(json.loads(json.dumps(trust.to_dict(), allow_nan=False))) == trust


def test_a_large_batch_is_sampled_and_judged_alike():
    rng = np.random.default_rng(7)
    tokens = np.concatenate([rng.integers(3, 24, 90_000), rng.integers(14, 24, 10_000)])
    entropy = np.concatenate([by_length(rng, tokens[:90_000], slope=0.45), rng.normal(0.85, 0.03, 10_000)])
    some = rng.choice(100_000, 2_000, replace=False)
    assert assess(entropy, tokens, tau=0.65).verdict == assess(entropy[some], tokens[some], tau=0.65).verdict
