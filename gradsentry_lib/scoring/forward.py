"""One pass of the transformer's body over rows of tokens, each with or without a past."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradsentry_lib.scoring.batching import pack
from gradsentry_lib.scoring.kv_cache import EMPTY, KVCache
from gradsentry_lib.scoring.packed_attention import NAME, register, run_packed
from gradsentry_lib.scoring.padded import run_padded
from gradsentry_lib.scoring.tested import UNLIMITED
from gradsentry_lib.scoring.transformers_private import attention_of


def run_body(
    body: Any, ids: Sequence[np.ndarray], caches: Sequence[KVCache] | None = None, keep: bool = False
) -> tuple[Tensor, list[KVCache]]:
    """Hidden states (N, D) of the N tokens of all rows, row after row; with `keep`, the past that each row ends with.

    ids: token ids of R rows. caches: what stands before each, nothing where not given.
    """
    caches = caches or [EMPTY] * len(ids)
    longest = max(past.length + len(tokens) for past, tokens in zip(caches, ids, strict=True))
    run = run_packed if is_packed(body) and longest <= window(body) else run_padded
    return run(body, ids, caches, keep)


def passes(body: Any, lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Which rows go through `run_body` together, so that it costs least: see `pack`."""
    return pack(lengths, budget, padded=not is_packed(body))


def window(body: Any) -> int:
    """Longest sequence in which every token sees all before it."""
    config = body.config.get_text_config()
    sizes = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((size for size in sizes if size), default=UNLIMITED)


def is_packed(body: Any) -> bool:
    """Whether rows are laid end to end, so that a pass holds no padding."""
    return attention_of(body) == NAME


def use_packed_attention(body: Any, known: bool | None = None) -> None:
    """Has the body lay rows end to end from now on, where that gives the states that padded rows give. `known`: whether
    it does, None to try."""
    before = attention_of(body)
    if known is False or before != "sdpa":  # another attention was chosen, and it can't be cut into rows
        return
    register()
    body.set_attn_implementation(NAME)
    if not (is_packed(body) and (known or is_exact(body, run_packed))):
        body.set_attn_implementation(before)


def past_limit(body: Any) -> int:
    """Longest sequence for which a reused past gives the same states; 0 where it never does.

    A sliding window is exact as long as nothing slides. State-space layers and caches of another kind are found by
    trying.
    """
    return window(body) if is_exact(body, run_body) else 0


@torch.no_grad()
def same_states(one: Any, other: Any, vocab: int) -> bool:
    """Whether two bodies that lay packed give the same states to the bit: whole rows, and rows cut with a past between;
    a tail of one token; caches of several lengths and one that all share."""
    generator = np.random.default_rng(1)
    whole = [generator.integers(0, vocab, size) for size in (64, 23, 23, 9, 2)]
    cuts = (40, 7, 12, 8, 1)
    heads = [ids[:cut] for ids, cut in zip(whole, cuts, strict=True)]
    tails = [ids[cut:] for ids, cut in zip(whole, cuts, strict=True)]
    found = []
    for body in (one, other):
        states, _ = run_body(body, whole)
        _, caches = run_body(body, heads, keep=True)
        continued, _ = run_body(body, tails, caches)
        shared, _ = run_body(body, tails, [caches[0]] * len(tails))
        found.append((states, continued, shared))
    return all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@torch.no_grad()
def is_exact(body: Any, run: Any) -> bool:
    """Does `run` give the states of rows padded to the longest: as a whole, and cut in two with a past between?"""
    generator = np.random.default_rng(0)
    vocab = body.config.get_text_config().vocab_size
    whole = [generator.integers(0, vocab, size) for size in (23, 19, 23, 9, 23)]
    cuts = (7, 12, 7, 3, 15)
    heads = [ids[:cut] for ids, cut in zip(whole, cuts, strict=True)]
    tails = [ids[cut:] for ids, cut in zip(whole, cuts, strict=True)]
    none = [EMPTY] * len(whole)
    try:
        expected, _ = run_padded(body, whole, none, False)
        found, _ = run(body, whole, none, False)
        _, caches = run(body, heads, none, True)
        continued, _ = run(body, tails, caches, False)
    except Exception:  # whatever an architecture raises on what it was not made for: it can't
        return False
    ends = [row[cut:] for row, cut in zip(expected.split([len(ids) for ids in whole]), cuts, strict=True)]
    tolerance = expected.float().abs().max() * (1e-4 if expected.dtype in (torch.float32, torch.float64) else 0.1)
    pairs = ((expected, found), (torch.cat(ends), continued))
    return all(bool((a.float() - b.float()).abs().max() <= tolerance) for a, b in pairs)
