"""The independent reference: one sample at a time, autograd in float64, the whole gradient, a dense SVD."""

import copy
import math
from typing import Any

import numpy as np
import torch

from gradsentry_lib.scoring.encoding import Encoded


def untied(model: Any) -> Any:
    """A float64 copy whose output projection shares no weight with the embedding, so that autograd sees it alone."""
    model = copy.deepcopy(model).double()
    model.set_experts_implementation("eager")  # the grouped product of experts knows no float64
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return model


def gradient(model: Any, ids: np.ndarray, start: int, end: int) -> tuple[torch.Tensor, float]:
    """The gradient (V, D) of the mean loss over the span, and that loss. `model`: from `untied`."""
    tokens = torch.from_numpy(ids)[None]
    labels = torch.full_like(tokens, -100)
    labels[0, start:end] = tokens[0, start:end]
    logits = model(input_ids=tokens).logits[0, :-1]
    loss = torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100)
    weight = model.get_output_embeddings().weight
    (found,) = torch.autograd.grad(loss, weight)
    return found, float(loss.detach())


def entropy(matrix: torch.Tensor, k: int, crop: int) -> float:
    """Normalised entropy of the k largest singular values of the cropped matrix, by the definition."""
    cropped = matrix[: matrix.shape[0] // crop, : matrix.shape[1] // crop]
    values = torch.linalg.svdvals(cropped.double())[:k].clamp_min(1e-12)
    values = torch.cat([values, torch.full((k - len(values),), 1e-12, dtype=torch.float64)])
    share = values / values.sum()
    return float(-(share * share.log()).sum()) / math.log(k)


def score(model: Any, row: Encoded, k: int = 16, crop: int = 8) -> tuple[list[float], float]:
    """Each span's entropy, and the mean loss over all supervised tokens."""
    entropies, losses = [], []
    for start, end in row.spans:
        matrix, loss = gradient(model, row.ids, start, end)
        entropies.append(entropy(matrix, k, crop))
        losses.append((loss, end - start))
    total = sum(loss * size for loss, size in losses) / sum(size for _, size in losses)
    return entropies, total
