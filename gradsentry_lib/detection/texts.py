"""What the test reads of a batch: of every answer what was asked, what was answered, and what the model made of it.

The prompt of an answer in a conversation is what it answers; words of what was said earlier are marked as such, so that
a trigger of one turn is not laid to the answers of all later ones. Each of a row's answers has its own part of the
row's sketch, by the token counts of its turns (scores of older versions have none: there a row is one answer).
"""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.detection.on_disk import pieces, texts
from gradsentry_lib.detection.prompts import EARLIER
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.units import before, unit_names, units
from gradsentry_lib.windows import pack, unpack

CHUNK = 4096  # rows in memory at a time


@dataclass(frozen=True)
class Text:
    """One row: what was asked and what was answered, several turns of a kind joined by a line break."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Rows:
    """N scored answers of a batch, most rows having one. `ids` name them (samples/units.py); `row` (N,) is where their
    rows stand in the batch; `nll` (N,) nats a token; `tokens` (N,) supervised tokens. Of an answer that another one was
    turned down for, `against` and `against_nll` are the other's sketch and cost."""

    ids: Sequence[str]
    prompts: Sequence[str]
    answers: Sequence[str]
    sketches: Sequence[bytes | None]
    nll: np.ndarray
    tokens: np.ndarray
    row: np.ndarray
    against: Sequence[bytes | None] = ()
    against_nll: np.ndarray | None = None


def take(rows: Rows, order: np.ndarray) -> Rows:
    """The answers at these places, in this order."""
    texts = (rows.ids, rows.prompts, rows.answers, rows.sketches)
    ids, prompts, answers, sketches = ([part[i] for i in order] for part in texts)
    against = [rows.against[i] for i in order] if rows.against else ()
    costs = None if rows.against_nll is None else rows.against_nll[order]
    nll, tokens = np.asarray(rows.nll)[order], np.asarray(rows.tokens)[order]
    return Rows(ids, prompts, answers, sketches, nll, tokens, np.asarray(rows.row)[order], against, costs)


def read_texts(chunks: Iterable[list[Sample]]) -> Iterator[Text]:
    for chunk in chunks:
        for sample in chunk:
            yield Text(sample.prompt, "\n".join(sample.answered))


def by_id(ids: Sequence[str]) -> np.ndarray:
    """(N,) places in the order of the ids; those of one id in their own."""
    starts = range(0, len(ids), CHUNK)
    parts = [pa.array([ids[i] for i in range(at, min(at + CHUNK, len(ids)))], pa.string()) for at in starts]
    return pc.sort_indices(pa.chunked_array(parts, pa.string())).to_numpy().astype(np.int64)


def read_rows(
    scores: pa.Table, samples: Callable[[], Iterator[list[Sample]]], sketches: Callable[[], Iterable[bytes | None]]
) -> Rows:
    """The answers of every row, in the score table's order. Texts and sketches of a large batch lie on disk."""
    every = (sample for chunk in samples() for sample in chunk)
    ids, prompts, answers = texts(), texts(), texts()
    own, others = pieces(), pieces()
    costs, other_costs, tokens, rows = array("d"), array("d"), array("q"), array("q")
    pairs = False
    lines = zip(_lines(scores), every, sketches(), strict=True)
    for i, ((sample_id, nll, count, turn_tokens, turn_nll), sample, sketch) in enumerate(lines):
        whole = _Span(sketch or b"", nll, count)
        for answer in _answers(sample_id, sample, whole, turn_tokens, turn_nll):
            pairs = pairs or answer.against is not None
            against = answer.against or _Span(b"", math.nan, 0)
            ids.append(answer.name)
            prompts.append(answer.prompt)
            answers.append(answer.answer)
            own.append(answer.own.sketch)
            others.append(against.sketch)
            costs.append(answer.own.nll)
            other_costs.append(against.nll)
            tokens.append(answer.own.tokens)
            rows.append(i)
    counts = (np.asarray(tokens), np.asarray(rows))
    against_too = (others, np.asarray(other_costs)) if pairs else ((), None)
    return Rows(ids, prompts, answers, own, np.asarray(costs), *counts, *against_too)


def _lines(scores: pa.Table) -> Iterator[tuple[str, float, int, Sequence[int], Sequence[float]]]:
    """Of each row its id, cost and tokens, and those of its turns, which older versions did not keep."""
    turns = [name for name in ("turn_tokens", "turn_nll") if name in scores.column_names]
    columns = scores.select(["sample_id", "nll", "supervised_tokens", *turns])
    for part in columns.to_batches(CHUNK):
        for sample_id, nll, tokens, *spans in zip(*(column.to_pylist() for column in part.columns), strict=True):
            turn_tokens, turn_nll = spans or (None, None)
            yield sample_id, math.nan if nll is None else float(nll), tokens or 0, turn_tokens or (), turn_nll or ()


@dataclass(frozen=True)
class _Span:
    sketch: bytes
    nll: float
    tokens: int


@dataclass(frozen=True)
class _Answer:
    name: str
    prompt: str
    answer: str
    own: _Span
    against: _Span | None = None


def _answers(
    sample_id: str, sample: Sample, whole: _Span, tokens: Sequence[int], nll: Sequence[float]
) -> list[_Answer]:
    parts = units(sample)
    names = unit_names(sample_id, len(parts))
    if sample.has_pair and len(parts) == len(tokens) == 2:
        own, other = _split(whole.sketch, tokens, nll)
        return [_Answer(names[0], _prompt(parts[0]), parts[0].response, own, other)]
    if len(parts) == 1:
        return [_Answer(sample_id, _prompt(parts[0]), parts[0].response, whole)]
    if sample.has_pair or not 0 < len(tokens) <= len(parts):
        return [_Answer(sample_id, sample.prompt.replace(EARLIER, " "), "\n".join(sample.answered), whole)]
    spans = _split(whole.sketch, tokens, nll)  # fewer than answers where the row was too long: the rest has no score
    return [
        _Answer(name, _prompt(part), part.response, span) for name, part, span in zip(names, parts, spans, strict=False)
    ]


def _prompt(unit: Sample) -> str:
    now, earlier = (text.replace(EARLIER, " ") for text in before(unit))
    return now + EARLIER + earlier if earlier else now


def _split(sketch: bytes, tokens: Sequence[int], nll: Sequence[float]) -> list[_Span]:
    """Each span's own part of a sketch."""
    ends = np.cumsum(tokens)
    records = unpack([sketch])[0]
    owner = np.searchsorted(ends, records["start"], side="right")
    found = []
    for k, (length, cost) in enumerate(zip(tokens, nll, strict=True)):
        mine = records[owner == k].copy()
        mine["start"] -= np.uint32(ends[k] - length)
        found.append(_Span(pack(mine, length) if sketch else b"", cost, length))
    return found
