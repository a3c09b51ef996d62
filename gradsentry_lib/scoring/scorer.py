"""Scores samples: encode, share prefixes, pack, one forward pass, all signals.

Data flows one way: Sample -> Encoded -> Job -> States (hidden, at supervised positions) -> SpanSignals -> Score. A
sample that cannot be scored gets a Score with the reason in `failure`; it never stops the others.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.units import conversations
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.control_tokens import ControlTokens
from gradsentry_lib.scoring.encoding import Encoded, EncodingError, encode
from gradsentry_lib.scoring.gradient import span_signals
from gradsentry_lib.scoring.layer import by_layer, find_layer
from gradsentry_lib.scoring.model import ScoringModel, release
from gradsentry_lib.scoring.reuse import sections
from gradsentry_lib.scoring.score import Score
from gradsentry_lib.scoring.sketch import join, rejoin, windows
from gradsentry_lib.scoring.states import States, Unfit, is_out_of_memory, supervised_states

HEAD_TOKENS = 2048  # supervised tokens that go through the head together: its weights are read once a chunk of them

Progress = Callable[[int], None]  # called with the number of samples finished since the last call


@torch.no_grad()
def score_samples(
    samples: Sequence[Sample],
    model: ScoringModel,
    config: ScoringConfig | None = None,
    effort: Effort | None = None,
    on_progress: Progress | None = None,
) -> list[Score]:
    """Scores of the samples, in their order. Meant for some thousands at a time: prefixes are shared within a call.

    A sample of several sequences (a preference pair, a prompt with several answers) is scored on each of them.
    """
    parts = [conversations(sample) for sample in samples]
    if all(part == (sample,) for sample, part in zip(samples, parts, strict=True)):
        scores = _score_sequences(samples, model, config, effort, on_progress)
    else:
        sequences = [sequence for part in parts for sequence in part]
        each = iter(_score_sequences(sequences, model, config, effort, _in_samples(on_progress, parts)))
        scores = [combine(sample, [next(each) for _ in part]) for sample, part in zip(samples, parts, strict=True)]
    return _with_control_tokens(scores, samples, model)


def _in_samples(on_progress: Progress | None, parts: Sequence[Sequence[Sample]]) -> Progress | None:
    """Progress counted in samples, from progress in sequences."""
    total, done, told = sum(map(len, parts)), 0, 0

    def report(sequences: int) -> None:
        nonlocal done, told
        assert on_progress is not None
        done += sequences
        now = len(parts) * done // total
        on_progress(now - told)
        told = now

    return report if on_progress is not None else None


def combine(sample: Sample, scores: Sequence[Score]) -> Score:
    """The score of a sample from those of its sequences, in the order of its answers: each answer's entropies, of which
    the sample's own is the largest; the NLL over all tokens; all sketches. One that failed fails the sample."""
    if failure := next((score.failure for score in scores if score.failure), ""):
        return failed(sample, failure)
    tokens = [score.supervised_tokens for score in scores]
    return Score(
        sample_id=sample.sample_id,
        entropy=max(score.entropy for score in scores),
        turn_entropies=tuple(entropy for score in scores for entropy in score.turn_entropies),
        supervised_tokens=sum(tokens),
        nll=sum(score.nll * n for score, n in zip(scores, tokens, strict=True)) / sum(tokens),
        truncated=any(score.truncated for score in scores),
        sketch=rejoin([score.sketch for score in scores]),
        turn_tokens=tuple(n for score in scores for n in score.turn_tokens),
        turn_nll=tuple(nll for score in scores for nll in score.turn_nll),
    )


def _score_sequences(
    samples: Sequence[Sample],
    model: ScoringModel,
    config: ScoringConfig | None,
    effort: Effort | None,
    on_progress: Progress | None,
) -> list[Score]:
    """Scores of samples of one sequence each."""
    config, effort = config or ScoringConfig(), effort or Effort()
    limit = min(config.max_tokens or model.context, model.context)
    scores: list[Score | None] = [None] * len(samples)
    rows: list[Encoded] = []
    where: list[int] = []
    for index, sample in enumerate(samples):
        try:
            row = encode(sample, model.tokenizer, limit)
            check_known(row, model.vocab)
        except EncodingError as error:
            scores[index] = failed(sample, str(error))
        else:
            rows.append(row)
            where.append(index)
    if on_progress is not None:
        on_progress(len(samples) - len(rows))
    budget = effort.token_budget or default_budget(model)
    for name, size in (("rows", model.head.vocab), ("columns", model.head.width)):
        if size < config.crop:
            raise UnusableOption(f"crop {config.crop} leaves nothing of the output projection's {size} {name}")
    layer = find_layer(model, config.module) if config.module else None
    if layer is not None:
        for found in by_layer(rows, model, layer, config, budget):
            own = {state.index: entropies for state, entropies in found}
            for state, outcome in _outcomes([state for state, _ in found], model, config):
                index = where[state.index]
                if isinstance(outcome, str):
                    scores[index] = failed(samples[index], outcome)
                else:
                    scores[index] = _score(samples[index], rows[state.index], own[state.index], *outcome[1:])
            if on_progress is not None:
                on_progress(len(found))
        return _all_of(samples, scores)
    jobs = sections(model.body, rows, budget, model.past_limit if effort.share_prefixes else 0)
    for done in _held(supervised_states(model.body, jobs, budget), on_progress):
        for state, outcome in _outcomes(done, model, config):
            index = where[state.index]
            if isinstance(outcome, str):
                scores[index] = failed(samples[index], outcome)
            else:
                scores[index] = _score(samples[index], rows[state.index], *outcome)
    return _all_of(samples, scores)


