"""Spans of very unlike lengths go through the head together, in bounded memory."""

from typing import Any

import pytest
import torch

from gradsentry_lib.scoring import gradient as gradient_module
from gradsentry_lib.scoring.gradient import span_signals
from gradsentry_lib.scoring.head import OutputProjection
from gradsentry_lib.scoring.spectrum import singular_values_by_rows, spectral_entropy

VOCAB, WIDTH, STEP = 160, 128, 12
LENGTHS = [1, 9, 1, 1, 30, 1, 7, 1, 12, 13, 11]


@pytest.mark.parametrize("biased", [False, True])
def test_spans_of_unlike_lengths(biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCAB, WIDTH, generator=generator) / 4
    bias = torch.randn(VOCAB, generator=generator) if biased else None
    hidden = torch.randn(sum(LENGTHS), WIDTH, generator=generator)
    targets = torch.randint(0, VOCAB, (sum(LENGTHS),), generator=generator)
    padded: list[int] = []

    def watched(errors: torch.Tensor, *rest: Any) -> torch.Tensor:
        padded.append(errors.shape[0] * errors.shape[1])
        return singular_values_by_rows(errors, *rest)

    monkeypatch.setitem(gradient_module.LOGIT_BYTES, "cpu", 4 * VOCAB * STEP)
    monkeypatch.setattr(gradient_module, "singular_values_by_rows", watched)
    head = OutputProjection(weight, bias, plain=True, shell=None, projection=None)
    found = span_signals(hidden, targets, LENGTHS, head, k=16, crop=2)

    untied = weight.double().requires_grad_()
    expected = []
    spans = zip(hidden.split(LENGTHS), targets.split(LENGTHS), found.nll.split(LENGTHS), strict=True)
    for states, wanted, nll in spans:
        logits = torch.nn.functional.linear(states.double(), untied, None if bias is None else bias.double())
        losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        assert nll.double() == pytest.approx(losses.detach(), abs=1e-5)
        (gradient,) = torch.autograd.grad(losses.mean(), untied)
        values = torch.linalg.svdvals(gradient[: VOCAB // 2, : WIDTH // 2])
        expected.append(float(spectral_entropy(values, 16)))
    assert found.entropy.tolist() == pytest.approx(expected, abs=1e-5)
    assert max(padded) <= 2 * STEP
