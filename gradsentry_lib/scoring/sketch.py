"""Sketches of what each short span of a response asks of the model.

For a window of supervised tokens the gradient of the output projection is sum_t (p_t - y_t) h_t^T, V x D. Windows that
ask for the same update have nearly the same gradient, whatever their words; so each window keeps a small fixed
projection of it, and windows of a whole data set can be compared without the model. Three steps, linear and seeded:

    errors (V) -> 32, hidden states less the model's usual one (D) -> 32, their summed outer products (32 x 32) -> 128

then four bits a number (windows.py). The usual hidden state, and what the model usually pays for a token (so that
surprise is in the model's own measure), come from a short built-in text: they depend on the model alone, never on the
batch, so sketches made at different times can be compared.

Cost: 64 multiplications an entry of the error rows and states, next to D for the logits themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradsentry_lib.errors import UnusableModel
from gradsentry_lib.scoring.forward import run_body
from gradsentry_lib.scoring.head import OutputProjection
from gradsentry_lib.windows import CODES, LIMIT, RECORD, pack, pack_codes, unpack

SIDE = 32
WIDTH, STRIDE = 8, 4  # tokens a window, tokens between the starts of two
CLIP = 0.8  # of a window's largest entry: the few beyond it are cut, the rest keep finer steps

# Ordinary prose of several kinds, written for this purpose. Only its averages are used.
PLAIN_TEXT = (
    "Question: How do plants make their food?\nAnswer: Plants use sunlight, water and carbon dioxide. In their leaves "
    "the light is turned into energy, which the plant stores as sugar. Oxygen is given off on the way.",
    "To bake simple bread, mix flour, water, salt and a little yeast. Let the dough rest for an hour, shape it, and "
    "bake it in a hot oven until the crust is brown. Let it cool before you cut it.",
    "1. Make a list of what you have to do.\n2. Begin with the most important task.\n3. Take a short break every "
    "hour.\n4. Look back at the end of the day and plan the next one.",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total "
    "/ len(values)\n",
    "The meeting was moved to Thursday because two people could not come. Please read the report before then and write "
    "down your questions, so that we can answer them together.",
    "Anna had 12 apples and gave 5 of them to her brother. She has 12 - 5 = 7 apples left. If she buys 3 more, she "
    "will have 7 + 3 = 10 apples.",
)


@dataclass(frozen=True)
class Projection:
    """Everything fixed that sketches of one model need, on the model's device.

    errors: (V, 32); states: (D, 32); outer: (1024, 128); usual: (D,) the mean hidden state; price: nats a token.
    """

    errors: Tensor
    states: Tensor
    outer: Tensor
    usual: Tensor
    price: float


def make_projection(
    body: Any, tokenizer: Any, head: OutputProjection, context: int = 1 << 30, vocab: int | None = None
) -> Projection:
    """The projection of one model: random signs from a fixed seed, averages from the built-in text.

    `context`: the longest text the model reads; `vocab`: how many token ids it knows, the head's if left out. Raises
    BadInput where it knows hardly any of the text's tokens: the tokenizer is another model's.
    """
    device = head.weight.device
    total, losses, count = torch.zeros(head.width, dtype=torch.float64, device=device), 0.0, 0
    with torch.no_grad():
        for text in PLAIN_TEXT:
            ids = np.array(tokenizer.encode(text), dtype=np.int64)[:context]
            known = ids < (vocab or head.vocab)
            if known.mean() < 0.5 or known.sum() < 2:
                raise UnusableModel(
                    f"the tokenizer is not this model's: {(~known).sum()} of {len(ids)} tokens of a plain text lie "
                    f"beyond its vocabulary of {vocab or head.vocab}"
                )
            ids = ids[known]
            hidden = run_body(body, [ids])[0][:-1].to(device)  # (T - 1, D)
            _, nll = head.errors(hidden, torch.from_numpy(ids[1:]).to(device))
            total += hidden.double().sum(0)
            losses += float(nll.double().sum())
            count += len(hidden)
    return known_projection(head, (total / count).float().cpu().numpy(), max(losses / count, 1e-3))


def known_projection(head: OutputProjection, usual: np.ndarray, price: float) -> Projection:
    """The projection of a model whose averages are known. usual: (D,) float32."""
    device = head.weight.device
    return Projection(
        errors=_signs(head.vocab, SIDE, 1).to(device),
        states=_signs(head.width, SIDE, 2).to(device),
        outer=_signs(SIDE * SIDE, CODES, 3).to(device),
        usual=torch.from_numpy(usual.copy()).to(device),
        price=price,
    )


def _signs(rows: int, columns: int, seed: int) -> Tensor:
    """(rows, columns) of +1 and -1 over the square root of `columns`: from raw generator bits, the same anywhere."""
    bits = np.frombuffer(
        np.random.PCG64(seed).random_raw((rows * columns + 63) // 64).astype("<u8").tobytes(), np.uint8
    )
    signs = np.unpackbits(bits)[: rows * columns].reshape(rows, columns).astype(np.float32)
    return torch.from_numpy((2 * signs - 1) / np.float32(columns**0.5))


def project(errors: Tensor, hidden: Tensor, projection: Projection) -> Tensor:
    """errors (n, V), hidden (n, D) of n tokens as (n, 64) float32: what windows are made of."""
    states = hidden.float() - projection.usual
    return torch.cat([errors.float() @ projection.errors, states @ projection.states], dim=1)


def windows(tokens: Tensor, nll: Tensor, lengths: Sequence[int], projection: Projection) -> list[np.ndarray]:
    """The window records of S spans.

    tokens: (N, 64) from `project`; nll: (N,); lengths: S span lengths that add up to N. A span's last token (the end
    of sequence) is left out where there is more; a span shorter than a window is one window. `start` counts from the
    span's own first token. Windows in which nothing is left of the gradient are dropped.
    """
    starts, ends, spans = _bounds(lengths)
    device = tokens.device
    at = torch.from_numpy(starts).to(device)[:, None] + torch.arange(WIDTH, device=device)  # (W, 8)
    inside = at < torch.from_numpy(ends).to(device)[:, None]
    part = tokens[at.clamp_max(len(tokens) - 1)] * inside[:, :, None]  # (W, 8, 64)
    outer = part[:, :, :SIDE].mT @ part[:, :, SIDE:]  # (W, 32, 32)
    sketch = outer.flatten(1) @ projection.outer  # (W, 128)
    top = sketch.abs().amax(1, keepdim=True)
    codes = (sketch * (LIMIT / CLIP) / top.clamp_min(1e-12)).round().clamp(-LIMIT, LIMIT).to(torch.int8)
    size = inside.sum(1)
    surprise = (nll.float()[at.clamp_max(len(tokens) - 1)] * inside).sum(1) / size / projection.price
    kept = ((top.squeeze(1) > 1e-6) & torch.isfinite(surprise)).cpu().numpy()

    records = np.zeros(len(starts), RECORD)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    records["start"] = starts - offsets[spans]
    records["length"] = size.cpu().numpy()
    records["surprise"] = surprise.clamp_max(1000).cpu().numpy()
    records["codes"] = pack_codes(codes.cpu().numpy())
    records, spans = records[kept], spans[kept]
    return np.split(records, np.searchsorted(spans, np.arange(1, len(lengths))))


def join(spans: Sequence[np.ndarray], lengths: Sequence[int]) -> bytes:
    """One sample's sketch from the records of its spans (several assistant turns of a chat) and their lengths."""
    parts, offset = [], 0
    for records, length in zip(spans, lengths, strict=True):
        moved = records.copy()
        moved["start"] += offset
        parts.append(moved)
        offset += length
    return pack(np.concatenate(parts), offset)


def rejoin(sketches: Sequence[bytes]) -> bytes:
    """One sample's sketch from those of its sequences, each already packed; b"" where none was made."""
    if not any(sketches):
        return b""
    records, owner, tokens = unpack(sketches)
    return join([records[owner == i] for i in range(len(sketches))], tokens.tolist())


def _bounds(lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, ends and spans of all windows, in order: positions among the tokens of all spans."""
    starts, ends, spans = [], [], []
    offset = 0
    for span, length in enumerate(lengths):
        last = max(length - 1, 1)
        own = np.arange(0, max(last - WIDTH, 0) + 1, STRIDE)
        if last > WIDTH and own[-1] != last - WIDTH:
            own = np.append(own, last - WIDTH)
        starts.append(offset + own)
        ends.append(offset + np.minimum(own + WIDTH, last))
        spans.append(np.full(len(own), span))
        offset += length
    return np.concatenate(starts), np.concatenate(ends), np.concatenate(spans)
