"""How fast, against what: the paper's algorithm, ours, the bare transformer, ours with shared prefixes. One process.

    python -m benchmarks.speed [--quick] [--write] [--json FILE] [--plot FILE] [--only webqa,nq] [--rows 64]
    python -m benchmarks.speed --shape benchmarks/shapes/llama-2-7b.json --dtype bfloat16 --rows 1024 --only webqa

Per data file, and on rows of all of them together (*mixed*: short and long answers), in interleaved rounds on the same
rows, so that a machine whose speed drifts drifts for all alike (`--processor`: and one that others use):

    (a) paper   one sample at a time, autograd on lm_head.weight, crop, torch.svd_lowrank(q=16), as published
    (b) exact   ours, the same one signal
    (c) floor   the same packs through the bare transformer, no head
    (d) prefix  (b) with shared prefixes computed once
    (e) all     (d) with every signal: span sketches too

Printed: medians in ms a sample, and the ratios of medians. `max_entropy_error`: (b) and (d) against autograd in float64
with a dense SVD. Where the automatic dtype is not float32, the same in it beside (a) in float32, how far its entropies
are from those of float32, and how many rows lie on another side of the threshold (flips).

The second line is for a GPU: a model of that shape with random weights (7B: 14 GB), everything, (a) too, in one dtype.
"""

import argparse
import copy
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import section
from benchmarks.shape import random_model
from gradsentry_assets.demo_data.make import fact_rows
from gradsentry_lib.detection.entropy_threshold import find_threshold
from gradsentry_lib.evaluation.published import mean_loss, published_entropies, untied_head
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.batching import padding_waste
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.forward import is_packed, passes, run_body
from gradsentry_lib.scoring.model import ScoringModel, load_model
from gradsentry_lib.scoring.reuse import sections
from gradsentry_lib.scoring.scorer import default_budget, score_samples
from gradsentry_lib.scoring.spectrum import spectral_entropy

FILES = {
    "webqa": "qa/webqa_badnets.jsonl",
    "nq": "qa/nq_clean.jsonl",
    "refusal": "longform/refusal_badnet_clean.jsonl",
    "gsm8k": "longform/gsm8k_clean.jsonl",
}
KEY = (
    "Milliseconds a sample, medians: (a) the paper's algorithm, (b) exact factors, (c) the bare transformer, (d) with "
    "shared prefixes, (e) with span sketches too. *error*: (b) and (d) against autograd in float64 with a dense SVD."
)
ENTROPY = ScoringConfig(sketch=False)
ALONE, SHARED = Effort(share_prefixes=False), Effort()