def _all_of(samples: Sequence[Sample], scores: Sequence[Score | None]) -> list[Score]:
    return [score or failed(sample, "not scored") for sample, score in zip(samples, scores, strict=True)]


def _with_control_tokens(scores: list[Score], samples: Sequence[Sample], model: ScoringModel) -> list[Score]:
    """The scores, with the control tokens that each sample's own text holds."""
    control = ControlTokens.of(model.tokenizer)
    named = ((score, control.reason(sample)) for score, sample in zip(scores, samples, strict=True))
    return [replace(score, control_tokens=tokens) if tokens else score for score, tokens in named]


def check_known(row: Encoded, vocab: int) -> None:
    """Raises EncodingError where a token lies beyond the model's vocabulary: the tokenizer was extended, it was not."""
    highest = int(row.ids.max())
    if highest >= vocab:
        raise EncodingError(f"its text has token {highest}, which the model's vocabulary of {vocab} does not hold")


def _held(passes: Iterator[list[States | Unfit]], on_progress: Progress | None) -> Iterator[list[States | Unfit]]:
    """The states of several passes together, until they are enough tokens for the head to be worth its reading."""
    held: list[States | Unfit] = []
    for found in passes:
        held += found
        if on_progress is not None:
            on_progress(len(found))
        if sum(len(state.targets) for state in held if isinstance(state, States)) >= HEAD_TOKENS:
            yield held
            held = []
    yield held


# each span's entropy; its tokens and mean NLL; the sketch
Outcome = tuple[list[float], list[tuple[int, float]], bytes]


def _outcomes(
    states: Sequence[States | Unfit], model: ScoringModel, config: ScoringConfig
) -> list[tuple[States | Unfit, Outcome | str]]:
    """What the head makes of the states, or why there is nothing. Out of memory halves their number."""
    fit = [state for state in states if isinstance(state, States)]
    unfit: list[tuple[States | Unfit, Outcome | str]] = [(s, s.reason) for s in states if isinstance(s, Unfit)]
    try:
        return [*unfit, *zip(fit, _signals(fit, model, config), strict=True)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    release()
    if len(fit) == 1:
        return [*unfit, (fit[0], f"does not fit in memory alone ({len(fit[0].targets)} supervised tokens)")]
    half = len(fit) // 2
    return [*unfit, *_outcomes(fit[:half], model, config), *_outcomes(fit[half:], model, config)]


def _signals(states: Sequence[States], model: ScoringModel, config: ScoringConfig) -> list[Outcome]:
    if not states:
        return []
    lengths = [length for state in states for length in state.lengths]
    hidden = torch.cat([state.hidden for state in states]).to(model.device)  # layers may lie on several devices
    targets = torch.from_numpy(np.concatenate([state.targets for state in states])).to(hidden.device)
    projection = model.projection if config.sketch else None
    signals = span_signals(hidden, targets, lengths, model.head, projection, k=config.k, crop=config.crop)
    sketches = None
    if projection is not None and signals.tokens is not None:
        sketches = windows(signals.tokens, signals.nll, lengths, projection)
    entropy, nll = signals.entropy.tolist(), signals.nll.double().cpu().numpy()
    outcomes: list[Outcome] = []
    span = token = 0
    for state in states:
        own, end = slice(span, span + len(state.lengths)), token + len(state.targets)
        sketch = join(sketches[own], state.lengths) if sketches else b""
        ends = token + np.cumsum(state.lengths)
        spans = [(length, float(nll[at - length : at].mean())) for length, at in zip(state.lengths, ends, strict=True)]
        outcomes.append((entropy[own], spans, sketch))
        span, token = own.stop, end
    return outcomes


def _score(
    sample: Sample, row: Encoded, entropies: list[float], spans: list[tuple[int, float]], sketch: bytes
) -> Score:
    tokens, costs = zip(*spans, strict=True)
    if not all(map(math.isfinite, [*entropies, *costs])):
        return failed(sample, "the model's output is not finite")
    nll = sum(n * cost for n, cost in spans) / row.supervised
    return Score(
        sample.sample_id, max(entropies), tuple(entropies), row.supervised, nll, row.truncated, sketch,
        turn_tokens=tokens, turn_nll=costs,
    )  # fmt: skip


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
