"""What the test reads of a batch: of every answer what was asked, what was answered, and what the model made of it.

The prompt of an answer in a conversation is what it answers; words of what was said earlier are marked as such, so that
a trigger of one turn is not laid to the answers of all later ones. Each of a row's answers has its own part of the
row's sketch, by the token counts of its turns (scores of older versions have none: there a row is one answer).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.detection.features import EARLIER
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.units import before, unit_names, units
from gradsentry_lib.windows import pack, unpack


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


def read_rows(
    scores: pa.Table, samples: Callable[[], Iterator[list[Sample]]], sketches: Callable[[], Iterable[bytes | None]]
) -> Rows:
    """The answers of every row, in the score table's order."""
    nll = pc.fill_null(scores["nll"].cast(pa.float64()), float("nan")).to_numpy()
    tokens = pc.fill_null(scores["supervised_tokens"].cast(pa.int64()), 0).to_numpy()
    names = ("turn_tokens", "turn_nll")
    spans = [scores[n].to_pylist() if n in scores.column_names else [None] * scores.num_rows for n in names]
    every = (sample for chunk in samples() for sample in chunk)
    found: list[_Answer] = []
    for i, (sample_id, sample, sketch) in enumerate(
        zip(scores["sample_id"].to_pylist(), every, sketches(), strict=True)
    ):
        whole = _Span(sketch or b"", float(nll[i]), int(tokens[i]))
        found += _answers(i, sample_id, sample, whole, spans[0][i] or [], spans[1][i] or [])
    pairs = any(answer.against is not None for answer in found)
    return Rows(
        [answer.name for answer in found],
        [answer.prompt for answer in found],
        [answer.answer for answer in found],
        [answer.own.sketch for answer in found],
        np.array([answer.own.nll for answer in found], float),
        np.array([answer.own.tokens for answer in found], np.int64),
        np.array([answer.row for answer in found], np.int64),
        [answer.against.sketch if answer.against else None for answer in found] if pairs else (),
        np.array([answer.against.nll if answer.against else np.nan for answer in found]) if pairs else None,
    )


@dataclass(frozen=True)
class _Span:
    sketch: bytes
    nll: float
    tokens: int


@dataclass(frozen=True)
class _Answer:
    name: str
    row: int
    prompt: str
    answer: str
    own: _Span
    against: _Span | None = None


def _answers(
    row: int, sample_id: str, sample: Sample, whole: _Span, tokens: Sequence[int], nll: Sequence[float]
) -> list[_Answer]:
    parts = units(sample)
    names = unit_names(sample_id, len(parts))
    if sample.has_pair and len(parts) == len(tokens) == 2:
        own, other = _split(whole.sketch, tokens, nll)
        return [_Answer(names[0], row, _prompt(parts[0]), parts[0].response, own, other)]
    if len(parts) == 1:
        return [_Answer(sample_id, row, _prompt(parts[0]), parts[0].response, whole)]
    if sample.has_pair or not 0 < len(tokens) <= len(parts):
        return [_Answer(sample_id, row, sample.prompt.replace(EARLIER, " "), "\n".join(sample.answered), whole)]
    spans = _split(whole.sketch, tokens, nll)  # fewer than answers where the row was too long: the rest has no score
    return [
        _Answer(name, row, _prompt(part), part.response, span)
        for name, part, span in zip(names, parts, spans, strict=False)
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
