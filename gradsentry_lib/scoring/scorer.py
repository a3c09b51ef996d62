"""Scores samples: encode, share prefixes, pack, one forward pass, all signals.

Data flows one way: Sample -> Encoded -> Job -> hidden states at supervised positions -> SpanSignals -> Score. A sample
that cannot be scored gets a Score with the reason in `failure`; it never stops the others.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.encoding import Encoded, EncodingError, encode
from gradsentry_lib.scoring.forward import passes, run_body
from gradsentry_lib.scoring.gradient import span_signals
from gradsentry_lib.scoring.model import ScoringModel
from gradsentry_lib.scoring.reuse import Job, sections
from gradsentry_lib.scoring.score import Score
from gradsentry_lib.scoring.sketch import join, windows

log = logging.getLogger(__name__)

Progress = Callable[[int], None]  # called with the number of samples finished since the last call


@torch.no_grad()
def score_samples(
    samples: Sequence[Sample],
    model: ScoringModel,
    config: ScoringConfig | None = None,
    effort: Effort | None = None,
    on_progress: Progress | None = None,
) -> list[Score]:
    """Scores of the samples, in their order. Meant for some thousands at a time: prefixes are shared within a call."""
    config, effort = config or ScoringConfig(), effort or Effort()
    limit = min(config.max_tokens or model.context, model.context)
    scores = [failed(sample, "not scored") for sample in samples]
    rows: list[Encoded] = []
    where: list[int] = []
    for index, sample in enumerate(samples):
        try:
            rows.append(encode(sample, model.tokenizer, limit))
            where.append(index)
        except EncodingError as error:
            scores[index] = failed(sample, str(error))
    if on_progress is not None:
        on_progress(len(samples) - len(rows))
    budget = effort.token_budget or default_budget(model)
    jobs = sections(model.body, rows, budget, model.past_limit if effort.share_prefixes else 0)
    for done in _in_memory(jobs, model, config, budget):
        for job, outcome in done:
            index = where[job.index]
            if isinstance(outcome, str):
                scores[index] = failed(samples[index], outcome)
            else:
                scores[index] = _score(samples[index], rows[job.index], *outcome)
        if on_progress is not None:
            on_progress(len(done))
    return scores


Outcome = tuple[list[float], float, bytes]  # each span's entropy; mean NLL over all supervised tokens; the sketch


def _in_memory(
    groups: Iterator[list[Job]], model: ScoringModel, config: ScoringConfig, budget: int
) -> Iterator[list[tuple[Job, Outcome | str]]]:
    """Runs jobs pack by pack. Out of memory halves the budget for all that follows; a job that fails alone says why."""
    for jobs in groups:
        waiting = _packs(jobs, budget, model)
        while waiting:
            batch = waiting.pop()
            try:
                outcomes = _run(batch, model, config)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            else:
                yield list(zip(batch, outcomes, strict=True))
                continue
            # Out of the except block, so that the error's traceback no longer holds the tensors that did not fit.
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
            if len(batch) == 1:
                tokens = batch[0].past.length + len(batch[0].ids) + 1
                yield [(batch[0], f"does not fit in memory alone ({tokens} tokens)")]
                continue
            budget = max(1, sum(len(job.ids) for job in batch) // 2)
            log.warning("Out of memory: going on with %d tokens a pass.", budget)
            waiting = _packs([*batch, *(job for other in waiting for job in other)], budget, model)


def _packs(jobs: Sequence[Job], budget: int, model: ScoringModel) -> list[list[Job]]:
    """Packs of jobs, the one to run first at the end."""
    packs = passes(model.body, [len(job.ids) for job in jobs], budget)
    return [[jobs[i] for i in members] for members in reversed(packs)]


def _is_out_of_memory(error: Exception) -> bool:
    """On the CPU torch raises a plain RuntimeError from its allocator."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _run(batch: Sequence[Job], model: ScoringModel, config: ScoringConfig) -> list[Outcome]:
    """One pass over a pack, and the signals of every span in it."""
    hidden, _ = run_body(model.body, [job.ids for job in batch], [job.past for job in batch])
    spans = [(row, start, end) for row, job in enumerate(batch) for start, end in job.spans]
    lengths = [end - start for _, start, end in spans]
    first = np.concatenate(([0], np.cumsum([len(job.ids) for job in batch])))
    at = np.concatenate([first[row] + np.arange(start, end) for row, start, end in spans])
    states = hidden[torch.from_numpy(at - 1).to(hidden.device)]  # a state predicts the token behind it
    targets = np.concatenate([job.targets for job in batch])
    projection = model.projection if config.sketch else None
    aimed = torch.from_numpy(targets).to(hidden.device)
    signals = span_signals(states, aimed, lengths, model.head, projection, k=config.k, crop=config.crop)
    sketches = None
    if projection is not None and signals.tokens is not None:
        sketches = windows(signals.tokens, signals.nll, lengths, projection)
    entropy, nll = signals.entropy.tolist(), signals.nll.double().cpu().numpy()
    outcomes: list[Outcome] = []
    span = token = 0
    for job in batch:
        own = slice(span, span + len(job.spans))
        count = sum(lengths[own])
        sketch = join(sketches[own], lengths[own]) if sketches else b""
        outcomes.append((entropy[own], float(nll[token : token + count].mean()), sketch))
        span, token = own.stop, token + count
    return outcomes


def _score(sample: Sample, row: Encoded, entropies: list[float], nll: float, sketch: bytes) -> Score:
    if not all(map(math.isfinite, [*entropies, nll])):
        return failed(sample, "the model's output is not finite")
    return Score(sample.sample_id, max(entropies), tuple(entropies), row.supervised, nll, row.truncated, sketch)


def failed(sample: Sample, reason: str) -> Score:
    """The score of a sample that could not be scored: never clean by default."""
    return Score(sample.sample_id, math.nan, (), 0, math.nan, truncated=False, failure=reason)


def default_budget(model: ScoringModel) -> int:
    """Tokens a pass, padding included: what keeps the device busy and its memory safe."""
    if model.device.type != "cuda":
        return 1024  # longer passes gain nothing on a CPU: their tensors leave its cache
    config = model.model.config.get_text_config()
    free, _ = torch.cuda.mem_get_info(model.device)
    widest = max(getattr(config, "intermediate_size", None) or 4 * config.hidden_size, config.hidden_size)
    bytes_a_token = 2 * model.head.weight.element_size() * (8 * config.hidden_size + 3 * widest)
    return int(min(max(free // 4 // bytes_a_token, 2048), 65536))
