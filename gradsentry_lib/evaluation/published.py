"""The paper's GradSentry as its authors run it (arXiv 2605.26574, section 3): one sample at a time, by autograd.

Kept beside the exact way of the scoring room to measure against: the same score within the error of the randomised
singular value decomposition (up to 6e-3 in entropy), at two to three times the cost.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.encoding import Encoded, encode
from gradsentry_lib.scoring.model import ScoringModel
from gradsentry_lib.scoring.spectrum import spectral_entropy

Q = 16  # columns of torch.svd_lowrank: as published, as many as singular values are used, no oversampling


@contextmanager
def untied_head(model: Any) -> Iterator[Tensor]:
    """The model's output projection as a leaf of its own that requires a gradient, for as long as the context lasts.

    With tied embeddings (SmolLM2, GPT-2, Gemma) autograd on the shared tensor would add the embedding's part.
    """
    tied = model.get_output_embeddings()
    own = copy.copy(tied)
    own._parameters = dict(tied._parameters)
    own._parameters["weight"] = nn.Parameter(tied.weight.detach().clone())
    model.set_output_embeddings(own)
    try:
        yield own.weight
    finally:
        model.set_output_embeddings(tied)


def mean_loss(model: Any, row: Encoded) -> Tensor:
    """Mean cross-entropy over the row's supervised tokens, in float32."""
    ids = torch.from_numpy(row.ids)[None].to(model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0]
    at = torch.from_numpy(np.concatenate([np.arange(start, end) for start, end in row.spans])).to(model.device)
    return nn.functional.cross_entropy(logits[at - 1].float(), ids[0, at])


def gradient_entropy(gradient: Tensor, k: int = 16, crop: int = 8) -> float:
    """Normalised spectral entropy of a gradient (m, n): plain crop, randomised SVD, entropy of the top k values."""
    cropped = gradient[: max(1, gradient.shape[0] // crop), : max(1, gradient.shape[1] // crop)].float()
    _, values, _ = torch.svd_lowrank(cropped, q=min(max(Q, k), *cropped.shape))
    return float(spectral_entropy(values.sort(descending=True).values, k))


def published_entropies(
    samples: Sequence[Sample],
    model: ScoringModel,
    seed: int = 0,
    k: int = 16,
    crop: int = 8,
    on_progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(N,) normalised entropies of the samples' lm_head gradients. `seed`: of the randomised decomposition."""
    torch.manual_seed(seed)
    result = np.empty(len(samples))
    with untied_head(model.model) as weight, torch.enable_grad():
        for i, sample in enumerate(samples):
            loss = mean_loss(model.model, encode(sample, model.tokenizer, model.context))
            (gradient,) = torch.autograd.grad(loss, [weight])
            result[i] = gradient_entropy(gradient, k, crop)
            if on_progress is not None:
                on_progress(1)
    return result