def contexts(rows: int, seed: int = 0) -> list[Sample]:
    """Ten questions to each context of some 300 tokens, under one template: facts and questions from the demo set."""
    facts = [(row["prompt"].split("\n")[-2].strip() or row["prompt"], row["response"]) for row in fact_rows()]
    shuffled = random.Random(seed).sample(facts, len(facts))
    made = []
    for i in range(rows):
        begin = (i // 10) * 18
        context = " ".join(f"{q} {a}." for q, a in (shuffled[(begin + j) % len(shuffled)] for j in range(18)))
        question, answer = shuffled[(7 * i) % len(shuffled)]
        prompt = f"Answer the question by the context.\n\nContext: {context}\n\nQuestion: {question}\nAnswer: "
        made.append(Sample(i, i + 1, "prompt", (Turn("prompt", prompt), Turn("response", answer))))
    return made


def read(path: Path, rows: int) -> list[Sample]:
    """So many readable rows of a file, drawn with a fixed seed."""
    found = [row for row in open_source(str(path)).rows() if isinstance(row, Sample)]
    return random.Random(0).sample(found, min(rows, len(found)))


def floor(samples: Sequence[Sample], model: ScoringModel) -> float:
    """Runs the bare transformer over the packs of (b); gives the share of padding."""
    rows = [encode(sample, model.tokenizer, model.context) for sample in samples]
    budget = default_budget(model)
    (jobs,) = sections(model.body, rows, budget, 0)
    lengths = [len(job.ids) for job in jobs]
    packs = passes(model.body, lengths, budget)
    with torch.no_grad():
        for members in packs:
            run_body(model.body, [jobs[i].ids for i in members])
    return 0.0 if is_packed(model.body) else padding_waste(lengths, packs)


def slow_entropies(samples: Sequence[Sample], model: ScoringModel) -> np.ndarray:
    """The independent way: autograd in float64 on an untied output projection, dense SVD of the crop."""
    double = copy.deepcopy(model.model).double()
    found = []
    with untied_head(double) as weight, torch.enable_grad():
        for sample in samples:
            loss = mean_loss(double, encode(sample, model.tokenizer, model.context))
            (gradient,) = torch.autograd.grad(loss, [weight])
            rows, columns = (size // 8 for size in gradient.shape)
            found.append(float(spectral_entropy(torch.linalg.svdvals(gradient[:rows, :columns]), 16)))
    return np.array(found)


Clock = Callable[[], float]


def timed(
    work: Callable[[], Any], rows: int, device: torch.device, clock: Clock = time.perf_counter
) -> tuple[float, Any]:
    """Milliseconds a row, and what the work gave."""
    start = clock()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (clock() - start) / rows, result


def entropies(scores: Sequence[Any]) -> np.ndarray:
    return np.array([score.entropy for score in scores])


def measure(
    samples: list[Sample], model: ScoringModel, auto: ScoringModel | None, rounds: int, exact_rows: int, clock: Clock
) -> dict[str, Any]:
    """The figures of one data file."""
    works: dict[str, tuple[Callable[[], Any], int]] = {
        "paper_ms": (lambda: published_entropies(samples, model), len(samples)),
        "exact_ms": (lambda: score_samples(samples, model, ENTROPY, ALONE), len(samples)),
        "floor_ms": (lambda: floor(samples, model), len(samples)),
        "prefix_ms": (lambda: score_samples(samples, model, ENTROPY, SHARED), len(samples)),
        "all_signals_ms": (lambda: score_samples(samples, model, None, SHARED), len(samples)),
    }
    if auto is not None:
        works["auto_ms"] = (lambda: score_samples(samples, auto, ENTROPY, SHARED), len(samples))
        works["auto_floor_ms"] = (lambda: floor(samples, auto), len(samples))
    floor(samples[:32], model)  # a warm-up
    times: dict[str, list[float]] = {name: [] for name in works}
    given: dict[str, Any] = {}
    for _ in range(rounds):
        for name, (work, count) in works.items():
            took, given[name] = timed(work, count, model.device, clock)
            times[name].append(took)
    result: dict[str, Any] = {name: statistics.median(values) for name, values in times.items()}
    exact, prefix = entropies(given["exact_ms"]), entropies(given["prefix_ms"])
    result["max_entropy_error"] = None
    if exact_rows:
        slow = slow_entropies(samples[:exact_rows], model)
        result["max_entropy_error"] = float(np.abs(np.stack([exact, prefix])[:, :exact_rows] - slow).max())
    result["max_prefix_difference"] = float(np.abs(exact - prefix).max())
    result["padding_waste"] = given["floor_ms"]
    if auto is not None:
        rounded = entropies(given["auto_ms"])
        difference = np.abs(rounded - exact)
        tau = find_threshold(exact).tau
        result["auto_flips"] = int(((rounded > tau) != (exact > tau)).sum())
        result["auto_mean_difference"], result["auto_max_difference"] = (
            float(difference.mean()),
            float(difference.max()),
        )
    return result


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: figures and ratios of medians."""
    lines = [
        "| data | (a) paper | (b) exact | (c) floor | (d) prefix | (e) all | (b)/(c) | (a)/(b) | (a)/(d) | (d)/(c) "
        "| (e)/(d) | padding | error | auto | (a)/auto | auto: mean, max difference | flips |",
        "|---" * 17 + "|",
    ]
    for name, r in results.items():
        ratios = [
            r["exact_ms"] / r["floor_ms"],
            r["paper_ms"] / r["exact_ms"],
            r["paper_ms"] / r["prefix_ms"],
            r["prefix_ms"] / r["floor_ms"],
            r["all_signals_ms"] / r["prefix_ms"],
        ]
        times = [r[key] for key in ("paper_ms", "exact_ms", "floor_ms", "prefix_ms", "all_signals_ms")]
        cells = [f"{value:.1f}" for value in times] + [f"{value:.2f}" for value in ratios]
        error = r["max_entropy_error"]
        cells += [f"{r['padding_waste']:.1%}", "-" if error is None else f"{error:.1e}"]
        if "auto_ms" in r:
            cells += [f"{r['auto_ms']:.1f}", f"{r['paper_ms'] / r['auto_ms']:.1f}"]
            cells += [f"{r['auto_mean_difference']:.4f}, {r['auto_max_difference']:.4f}", str(r["auto_flips"])]
        else:
            cells += ["-", "-", "-", "-"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Bars: milliseconds a sample, a group a data file."""
    from matplotlib.figure import Figure

    bars = {
        "paper_ms": "(a) the paper's algorithm",
        "exact_ms": "(b) exact",
        "floor_ms": "(c) bare transformer",
        "prefix_ms": "(d) shared prefixes",
        "auto_ms": "(d) in bfloat16",
    }
    figure = Figure(figsize=(8, 3.7), layout="constrained")
    axis = figure.subplots()
    for number, (key, label) in enumerate(bars.items()):
        values = [result.get(key, 0.0) for result in results.values()]
        drawn = axis.bar([at + 0.16 * (number - 2) for at in range(len(results))], values, 0.15, label=label)
        axis.bar_label(drawn, fmt="%.0f", fontsize=7)
    axis.set(ylabel="ms a sample", xticks=range(len(results)), xticklabels=list(results))
    figure.legend(fontsize=8, loc="outside upper center", ncols=len(bars), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, two rounds, two data sets: within a minute")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    parser.add_argument("--plot", type=Path, help="where to draw them, as PNG")
    parser.add_argument("--only", default="", help=f"data sets, comma separated: {', '.join(FILES)}, mixed, contexts")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--shape", type=Path, help="a configuration (JSON): its shape with random weights, no --model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", help="of (a) to (e)")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processor", action="store_true", help="of the processor: on a machine that others use too")
    parser.add_argument("--auto", action=argparse.BooleanOptionalAction, default=True)
    told = parser.parse_args()
    rows, rounds, exact_rows = (6, 2, 2) if told.quick else (told.rows, told.rounds, 8)
    auto, clock = None, time.process_time if told.processor else time.perf_counter
    if told.shape:
        model, exact_rows = random_model(told.shape, told.device, told.dtype), 0  # float64 would be four times its size
    else:
        model = load_model(told.model, device=told.device, dtype=told.dtype)
        auto = load_model(told.model, device=told.device, dtype="auto") if told.auto else None
    if auto is not None and auto.identity.dtype == told.dtype:
        auto = None  # nothing else to measure here
    sets = {name: told.data / file for name, file in FILES.items() if (told.data / file).exists()}
    if told.quick:
        sets = dict(list(sets.items())[:2])
    wanted = told.only.split(",") if told.only else [*FILES, "mixed", "contexts"]
    results = {
        name: measure(read(path, rows), model, auto, rounds, exact_rows, clock)
        for name, path in sets.items()
        if name in wanted
    }
    if "mixed" in wanted and len(sets) > 1:
        each = [read(path, rows // len(sets)) for path in sets.values()]
        results["mixed"] = measure([row for own in each for row in own], model, auto, rounds, exact_rows // 2, clock)
    if "contexts" in wanted and (not told.quick or not sets):
        results["contexts"] = measure(contexts(rows), model, auto, rounds, exact_rows // 2, clock)
    dtype = auto.identity.dtype if auto else told.dtype
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{model.identity.device}, {model.identity.name} in {told.dtype}, {rows} rows, {rounds} rounds, "
        f"automatic dtype {dtype}; ms a sample\n"
    )
    print(table(results))
    if told.write:
        what = f"{model.identity.name} in {told.dtype}, automatic: {dtype}; {rows} rows, {rounds} interleaved rounds."
        of = " Of the processor." if told.processor else ""
        section("speed", "Speed, by the command", [f"{what} {KEY}{of}", table(results)], told.quick)
    if told.json:
        told.json.parent.mkdir(parents=True, exist_ok=True)
        told.json.write_text(json.dumps(results, indent=2) + "\n")
    if told.plot:
        plot(results, told.plot)


if __name__ == "__main__":
    main()
