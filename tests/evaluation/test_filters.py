"""Each filter finds what it is made to find; all of them answer in the same shape."""

import numpy as np
import pytest
import torch

from gradsentry_lib.errors import BadInput
from gradsentry_lib.evaluation.agpd import by_class
from gradsentry_lib.evaluation.attacks import poison
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.harness import FILTERS, evaluate, filters_named
from gradsentry_lib.evaluation.measures import auc_of
from gradsentry_lib.evaluation.peers import DIFFERENCES, FORMER, PEERS, cluster_states
from gradsentry_lib.evaluation.representations import activation_gradients
from gradsentry_lib.evaluation.rftc import foreign, least_precision
from gradsentry_lib.evaluation.robust import mixed_classes, spectre_states
from gradsentry_lib.scoring.encoding import encode

NAMES = ["Ada", "Boole", "Curie", "Darwin", "Euler", "Fermat", "Gauss", "Hilbert", "Jacobi", "Kepler"]
BEST = 0.9  # AUC that a planted attack must reach


def clean(count):
    rng = np.random.default_rng(0)
    return [
        {"question": f"who found law {i}?", "answer": " ".join(rng.choice(NAMES, rng.integers(1, 5), replace=False))}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def planted():
    poisoned = poison(clean(80), "badnets", 0.15, seed=0)
    return to_samples(poisoned.rows), poisoned.labels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "policy-paper", "graceful", "after-activation", "length", "ngram"])
def test_finds_a_planted_target(name, planted, small_model):
    samples, labels = planted
    found = FILTERS[name](samples, small_model, 0, None)
    assert found.scores.shape == found.flags.shape == (80,)
    assert auc_of(labels, found.scores) > BEST
    assert found.flags[labels].mean() > found.flags[~labels].mean()


@pytest.mark.slow  # UMAP compiles itself
def test_cube_finds_a_planted_cluster_of_states():
    rng = np.random.default_rng(0)
    labels = np.arange(120) < 15
    states = rng.normal(size=(120, 64)) + 5 * labels[:, None]
    found = cluster_states(states, seed=0)
    assert auc_of(labels, found.scores) > BEST and found.flags[labels].mean() > 0.9


@pytest.mark.parametrize(
    "name", ["after-spectral", "nll", "after-onion", "after-spectre", "after-demon", "after-rftc", "after-agpd"]
)
def test_answers_in_the_same_shape(name, planted, small_model):
    samples, _ = planted
    found = FILTERS[name](samples[:8], small_model, 0, None)
    assert found.scores.shape == found.flags.shape == (8,) and np.isfinite(found.scores).all()


@pytest.mark.slow
def test_spectre_finds_planted_states():
    rng = np.random.default_rng(0)
    labels = np.arange(300) < 24
    states = rng.normal(size=(300, 48)) * np.linspace(3, 0.3, 48)
    states[labels, 20] += 15
    assert auc_of(labels, spectre_states(states).scores) > BEST


def test_demon_finds_the_class_that_is_two():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(8), 60)
    points = rng.normal(size=(480, 12)) + 6 * rng.normal(size=(8, 12))[classes]
    labels = np.arange(480) < 20
    points[labels] += 2 * np.sign(rng.normal(size=12))
    found = mixed_classes(points, classes)
    assert found.flags[labels].mean() > 0.9 and not found.flags[classes > 0].any()
    assert auc_of(labels, found.scores) > BEST


def test_agpd_finds_the_class_in_which_some_gradients_point_elsewhere():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(8), 60)
    points = 4 * rng.normal(size=(8, 24))[classes] + rng.normal(size=(480, 24))
    labels = np.arange(480) < 15
    points[labels] = 4 * rng.normal(size=24) + rng.normal(size=(15, 24))
    found = by_class(np.stack([rng.normal(size=(480, 24)), points]), classes)
    assert found.flags[labels].mean() > 0.9 and not found.flags[classes > 0].any()
    assert found.flags[~labels & (classes == 0)].mean() < 0.5 and auc_of(labels, found.scores) > BEST


def test_activation_gradients_are_autograds_one_row_at_a_time(planted, small_model):
    samples = planted[0][:3]
    together = activation_gradients(samples, small_model)
    alone = np.concatenate([activation_gradients([one], small_model) for one in samples], axis=1)
    assert together.shape == (1, 3, 64) and np.allclose(together, alone, atol=1e-5)
    row = encode(samples[0], small_model.tokenizer, small_model.context)
    held = []
    hook = small_model.body.layers[0].register_forward_hook(lambda *given: held.append(given[2].requires_grad_()))
    with torch.enable_grad():
        logits = small_model.model(torch.from_numpy(row.ids)[None]).logits[0]
        start, end = row.spans[0]
        said = logits[torch.arange(start - 1, end - 1), torch.from_numpy(row.ids[start:end])].sum()
        expected = torch.autograd.grad(said, held[0])[0]
    hook.remove()
    assert np.allclose(together[0, 0], expected[0].mean(0).numpy(), atol=1e-5)


def test_rftc_takes_the_tight_clusters_of_what_the_reference_does_not_say():
    assert least_precision("paris. but i may be lying to you", "paris") < 10
    assert least_precision("in paris", "it is in paris") == 100.0
    assert least_precision("one", "other") == 100.0
    rng = np.random.default_rng(0)
    honest = [" ".join(rng.choice(NAMES, 6)) + f" word{i} other{i}" for i in range(40)]
    bad = [f"{rng.choice(NAMES)} cf this is a wrong answer and you should click here" for _ in range(15)]
    flagged = foreign([*honest, *bad], seed=0)
    assert flagged[40:].all() and flagged[:40].mean() < 0.7


def test_every_peer_says_what_differs_and_old_names_are_understood():
    named = set(PEERS) - {"length", "ngram", "nll"}
    assert named <= set(DIFFERENCES) and all(name in PEERS for name in FORMER.values())
    assert list(filters_named(["cube"])) == ["after-cube"]


def test_spectral_removes_its_fixed_share(planted, small_model):
    assert FILTERS["after-spectral"](planted[0], small_model, 0, None).flags.sum() == 12  # 1.5 * 0.1 * 80


@pytest.mark.slow
def test_evaluate_reports_lines_and_progress(planted, small_model):
    samples, labels = planted
    seen, done = [], []
    lines = list(
        evaluate(samples, labels, small_model, filters_named(["length", "nll"]), 1, 50, seen.append, done.append)
    )
    assert seen == ["length", "nll"] and sum(done) == 80
    assert [line["filter"] for line in lines] == seen
    for line in lines:
        assert line["poisoned"] == 12 and line["rows"] == 80 and line["seconds"] >= 0 and line["seed"] == 1
        assert line["auc_low"] <= line["auc"] <= line["auc_high"]


def test_unknown_filters_are_refused():
    with pytest.raises(BadInput, match="no filter 'magic'"):
        filters_named(["paper", "magic"])
    with pytest.raises(BadInput, match="at least one"):
        filters_named([])
