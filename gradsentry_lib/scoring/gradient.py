"""From hidden states to the signals of each supervised span, in chunks of bounded memory.

Only supervised positions get logits, and only as many at a time as fit a fixed number of bytes, whatever the response's
length and the vocabulary. A span short enough goes through the Gram matrices of its rows, many spans at once; a long
one adds up its v x d product over several chunks (see spectrum.py for both).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradsentry_lib.scoring.head import OutputProjection
from gradsentry_lib.scoring.sketch import SIDE, Projection, project
from gradsentry_lib.scoring.spectrum import singular_values_by_columns, singular_values_by_rows, spectral_entropy

# Logits held at a time: few enough for a processor to keep them near its cache, enough for its product to be efficient;
# a graphics card has no such cache, and every chunk costs it launches.
LOGIT_BYTES = {"cpu": 32 << 20, "cuda": 256 << 20}


@dataclass(frozen=True)
class SpanSignals:
    """Signals of S spans of N tokens, in the order given.

    `entropy`: (S,) float64 in [0, 1]. `nll`: (N,) float32, nats of each token. `tokens`: (N, 64), what span sketches
    are made of (sketch.py), None where no projection was given.
    """

    entropy: Tensor
    nll: Tensor
    tokens: Tensor | None


def span_signals(
    hidden: Tensor,
    targets: Tensor,
    lengths: list[int],
    head: OutputProjection,
    projection: Projection | None = None,
    *,
    k: int,
    crop: int,
) -> SpanSignals:
    """Every signal of every span, from its hidden states.

    hidden: (N, D) states that predict the targets; targets: (N,) int64; lengths: S span lengths that add up to N, the
    spans one after the other. k singular values are kept; the gradient is cropped to V // crop x D // crop.
    """
    rows, columns = head.vocab // crop, head.width // crop
    device = hidden.device
    step = max(1, LOGIT_BYTES.get(device.type, LOGIT_BYTES["cpu"]) // (4 * head.vocab))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    starts = np.cumsum([0, *lengths])
    entropy = torch.empty(len(lengths), dtype=torch.float64, device=device)
    nll = torch.empty(len(targets), dtype=torch.float32, device=device)
    tokens = None if projection is None else torch.empty(len(targets), 2 * SIDE, device=device)
    for spans in _groups(order, lengths, step, columns):
        sizes = np.array([lengths[span] for span in spans])
        steps = np.arange(sizes.max())
        real = steps < sizes[:, None]  # (B, T)
        at = torch.from_numpy((starts[spans][:, None] + steps)[real]).to(device)
        long = lengths[spans[-1]] > min(step, columns)
        product = torch.zeros(rows, columns, dtype=torch.float64, device=device) if long else None
        for part in at.split(step):  # one part, but for a span that is long
            states = hidden[part]
            errors, nll[part] = head.errors(states, targets[part], None if projection else rows)
            if tokens is not None and projection is not None:
                tokens[part] = project(errors, states, projection)
            if product is not None:
                product += errors[:, :rows].double().mT @ states[:, :columns].double()
        if product is not None:
            values = singular_values_by_columns(product, len(at))[None]
        else:
            factors = (_pad(errors[:, :rows], real), _pad(states[:, :columns], real))
            values = singular_values_by_rows(*factors, torch.from_numpy(sizes).to(device))
        entropy[spans] = spectral_entropy(values, k)
    return SpanSignals(entropy, nll, tokens)


def _groups(order: list[int], lengths: list[int], step: int, columns: int) -> Iterator[list[int]]:
    """Spans in order of length, in groups of at most `step` rows, twice that when padded to the group's longest.

    A span that is long gets a group of its own.
    """
    group: list[int] = []
    total = 0
    for span in order:
        length = lengths[span]
        alone = length > min(step, columns)
        if group and (alone or total + length > step or (len(group) + 1) * length > 2 * step):
            yield group
            group, total = [], 0
        group.append(span)
        total += length
    if group:
        yield group


def _pad(rows: Tensor, real: np.ndarray) -> Tensor:
    """(n, w) rows of spans, one after the other, as (B, T, w) with zeros behind each span's own; real: (B, T) bool."""
    padded = rows.new_zeros(real.size, rows.shape[1])
    padded[torch.from_numpy(np.flatnonzero(real)).to(rows.device)] = rows
    return padded.unflatten(0, real.shape)
