"""One data set, several filters, one line of figures each."""

import gc
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gradsentry_lib.detection.entropy_threshold import find_threshold
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.reason import Swapped
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.evaluation.filtered import Filter, Filtered, Progress
from gradsentry_lib.evaluation.measures import auc_of, bootstrap_interval, f1_of, measure, none_if_nan
from gradsentry_lib.evaluation.peers import FORMER, PEERS, supervised_tokens
from gradsentry_lib.evaluation.published import published_entropies
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.model import ScoringModel
from gradsentry_lib.scoring.score import to_table
from gradsentry_lib.scoring.scorer import score_samples
from gradsentry_lib.scoring.swapped import score_swapped
from gradsentry_lib.settings import POLICIES

OURS = "policy-"  # prefix of this project's own policies among the filters


def paper(samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None) -> Filtered:
    """The paper's GradSentry exactly as published: autograd, randomised SVD, automatic threshold."""
    entropy = published_entropies(samples, model, seed, on_progress=on_progress)
    return Filtered(entropy, ~(entropy <= find_threshold(entropy).tau))


def own(policy: str) -> Filter:
    """A policy of this project, on the scorer's exact signals."""

    def filtered(
        samples: Sequence[Sample], model: ScoringModel, seed: int, on_progress: Progress | None = None
    ) -> Filtered:
        config = ScoringConfig(sketch=policy != "paper")
        table = to_table(score_samples(samples, model, config, on_progress=on_progress))
        table = table.add_column(0, "row", pa.array([sample.row for sample in samples], pa.int64()))
        verdicts = judge(
            table, policy, samples=lambda: iter([list(samples)]), swapped=asking(samples, model, config)
        ).verdicts
        flags = not_clean(verdicts)
        return Filtered(ranking(policy, verdicts, flags), flags)

    return filtered


def asking(samples: Sequence[Sample], model: ScoringModel, config: ScoringConfig) -> Swapped:
    """What the policy `auto` asks the model that scored these samples."""
    by_id = {sample.sample_id: sample for sample in samples}
    return partial(score_swapped, samples=by_id, model=model, config=config)


def ranking(policy: str, verdicts: pa.Table, flags: np.ndarray) -> np.ndarray:
    """What a policy's AUC is measured by: the entropy that `paper` cuts, the verdict itself of `auto`."""
    if policy == "paper":
        return verdicts["entropy"].to_numpy()
    return flags.astype(float)  # rows are flagged by groups: there is nothing in between


FILTERS: dict[str, Filter] = {"paper": paper, **PEERS, **{OURS + policy: own(policy) for policy in POLICIES}}


def filters_named(names: Sequence[str]) -> dict[str, Filter]:
    """The filters of those names, in that order; a peer's name without its "after" means it too. Raises BadInput with
    the list of names for one that is not there."""
    names = [FORMER.get(name, name) for name in names]
    for name in names:
        if name not in FILTERS:
            raise UnusableOption(f"There is no filter {name!r}. Known: {', '.join(FILTERS)}.")
    if not names:
        raise UnusableOption(f"Name at least one filter of: {', '.join(FILTERS)}.")
    return {name: FILTERS[name] for name in dict.fromkeys(names)}


def evaluate(
    samples: Sequence[Sample],
    labels: np.ndarray,
    model: ScoringModel,
    filters: dict[str, Filter],
    seed: int = 0,
    draws: int = 1000,
    on_start: Callable[[str], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """A line of figures for each filter, as it finishes: `measures.Measures`, 95 % bootstrap intervals of F1 and AUC,
    `seconds`, `peak_mb` (memory the filter needed beyond what was in use before it)."""
    labels = np.asarray(labels, dtype=bool)
    lengths = supervised_tokens(samples, model)
    for name, run in filters.items():
        if on_start is not None:
            on_start(name)
        with metered() as spent:
            found = run(samples, model, seed, on_progress)
        figures = measure(labels, found.scores, found.flags, lengths).to_dict()
        f1_low, f1_high = bootstrap_interval(f1_of, labels, found.flags, seed=seed, draws=draws)
        auc_low, auc_high = bootstrap_interval(auc_of, labels, found.scores, seed=seed, draws=draws)
        intervals = {"f1_low": f1_low, "f1_high": f1_high, "auc_low": auc_low, "auc_high": auc_high}
        yield {"filter": name, **figures, **{k: none_if_nan(v) for k, v in intervals.items()}, **spent, "seed": seed}


@contextmanager
def metered() -> Iterator[dict[str, float]]:
    """Wall-clock seconds and peak memory (MB, above the start) of the block: CUDA's own count, or the process's
    resident set, sampled twenty times a second."""
    import torch

    spent: dict[str, float] = {}
    gc.collect()
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = _resident()
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        yield spent
    finally:
        spent["seconds"] = round(time.perf_counter() - start, 3)
        done.set()
        watcher.join()
        highest = torch.cuda.max_memory_allocated() if cuda else max(peak[0], _resident())
        spent["peak_mb"] = round((highest - before) / 1e6, 1)


def _resident() -> int:
    """Bytes of memory this process holds now (where the system does not say, the most it ever held)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
