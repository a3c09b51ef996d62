"""Eight-bit products on a CPU beside those in bfloat16 and float32: how fast, and how far entropies move.

    python -m benchmarks.int8 [--rows 48] [--data ../shared/data] [--quick] [--write]

First the products alone, of the embedded model's shapes: torch's own of int8 by int8 (`torch._int_mm`), and its dynamic
linear layer, which quantises its input too. Then whole scores, the written-out model's body multiplied in int8: weights
an output channel a scale, states a token a scale (`by token`), or as torch's dynamic layer does (`dynamic`). Processor
time; entropies and costs against float32. Nothing of it is in the scorer: docs/decisions/0013-no-int8.md.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.results import section, table, timed
from benchmarks.speed import FILES, contexts, read
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring import plain_model
from gradsentry_lib.scoring.identity import identify
from gradsentry_lib.scoring.model import ScoringModel, load_model
from gradsentry_lib.scoring.scorer import score_samples

SHAPES = {
    "attention": (1024, 576, 576), "up": (1024, 576, 1536), "down": (1024, 1536, 576), "head": (170, 576, 49152)
}  # fmt: skip
LARGEST = 127


def main() -> None:
    options = arguments()
    warnings.simplefilter("ignore")  # torch announces where its quantised layers will live one day
    products = [product(name, *shape) for name, shape in SHAPES.items()]
    print(table(products))
    models = {dtype: written_out(dtype) for dtype in ("float32", "bfloat16")}
    sets = {name: options.data / file for name, file in FILES.items() if (options.data / file).exists()}
    rows = {name: read(path, options.rows) for name, path in sets.items()} or {"contexts": contexts(options.rows)}
    scores = [line for name, samples in list(rows.items())[: options.sets] for line in compared(name, samples, models)]
    print(table(scores))
    if options.write:
        intro = "Embedded model, one thread, processor time. Products, G multiplications and additions a second:"
        then = f"Scores of {options.rows} rows a set, entropies and costs (nats a token) against float32:"
        section("int8", "Eight bits", [intro, table(products), then, table(scores)], options.quick)


def written_out(dtype: str) -> ScoringModel:
    """The model whose products are to be replaced: that of the second loading, if the first one has to test it."""
    identity = identify("embedded", device="cpu", dtype=dtype)
    load_model(identity)
    made = load_model(identity)
    if not isinstance(made.model, plain_model.PlainModel):
        raise SystemExit("the embedded model is not scored as written out here: see `gradsentry doctor`")
    return made


def product(name: str, rows: int, inner: int, columns: int) -> dict[str, Any]:
    states, weight = torch.randn(rows, inner), torch.randn(columns, inner)
    half = states.bfloat16(), weight.bfloat16()
    few, scale = by_channel(weight)
    small = by_channel(states)[0]
    packed = prepacked(weight)
    works = {
        "float32": lambda: linear(states, weight),
        "bfloat16": lambda: linear(*half),
        "int8, product alone": lambda: torch._int_mm(small, few.t()),
        "int8 by token": lambda: by_token(half[0], few, scale),
        "int8 dynamic": lambda: torch.ops.quantized.linear_dynamic(states, packed, False),
    }
    operations = 2 * rows * inner * columns / 1e9
    return {"": name} | {what: operations / min(timed(work) for _ in range(5)) for what, work in works.items()}


def compared(name: str, samples: list[Sample], models: dict[str, ScoringModel]) -> list[dict[str, Any]]:
    ways = {
        "float32": ("float32", plain_model._map),
        "bfloat16": ("bfloat16", plain_model._map),
        "int8 by token": ("bfloat16", Mapped(by_channel, lambda states, known: by_token(states, *known))),
        "int8 dynamic": ("bfloat16", Mapped(prepacked, dynamic)),
    }
    lines: list[dict[str, Any]] = []
    exact: tuple[np.ndarray, np.ndarray] | None = None
    usual = plain_model._map
    for way, (dtype, multiply) in ways.items():
        plain_model._map = multiply  # type: ignore[assignment]
        try:
            score_samples(samples[:4], models[dtype])  # quantises
            start = time.process_time()
            scores = score_samples(samples, models[dtype])
            took = time.process_time() - start
        finally:
            plain_model._map = usual
        found = np.array([score.entropy for score in scores]), np.array([score.nll for score in scores])
        exact = exact or found
        entropy, cost = (np.abs(one - other) for one, other in zip(found, exact, strict=True))
        lines.append({
            "set": name, "body": way, "ms a row": 1000 * took / len(samples),
            "entropy, mean": f"{entropy.mean():.4f}", "largest": f"{entropy.max():.4f}",
            "cost, mean": f"{cost.mean():.3f}", "largest cost": f"{cost.max():.3f}",
        })  # fmt: skip
    return lines


class Mapped:
    """Stands for a layer's linear map, with weights made ready once each."""

    def __init__(self, ready: Callable[[Tensor], Any], multiply: Callable[[Tensor, Any], Tensor]) -> None:
        self.ready, self.multiply, self.known = ready, multiply, {}  # type: ignore[var-annotated]

    def __call__(self, states: Tensor, layer: dict[str, Tensor], name: str) -> Tensor:
        weight, bias = layer[f"{name}.weight"], layer.get(f"{name}.bias")
        if weight.data_ptr() not in self.known:
            self.known[weight.data_ptr()] = self.ready(weight)
        made = self.multiply(states.flatten(0, -2), self.known[weight.data_ptr()]).unflatten(0, states.shape[:-1])
        return made if bias is None else made + bias


def by_channel(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 of (n, m), and what each row is to be multiplied with (n,)."""
    scale = weight.float().abs().amax(1).clamp_min(1e-9) / LARGEST
    return torch.round(weight.float() / scale[:, None]).to(torch.int8), scale


def by_token(states: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    few, own = by_channel(states)
    return torch._int_mm(few, weight.t()).float().mul_(own[:, None]).mul_(scale).to(states.dtype)


def prepacked(weight: Tensor) -> Any:
    scale = by_channel(weight)[1].double()
    zero = torch.zeros(len(weight), dtype=torch.long)
    return torch.ops.quantized.linear_prepack(
        torch.quantize_per_channel(weight.float(), scale, zero, 0, torch.qint8), None
    )


def dynamic(states: Tensor, packed: Any) -> Tensor:
    return torch.ops.quantized.linear_dynamic(states.float(), packed, False).to(states.dtype)


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=48)
    options.add_argument("--sets", type=int, default=4, help="how many of the data sets")
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--quick", action="store_true", help="eight rows of one set")
    options.add_argument("--write", action="store_true", help="write RESULTS.md")
    told = options.parse_args()
    if told.quick:
        told.rows, told.sets = 8, 1
    return told


if __name__ == "__main__":
    main()
