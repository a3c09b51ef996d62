"""A pass over rows laid end to end in one row of tokens (packed): no padding in anything but attention.

Embeddings, projections and feed-forward layers treat every token alike, so they need not know where a row ends. Only
attention does. It is called through the interface that transformers offers to attention functions of one's own: there
what is packed is cut into rows, rows of similar length attend together (padded there, where a token costs little),
each to itself and to its own past.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gradsentry_lib.scoring.batching import pack
from gradsentry_lib.scoring.kv_cache import KVCache, stacked

NAME = "gradsentry_packed"
UNKNOWN = ("softcap", "s_aux", "position_bias", "cache")  # what a model may add to attention and this does not do


@dataclass(frozen=True)
class Group:
    """B rows that attend together, the longest of L tokens, their caches of at most P.

    `at`: (B L,) where among the packed tokens each one lies, anywhere for padding; `real`: (n,) which of the B L are no
    padding;
    `mask`: (B, 1, L, P + L) bool, what may be looked at, None where there is no past.
    """

    rows: int
    at: Tensor
    real: Tensor
    mask: Tensor | None
    caches: list[KVCache]


@dataclass(frozen=True)
class PackedRows:
    """What the attention of every layer has to know. `kept`: keys and values (heads, N, width) by layer, if wanted."""

    groups: list[Group]
    keep: bool
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


def run_packed(
    body: Any, ids: Sequence[np.ndarray], caches: Sequence[KVCache], keep: bool
) -> tuple[Tensor, list[KVCache]]:
    """See `run_body`."""
    device = next(body.parameters()).device
    sizes = list(map(len, ids))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    groups = [_group(list(members), starts, sizes, caches, device) for members in pack(sizes, int(starts[-1]))]
    packed_rows = PackedRows(groups, keep)
    positions = np.concatenate([past.length + np.arange(size) for past, size in zip(caches, sizes, strict=True)])
    output = body(
        input_ids=torch.from_numpy(np.concatenate(ids)).to(device)[None],
        position_ids=torch.from_numpy(positions).to(device)[None],
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),  # of four dimensions: is not looked at
        use_cache=False,
        packed_rows=packed_rows,
    )
    ends = zip(caches, starts, sizes, strict=False)  # there is one start more: where the last row ends
    return output.last_hidden_state[0], [_end(packed_rows.kept, *row) for row in ends] if keep else []


def _end(kept: dict[int, tuple[Tensor, Tensor]], past: KVCache, start: int, size: int) -> KVCache:
    """The past that a row ends with: its own, then its own new tokens."""
    layers = []
    for layer in range(len(kept)):
        keys, values = (part[:, start : start + size].clone() for part in kept[layer])
        if past.length:
            keys, values = (torch.cat(two, 1) for two in zip(past.layers[layer], (keys, values), strict=True))
        layers.append((keys, values))
    return KVCache(layers, past.length + size)


def _group(rows: list[int], starts: np.ndarray, sizes: list[int], caches: Sequence[KVCache], device: Any) -> Group:
    length, own = max(sizes[row] for row in rows), [caches[row] for row in rows]
    steps = np.arange(length)
    real = steps[None] < np.array([sizes[row] for row in rows])[:, None]
    at = np.where(real, starts[rows][:, None] + steps[None], 0).ravel()
    longest = max(past.length for past in own)
    mask = None
    if longest:
        before = np.arange(longest)[None] < np.array([past.length for past in own])[:, None]  # (B, P)
        causal = np.broadcast_to(steps[None] <= steps[:, None], (len(rows), length, length))
        both = np.concatenate([np.broadcast_to(before[:, None], (len(rows), length, longest)), causal], axis=2)
        mask = torch.from_numpy(both).to(device)[:, None]
    which = torch.from_numpy(np.flatnonzero(real)).to(device)  # an index: a mask would make a GPU wait in every layer
    return Group(len(rows), torch.from_numpy(at).to(device), which, mask, own)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed_rows: PackedRows | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """Attention of (1, heads, N, width) row by row, as (1, N, heads, width); without packed rows, torch's own."""
    if packed_rows is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    if any(given.get(name) is not None for name in UNKNOWN):
        raise NotImplementedError("attention of a kind that can't be cut into rows")
    groups = getattr(module, "num_key_value_groups", 1)
    return rows_apart(packed_rows, module.layer_idx, query, key, value, groups, given.get("scaling")), None


def rows_apart(
    packed_rows: PackedRows, layer: int, query: Tensor, key: Tensor, value: Tensor, groups: int, scaling: float | None
) -> Tensor:
    """Attention of (1, heads, N, width) row by row, as (1, N, heads, width). `groups`: query heads to a key's head."""
    result = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
    for group in packed_rows.groups:
        own, keys, values = (_cut(part, group) for part in (query, key, value))
        if group.mask is not None:
            past_keys, past_values = stacked(group.caches, layer)
            keys, values = torch.cat([past_keys, keys], 2), torch.cat([past_values, values], 2)
        seen = _attend(own, keys, values, group.mask, groups, scaling).transpose(1, 2)
        result.index_copy_(0, group.at[group.real], seen.flatten(0, 1)[group.real])
    if packed_rows.keep:
        packed_rows.kept[layer] = (key[0], value[0])
    return result[None]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, groups: int, scaling: float | None
) -> Tensor:
    """Causal attention (B, heads, L, width): the calls that transformers makes of torch, so the same to the bit."""
    shape = (*query.shape[:3], value.shape[3])
    shared = groups > 1 and mask is None and key.shape[-1] == value.shape[-1] <= 256
    if groups > 1 and not shared:
        if query.shape[2] == 1:
            query = query.reshape(len(query), -1, groups, query.shape[3])
        else:
            key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    causal = mask is None and shape[2] > 1
    seen = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, is_causal=causal, enable_gqa=shared
    )
    return seen.reshape(shape)


def _cut(part: Tensor, group: Group) -> Tensor:
    """The group's tokens of (1, heads, N, width) as (B, heads, L, width)."""
    return part[0].index_select(1, group.at).unflatten(1, (group.rows, -1)).transpose(0, 1)


def register() -> None:
    """Makes this attention known to transformers."""
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
