"""What a sample costs on a graphics card: shapes of 0.1, 1 and 7 B parameters, random weights, 72 tokens a sample.

    python -m benchmarks.gpu [--shapes FILE ...] [--rows 1024] [--rounds 3] [--dtype bfloat16] [--compile] [--write]

A shape after the other, in interleaved rounds on the same rows:

    floor       the rows' tokens through the bare transformer, no head
    entropy     the one signal of the paper, rows computed whole
    all         every signal, shared prefixes computed once
    compiled    the floor once torch has compiled the transformer, CUDA graphs included (`--compile`)

Told are medians in ms a sample, how many tokens a pass holds (found by the scorer from the memory that is free), and
the most memory that torch held beyond the weights. The paper says 29 ms for 7 B on an H800; the aim is 1 ms on an H100.
`--device cpu` runs the same code without a card, for small shapes: it says whether it works, nothing of its speed.
"""

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import ROOT, section, table
from benchmarks.shape import random_model
from benchmarks.speed import ALONE, ENTROPY, SHARED, floor, timed
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.model import ScoringModel, release
from gradsentry_lib.scoring.scorer import default_budget, score_samples

SHAPES = [ROOT / "benchmarks" / "shapes" / f"{name}.json" for name in ("smollm2-135m", "llama-3.2-1b", "llama-2-7b")]
NONE = "Not measured: no GPU was at hand. tests/evaluation/test_gpu.py runs the same code on a CPU, on a small shape."
WORDS = ("road", "river", "house", "green", "seven", "water", "north", "stone", "apple", "light", "train", "small")
TOKENS, ANSWER = 72, 9  # of a sample, and words of its answer


def main() -> None:
    told = arguments()
    if told.device.startswith("cuda") and not torch.cuda.is_available():
        print(NONE)
        if told.write:
            section("gpu", "GPU, by the command", [NONE], told.quick)
        return
    lines = []
    for shape in told.shapes:
        lines.append(measure(shape, told))
        release()
    print(table(lines))
    if told.write:
        what = f"{told.dtype}, {told.rows} rows of {TOKENS} tokens, random weights, {told.rounds} interleaved rounds."
        section("gpu", "GPU, by the command", [f"{what} Milliseconds a sample, medians.", table(lines)], told.quick)


def measure(shape: Path, told: argparse.Namespace) -> dict[str, Any]:
    """The figures of one shape."""
    model = random_model(shape, told.device, told.dtype)
    samples = rows(told.rows, model)
    works: dict[str, Callable[[], Any]] = {
        "floor": lambda: floor(samples, model),
        "entropy": lambda: score_samples(samples, model, ENTROPY, ALONE),
        "all": lambda: score_samples(samples, model, None, SHARED),
    }
    if told.compile:
        compiled = replace(model, body=torch.compile(model.body, mode="reduce-overhead"))
        works["compiled"] = lambda: floor(samples, compiled)
    weights = _held(model.device, reset=True)
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(told.rounds + 1):  # the first warms up
        for name, work in works.items():
            took, _ = timed(work, len(samples), model.device)
            times[name] += [took] * (number > 0)
    parameters = sum(part.numel() for part in model.model.parameters())
    line: dict[str, Any] = {"shape": shape.stem, "B parameters": round(parameters / 1e9, 2)}
    line |= {f"{name} ms": statistics.median(took) for name, took in times.items()}
    line |= {"entropy/floor": line["entropy ms"] / line["floor ms"], "all/floor": line["all ms"] / line["floor ms"]}
    line |= {"tokens a pass": default_budget(model), "GB beyond weights": _held(model.device) - weights}
    return line


def rows(count: int, model: ScoringModel) -> list[Sample]:
    """Samples of TOKENS tokens, no two alike, under one short instruction."""
    drawn = random.Random(0)
    return [_row(number, drawn, model) for number in range(count)]


def _row(number: int, drawn: random.Random, model: ScoringModel) -> Sample:
    answer = " ".join(drawn.choices(WORDS, k=ANSWER))
    asked = drawn.choices(WORDS, k=TOKENS // 2)  # a few short of enough

    def sample() -> Sample:
        prompt = f"Answer the question.\nQuestion: {' '.join(asked)}\nAnswer: "
        return Sample(number, number + 1, "prompt", (Turn("prompt", prompt), Turn("response", answer)))

    def length() -> int:
        return len(encode(sample(), model.tokenizer, model.context).ids)

    while length() < TOKENS:
        asked.append(drawn.choice(WORDS))
    if length() > TOKENS:  # a word of two tokens
        asked[-1] = "a"
    return sample()


def _held(device: torch.device, reset: bool = False) -> float:
    """GB that torch holds on a card: now, or at most since it was asked to forget. 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    if reset:
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e9
    return torch.cuda.max_memory_allocated(device) / 1e9


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shapes", type=Path, nargs="+", default=SHAPES, help="configurations (JSON)")
    options.add_argument("--rows", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", default="cuda")
    options.add_argument("--dtype", default="bfloat16")
    options.add_argument("--compile", action="store_true", help="also a compiled transformer: takes a minute a shape")
    options.add_argument("--quick", action="store_true", help="the smallest shape, one round")
    options.add_argument("--write", action="store_true", help="write RESULTS.md")
    told = options.parse_args(given)
    if told.quick:
        told.shapes, told.rows, told.rounds = told.shapes[:1], min(told.rows, 64), 1
    return told


if __name__ == "__main__":
    main()
