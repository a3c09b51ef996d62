"""Keys and values of a prefix, kept to be read again by every row that begins with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class KVCache:
    """`layers`: keys and values of each layer, (heads, length, width)."""

    layers: list[tuple[Tensor, Tensor]]
    length: int


EMPTY = KVCache([], 0)


def stacked(caches: Sequence[KVCache], layer: int) -> tuple[Tensor, Tensor]:
    """One layer's keys and values of B caches, (B, heads, longest, width), zeros behind the shorter ones; one past that
    all share is only a view. At least one must not be empty."""
    if all(past is caches[0] for past in caches):
        keys, values = (part.expand(len(caches), -1, -1, -1) for part in caches[0].layers[layer])
        return keys, values
    longest = max(caches, key=lambda past: past.length)
    full = []
    for part in (0, 1):
        example = longest.layers[layer][part]
        padded = example.new_zeros(len(caches), example.shape[0], longest.length, example.shape[2])
        for row, past in zip(padded, caches, strict=True):
            if past.length:
                row[:, : past.length] = past.layers[layer][part]
        full.append(padded)
    return full[0], full[1]
