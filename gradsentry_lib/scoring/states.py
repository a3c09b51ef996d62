"""The hidden states that predict supervised tokens, pass by pass, within the memory there is."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradsentry_lib.scoring.forward import passes, run_body
from gradsentry_lib.scoring.model import release
from gradsentry_lib.scoring.reuse import Job

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class States:
    """Of row `index`. `hidden`: (n, D), what predicts the supervised tokens `targets` (n,); `lengths`: of its spans."""

    index: int
    lengths: list[int]
    targets: np.ndarray
    hidden: Tensor


@dataclass(frozen=True)
class Unfit:
    """Row `index` has no states, and why."""

    index: int
    reason: str


def supervised_states(body: Any, sections: Iterator[list[Job]], budget: int) -> Iterator[list[States | Unfit]]:
    """The states of every job, a pass of at most `budget` tokens at a time.

    Out of memory halves the budget for all that follows; a job that fails alone says why.
    """
    for jobs in sections:
        waiting = _packs(body, jobs, budget)
        while waiting:
            batch = waiting.pop()
            try:
                found = _run(body, batch)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                yield [*found]
                continue
            # Out of the except block, so that the error's traceback no longer holds the tensors that did not fit.
            release()
            if len(batch) == 1:
                tokens = batch[0].past.length + len(batch[0].ids) + 1
                yield [Unfit(batch[0].index, f"does not fit in memory alone ({tokens} tokens)")]
                continue
            budget = max(1, sum(len(job.ids) for job in batch) // 2)
            log.warning("Out of memory: going on with %d tokens a pass.", budget)
            waiting = _packs(body, [*batch, *(job for other in waiting for job in other)], budget)


def _packs(body: Any, jobs: Sequence[Job], budget: int) -> list[list[Job]]:
    """Jobs that go through the model together, those to run first at the end."""
    packs = passes(body, [len(job.ids) for job in jobs], budget)
    return [[jobs[i] for i in members] for members in reversed(packs)]


def _run(body: Any, batch: Sequence[Job]) -> list[States]:
    hidden, _ = run_body(body, [job.ids for job in batch], [job.past for job in batch])
    starts = np.cumsum([0, *(len(job.ids) for job in batch)])
    # The state that predicts a token is that of the token before it.
    at = [start + np.arange(*span) - 1 for start, job in zip(starts, batch, strict=False) for span in job.spans]
    states = hidden[torch.from_numpy(np.concatenate(at)).to(hidden.device)].split([len(job.targets) for job in batch])
    return [
        States(job.index, [end - start for start, end in job.spans], job.targets, own)
        for job, own in zip(batch, states, strict=True)
    ]


def is_out_of_memory(error: Exception) -> bool:
    """On the CPU torch raises a plain RuntimeError from its allocator."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
