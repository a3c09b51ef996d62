"""Spectral entropy by another layer's gradient: any linear layer of the model by name (paper, table 7).

For a layer y = W x the gradient of a span's mean loss is G = sum_t d_t x_t^T over all positions of the sample, with x_t
the layer's input and d_t the derivative of the loss by its output. Both are caught in one forward and one backward pass
down to the layer, no further; G itself is never formed (spectrum.py). The backward pass begins at the last hidden
states, whose derivative is W_head^T e_t with the head's own error rows, so logits are held a few rows at a time here
too. It costs twice the layers above for the backward pass, and prefixes are not shared.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradsentry_lib.errors import UnusableModel, UnusableOption
from gradsentry_lib.scoring.batching import pack
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.encoding import Encoded
from gradsentry_lib.scoring.gradient import LOGIT_BYTES
from gradsentry_lib.scoring.identity import first_line
from gradsentry_lib.scoring.kv_cache import EMPTY
from gradsentry_lib.scoring.model import ScoringModel, release
from gradsentry_lib.scoring.padded import run_padded
from gradsentry_lib.scoring.plain_model import PlainModel
from gradsentry_lib.scoring.spectrum import singular_values_by_columns, singular_values_by_rows, spectral_entropy
from gradsentry_lib.scoring.states import States, Unfit, is_out_of_memory

Factors = tuple[Tensor, Tensor]  # of R rows: derivatives by the layer's output (R, L, out), its inputs (R, L, in)


def find_layer(model: ScoringModel, name: str) -> Any:
    """The linear layer of that name, None for the output projection itself, which has a faster way.

    `name`: as the model's own modules are called, with or without `.weight`; its end will do where that is only one
    layer's. Raises BadInput where there is none, or several.
    """
    if isinstance(model.model, PlainModel):
        raise UnusableModel(f"the gradient of {name} needs the model as a whole: load_model(..., whole=True)")
    wanted = name.removesuffix(".weight")
    linear = {key: module for key, module in model.model.named_modules() if _is_linear(module)}
    found = [key for key in linear if key == wanted] or [key for key in linear if key.endswith("." + wanted)]
    if len(found) > 1:
        raise UnusableOption(f"the model has {len(found)} layers {wanted!r}: name one in full, such as {found[-1]}")
    if not found:
        end = wanted.rsplit(".", 1)[-1]
        like = [key for key in linear if key.rsplit(".", 1)[-1] == end] or list(linear)
        raise UnusableOption(f"the model has no linear layer {wanted!r}; it has, for example, {', '.join(like[-2:])}")
    layer = linear[found[0]]
    if layer is model.head.projection:
        return None
    if not any(module is layer for module in model.body.modules()):
        raise UnusableOption(f"{found[0]} is not in the part of the model that reads text")
    parts = [*model.body.named_parameters(), *model.body.named_buffers()]
    if any(key.endswith("weight") and not part.is_floating_point() for key, part in parts):
        raise UnusableModel("a layer's gradient does not go through quantised weights: give the model unquantised")
    return layer


def by_layer(
    rows: Sequence[Encoded], model: ScoringModel, layer: Any, config: ScoringConfig, budget: int
) -> Iterator[list[tuple[States | Unfit, list[float]]]]:
    """For every row, once and in any order: its states, as `supervised_states` gives them, and its spans' entropies."""
    together = _exact_together(model, layer)
    lengths = [row.spans[-1][1] - 1 for row in rows]
    waiting = pack(lengths, budget if together else 1)[::-1]
    while waiting:
        members = waiting.pop()
        try:
            yield _pass([rows[i] for i in members], members, model, layer, config)
            continue
        except (MemoryError, RuntimeError, NotImplementedError) as error:
            if not is_out_of_memory(error):
                raise UnusableModel(
                    f"the model can't be differentiated down to {config.module}: {first_line(error)}"
                ) from error
        release()  # out of the except block, so that the error's traceback no longer holds what did not fit
        if len(members) == 1:
            yield [(Unfit(members[0], f"does not fit in memory alone ({lengths[members[0]] + 1} tokens)"), [])]
        else:
            half = len(members) // 2
            waiting += [members[half:], members[:half]]


NOISE = 16 * 2.0**-23  # of the derivative at the last state: what rounding leaves where a layer has no part in the loss


def _pass(
    rows: Sequence[Encoded], members: Sequence[int], model: ScoringModel, layer: Any, config: ScoringConfig
) -> list[tuple[States | Unfit, list[float]]]:
    ids = [row.ids[: row.spans[-1][1] - 1] for row in rows]
    entropies: list[list[float | None]] = [[] for _ in rows]
    with torch.enable_grad(), _caught(layer) as calls:
        hidden, _ = run_padded(model.body, ids, [EMPTY] * len(ids), False)  # (N, D)
        starts = np.cumsum([0, *map(len, ids)])
        for turn in range(max(len(row.spans) for row in rows)):
            having = [i for i, row in enumerate(rows) if turn < len(row.spans)]
            pull = torch.zeros_like(hidden)
            for i in having:
                start, end = rows[i].spans[turn]
                at = slice(int(starts[i]) + start - 1, int(starts[i]) + end - 1)
                pull[at] = _derivatives(hidden[at].detach(), rows[i].ids[start:end], model)
            errors, inputs = _factors(hidden, pull, calls, [len(own) for own in ids])
            for i in having:
                has_part = float(errors[i].abs().max()) > NOISE * float(pull[starts[i] : starts[i + 1]].abs().max())
                entropies[i].append(_entropy(errors[i], inputs[i], config) if has_part else None)
    kept = hidden.detach()
    made: list[tuple[States | Unfit, list[float]]] = []
    for i, row in enumerate(rows):
        known = [value for value in entropies[i] if value is not None]
        if len(known) < len(row.spans):
            made.append((Unfit(members[i], "the layer has no part in the loss of one of its answers"), []))
            continue
        where = np.concatenate([np.arange(start - 1, end - 1) for start, end in row.spans]) + starts[i]
        targets = np.concatenate([row.ids[start:end] for start, end in row.spans])
        own = kept[torch.from_numpy(where).to(kept.device)]
        made.append((States(members[i], [end - start for start, end in row.spans], targets, own), known))
    return made


