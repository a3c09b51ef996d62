"""A pass over rows padded to the longest: what every architecture can do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gradsentry_lib.scoring.kv_cache import KVCache, stacked

if TYPE_CHECKING:
    from transformers.cache_utils import DynamicCache


def run_padded(
    body: Any, ids: Sequence[np.ndarray], caches: Sequence[KVCache], keep: bool
) -> tuple[Tensor, list[KVCache]]:
    """See `run_body`.

    Right padding needs no mask: causal attention never looks right, and padded positions are never read. Shorter caches
    are padded and masked, and positions go on from each past's own length.
    """
    from transformers.cache_utils import DynamicCache

    sizes = list(map(len, ids))
    length, longest = max(sizes), max(past.length for past in caches)
    block = np.zeros((len(ids), length), dtype=np.int64)
    for row, tokens in zip(block, ids, strict=True):
        row[: len(tokens)] = tokens
    device = next(body.parameters()).device
    inputs = torch.from_numpy(block).to(device)
    if longest:
        before = torch.tensor([past.length for past in caches], device=device)
        mask = None
        if any(past.length != longest for past in caches):
            mask = torch.ones(len(ids), longest + length, dtype=torch.long, device=device)
            mask[:, :longest] = torch.arange(longest, device=device)[None] < before[:, None]
        output = body(
            input_ids=inputs,
            past_key_values=_cache(caches),
            attention_mask=mask,
            position_ids=before[:, None] + torch.arange(length, device=device)[None],
            use_cache=True,
        )
    else:
        output = body(input_ids=inputs, use_cache=keep, **({"past_key_values": DynamicCache()} if keep else {}))
    hidden = torch.cat([row[:size] for row, size in zip(output.last_hidden_state, sizes, strict=True)])
    return hidden, _split(output.past_key_values, caches, sizes) if keep else []


def _cache(caches: Sequence[KVCache]) -> "DynamicCache":
    """A cache whose row i holds caches[i]."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    for layer in range(max(len(past.layers) for past in caches)):
        held = DynamicLayer()  # filled by hand: DynamicCache.update would copy a shared view once more
        keys, values = stacked(caches, layer)
        held.lazy_initialization(keys, values)
        held.keys, held.values = keys, values
        cache.layers.append(held)
    return cache


def _split(cache: "DynamicCache", caches: Sequence[KVCache], sizes: Sequence[int]) -> list[KVCache]:
    """The caches that a pass ends with, one a row: its own past without padding, then its own new tokens."""
    from transformers.cache_utils import DynamicLayer

    longest = max(past.length for past in caches)
    made = []
    for row, (past, size) in enumerate(zip(caches, sizes, strict=True)):
        layers = []
        for layer in cache.layers:
            assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
            keys, values = (
                torch.cat([x[row, :, : past.length], x[row, :, longest : longest + size]], dim=1)
                for x in (layer.keys, layer.values)
            )
            layers.append((keys, values))
        made.append(KVCache(layers, past.length + size))
    return made
