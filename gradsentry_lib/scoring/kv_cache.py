"""Keys and values of a prefix, kept to be read again by every row that begins with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Past:
    """`layers`: keys and values of each layer, (heads, length, width)."""

    layers: list[tuple[Tensor, Tensor]]
    length: int


EMPTY = Past([], 0)


def stacked(pasts: Sequence[Past], layer: int) -> tuple[Tensor, Tensor]:
    """One layer's keys and values of B pasts, (B, heads, longest, width), zeros behind the shorter ones; one past that
    all share is only a view. At least one must not be empty."""
    if all(past is pasts[0] for past in pasts):
        keys, values = (part.expand(len(pasts), -1, -1, -1) for part in pasts[0].layers[layer])
        return keys, values
    longest = max(pasts, key=lambda past: past.length)
    full = []
    for part in (0, 1):
        example = longest.layers[layer][part]
        padded = example.new_zeros(len(pasts), example.shape[0], longest.length, example.shape[2])
        for row, past in zip(padded, pasts, strict=True):
            if past.length:
                row[:, : past.length] = past.layers[layer][part]
        full.append(padded)
    return full[0], full[1]
