"""Packing: which rows go through the model together, so that the passes cost least, padding and the passes included.

Where rows are laid end to end there is no padding, and each pass is filled. Where they are padded to the longest:

Rows in order of length are cut into packs. A pack of n rows, the longest of L tokens, costs n L tokens and what a pass
costs whatever is in it, told in tokens (`overhead`). The cuts of least total cost are found exactly, by dynamic
programming over the sorted rows.
"""

from collections.abc import Sequence

import numpy as np

PASS_COST = 64  # tokens whose computing takes as long as the fixed part of a pass (SmolLM2 on two cores: 30-60)


def pack(lengths: Sequence[int], budget: int, overhead: int = PASS_COST, padded: bool = True) -> list[list[int]]:
    """Indices of rows in packs of least cost, longest rows first, each at most `budget` tokens (or one row alone).

    Longest first: if memory does not suffice, it shows at once rather than after an hour. `padded`: whether the rows of
    a pass are padded to the longest; padding then counts towards cost and budget. `overhead`: what a pass costs beside
    its tokens, in tokens.
    """
    if not padded:
        return _fill(lengths, budget)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    longest = np.array([lengths[i] for i in order], dtype=np.int64)
    cost = np.zeros(len(order) + 1, dtype=np.int64)  # least cost of the first i rows
    start = np.zeros(len(order) + 1, dtype=np.int64)  # where the last of their packs begins
    low = 0
    for end in range(1, len(order) + 1):
        while low < end - 1 and (end - low) * longest[low] > budget:
            low += 1
        begins = np.arange(low, end)
        costs = cost[low:end] + (end - begins) * longest[low:end] + overhead
        best = int(costs.argmin())
        cost[end], start[end] = costs[best], low + best
    packs = []
    end = len(order)
    while end:
        packs.append(order[start[end] : end])
        end = int(start[end])
    return packs[::-1]


def _fill(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Without padding, least cost is fewest passes: each filled, longest rows first."""
    packs: list[list[int]] = []
    room = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[i] > room:
            packs.append([])
            room = budget
        packs[-1].append(i)
        room -= lengths[i]
    return packs


def padding_waste(lengths: Sequence[int], packs: Sequence[Sequence[int]]) -> float:
    """Share of the tokens computed that are padding, in [0, 1)."""
    padded = sum(len(p) * max(lengths[i] for i in p) for p in packs if p)
    return 1 - sum(lengths) / padded if padded else 0.0
