"""The paper's algorithm by autograd, against a dense float64 gradient and against the exact scorer."""

import numpy as np
import pytest
import torch

from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.published import gradient_entropy, published_entropies, untied_head
from gradsentry_lib.evaluation.representations import last_states, low_frequency_gradients
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.scorer import score_samples

ROWS = [
    {"prompt": "Q: who wrote Hamlet?\nA: ", "response": "William Shakespeare"},
    {
        "prompt": "Q: name the primes below ten.\nA: ",
        "response": "2; 3; 5; 7 and no other number at all, says the book",
    },
    {"instruction": "Say hello.", "input": "to all", "output": "Hello, everybody! " * 4},
]


def dense_gradient(model, sample):
    """(V, D) float64 gradient of the mean loss by the output projection alone, from its definition."""
    row = encode(sample, model.tokenizer, 512)
    (start, end), ids = row.spans[0], torch.from_numpy(row.ids)
    hidden = model.body(input_ids=ids[None], use_cache=False).last_hidden_state[0].double()
    weight = model.head.weight.double().clone().requires_grad_()
    with torch.enable_grad():
        loss = torch.nn.functional.cross_entropy(hidden[start - 1 : end - 1] @ weight.T, ids[start:end])
        return torch.autograd.grad(loss, weight)[0]


@torch.no_grad()
def test_entropies_agree_with_the_exact_scorer(small_model):
    samples = to_samples(ROWS)
    published = published_entropies(samples, small_model)
    exact = [score.entropy for score in score_samples(samples, small_model)]
    np.testing.assert_allclose(published, exact, atol=0.02)  # the randomised decomposition's own error


def test_the_head_is_untied_only_meanwhile(small_model):
    model = small_model.model
    before = model.get_output_embeddings().weight
    assert before is model.get_input_embeddings().weight  # tied, the case that matters
    with untied_head(model) as weight:
        assert model.get_output_embeddings().weight is weight is not model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is before and not before.requires_grad


def test_gradient_entropy_of_known_values():
    equal = torch.eye(64, 64) * 3.0
    assert gradient_entropy(equal, k=8, crop=8) == pytest.approx(1.0, abs=1e-4)
    assert gradient_entropy(torch.ones(64, 64), k=8, crop=1) == pytest.approx(0.0, abs=1e-4)


@torch.no_grad()
def test_low_frequencies_are_those_of_the_whole_gradient(small_model):
    from scipy.fft import dctn

    samples = to_samples(ROWS)
    vocab, width = small_model.head.weight.shape
    for sample, fast in zip(samples, low_frequency_gradients(samples, small_model), strict=True):
        slow = dctn(dense_gradient(small_model, sample).numpy())[: vocab // 8, : width // 8]
        np.testing.assert_allclose(fast.reshape(slow.shape), slow, atol=1e-4 * np.abs(slow).max())


@torch.no_grad()
def test_last_states_do_not_depend_on_company(small_model):
    samples = to_samples(ROWS)
    together = last_states(samples, small_model)
    alone = np.concatenate([last_states([sample], small_model) for sample in samples])
    np.testing.assert_allclose(together, alone, atol=1e-4)
