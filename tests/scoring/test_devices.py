"""Nothing in the hot path mixes devices or waits for one: the model on torch's `meta` device stands in for a GPU.

Tensors there have shapes but no values, so whatever would have to wait for a value (`.item()`, `nonzero`, a mask as an
index) raises, and an operation that takes tensors of two devices is seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradsentry_lib.scoring.forward import run_body, use_packed_attention
from gradsentry_lib.scoring.gradient import span_signals
from gradsentry_lib.scoring.head import OutputProjection
from gradsentry_lib.scoring.kv_cache import EMPTY
from gradsentry_lib.scoring.padded import run_padded
from gradsentry_lib.scoring.sketch import SIDE, Projection, project

from .architectures import VOCAB, WIDTH, tiny

META = torch.device("meta")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)  # are there to take tensors across


class OneDevice(TorchDispatchMode):
    """Raises where an operation takes tensors of two devices; single numbers may come from the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor) and leaf.dim()]
        if len({tensor.device for tensor in tensors}) > 1 and func not in MOVES:
            raise AssertionError(f"{func} takes tensors of two devices")
        return func(*args, **(kwargs or {}))


@contextmanager
def watched() -> Iterator[None]:
    with torch.no_grad(), OneDevice():
        yield


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.ones(3, device=META) + torch.ones(3),
        lambda: torch.ones(3, device=META)[torch.ones(3, device=META) > 0],
        lambda: torch.ones(3, device=META).sum().item(),
    ],
)
def test_the_watch_sees_what_it_is_there_for(work: Any) -> None:
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), watched():
        work()


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gpt2", "gpt-neox", "opt", "granite"])
@pytest.mark.parametrize("strips", [True, False])
def test_a_pass_stays_on_the_models_device(name: str, strips: bool) -> None:
    body = tiny(name).base_model
    if strips:
        use_packed_attention(body)  # tries it out on numbers: before they are gone
    body = body.to(META)
    run = run_body if strips else run_padded
    ids = [np.arange(7), np.arange(3), np.arange(5)]
    with watched():
        hidden, caches = run(body, ids, [EMPTY] * 3, True)
        shared, _ = run(body, ids, [caches[0]] * 3, False)
        own, ends = run(body, ids, [caches[0], EMPTY, caches[1]], True)
    assert {part.device for part in (hidden, shared, own, *ends[2].layers[1])} == {META}
    assert [past.length for past in ends] == [14, 3, 8]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("sketched", [False, True])
def test_signals_of_many_spans_wait_for_nothing(biased: bool, sketched: bool) -> None:
    weight = torch.empty(VOCAB, WIDTH, device=META)
    head = OutputProjection(weight, torch.empty(VOCAB, device=META) if biased else None, True, None, None)
    signs = [torch.empty(*shape, device=META) for shape in ((VOCAB, SIDE), (WIDTH, SIDE), (SIDE * SIDE, 128))]
    projection = Projection(*signs, torch.empty(WIDTH, device=META), 1.0) if sketched else None
    lengths = [3, 1, 20, 3, 8, 1, 13]
    hidden, targets = (torch.empty(sum(lengths), *shape, device=META) for shape in ((WIDTH,), ()))
    with watched():
        found = span_signals(hidden, targets.long(), lengths, head, projection, k=16, crop=2)
        if projection is not None:
            project(torch.empty(9, VOCAB, device=META), hidden[:9], projection)
    assert {found.entropy.device, found.nll.device} == {META}