@contextmanager
def _caught(layer: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While open, every call of the layer leaves its input and something whose derivative is that of its output."""
    calls: list[tuple[Tensor, Tensor]] = []

    def catch(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        probe = torch.zeros_like(output, requires_grad=True)
        calls.append((given[0].detach(), probe))
        return output + probe

    hook = layer.register_forward_hook(catch)
    try:
        yield calls
    finally:
        hook.remove()


def _derivatives(hidden: Tensor, targets: np.ndarray, model: ScoringModel) -> Tensor:
    """Of a span's mean loss by its n hidden states (n, D)."""
    head = model.head
    step = max(1, LOGIT_BYTES.get(model.device.type, LOGIT_BYTES["cpu"]) // (4 * head.vocab))
    wanted = torch.from_numpy(targets).to(model.device)
    weight = head.weight if head.weight.dtype == torch.float64 else head.weight.float()
    parts = [head.errors(own, at)[0] @ weight for own, at in zip(hidden.split(step), wanted.split(step), strict=True)]
    return (torch.cat(parts) / len(targets)).to(hidden)


def _factors(hidden: Tensor, pull: Tensor, calls: Sequence[tuple[Tensor, Tensor]], sizes: Sequence[int]) -> Factors:
    """What G is made of, row by row; a layer that was called more than once counts with all its calls."""
    if not calls or not hidden.requires_grad:  # an expert that was not asked
        return hidden.new_zeros(len(sizes), 1, 1 << 16), hidden.new_zeros(len(sizes), 1, 1 << 16)
    found = torch.autograd.grad(hidden, [probe for _, probe in calls], pull, retain_graph=True, allow_unused=True)
    errors = [torch.zeros_like(probe) if own is None else own for own, (_, probe) in zip(found, calls, strict=True)]
    return tuple(  # type: ignore[return-value]
        torch.cat([part.reshape(len(sizes), -1, part.shape[-1]) for part in parts], dim=1)
        for parts in (errors, [given for given, _ in calls])
    )


def _entropy(errors: Tensor, inputs: Tensor, config: ScoringConfig) -> float | None:
    """Of the crop of sum_t errors_t inputs_t^T, from (L, out) and (L, in); None where that is zero."""
    left, right = errors.shape[1] // config.crop, inputs.shape[1] // config.crop
    if not (left and right):
        raise UnusableOption(f"crop {config.crop} leaves nothing of a layer of {errors.shape[1]} x {inputs.shape[1]}")
    errors, inputs = errors[:, :left].double(), inputs[:, :right].double()
    real = (errors != 0).any(1)  # padding, and what no loss depends on, adds nothing
    errors, inputs = errors[real], inputs[real]
    count = len(errors)
    if not count:
        return None
    if count <= right:  # both functions divide by the number of rows; the errors are a mean's already
        counts = torch.tensor([count], device=errors.device)
        values = singular_values_by_rows(count * errors[None], inputs[None], counts)[0]
    else:
        values = singular_values_by_columns(count * (errors.mT @ inputs), count)
    return float(spectral_entropy(values, config.k))


@torch.no_grad()
def _exact_together(model: ScoringModel, layer: Any) -> bool:
    """Whether rows that go through the model together give the layer's gradients that each gives alone."""
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, model.vocab, size) for size in (7, 4, 9)]
    wave = torch.arange(model.head.width).cos()  # any derivative by the states will do

    def products(rows: list[np.ndarray]) -> list[Tensor]:
        with torch.enable_grad(), _caught(layer) as calls:
            hidden, _ = run_padded(model.body, rows, [EMPTY] * len(rows), False)
            pull = torch.cat([torch.outer(torch.from_numpy(row).to(hidden), wave.to(hidden)) for row in rows])
            errors, inputs = _factors(hidden, pull, calls, [len(row) for row in rows])
        return [a[:, :64].float().mT @ b[:, :64].float() for a, b in zip(errors, inputs, strict=True)]

    try:
        alone, found = torch.stack([products([row])[0] for row in ids]), torch.stack(products(ids))
    except Exception:  # an input that is not laid out row by row
        return False
    exact = model.head.weight.dtype in (torch.float32, torch.float64)
    return bool((alone - found).abs().max() <= (1e-4 if exact else 0.1) * alone.abs().max())


def _is_linear(module: nn.Module) -> bool:
    from transformers import Conv1D

    return isinstance(module, nn.Linear | Conv1D)
