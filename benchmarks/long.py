"""Long answers, and the output projection's share: how time and memory grow with the tokens, beside the bare model.

    python -m benchmarks.long [--tokens 1000 2000 4000 8000] [--rounds 2] [--dtype auto] [--quick] [--write]

Each length is a process of its own, so that its peak of memory is its own. In it, in turn, on one answer of so many
tokens after a short prompt:

    body    the transformer without its head
    bare    the model's forward pass: the body, then logits of every token, a chunk at a time
    ours    every signal: entropy, costs, sketches

Told is processor time, which a busy machine changes least. Exponents are between a length and the one before it: 1 is
growth with the tokens; attention alone grows with their square. The second table is the projection's part of `ours` on
2,000 tokens, by how many bytes of logits are held at a time: the product alone, and all that the signals take. The
third is attention alone, of one layer: torch's own, and as plain products of 64 tokens with all before them.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from benchmarks.results import ROOT, section, table, timed
from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring import gradient
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.forward import run_body
from gradsentry_lib.scoring.identity import identify
from gradsentry_lib.scoring.model import ScoringModel, load_model
from gradsentry_lib.scoring.scorer import score_samples

CHUNKS = (4, 8, 16, 32, 64, 128)  # MB of logits in float32
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
HEAD_TOKENS = 2_000


def main() -> None:
    options = arguments()
    if options.measure:
        print(json.dumps(measure(options.measure, options.rounds, options.dtype)))
        return
    lines: list[dict[str, Any]] = []
    for tokens in options.tokens:
        line = of_length(tokens, options)
        before = lines[-1] if lines else None
        for what in ("ours s", "ours MB"):
            line[f"{what}, exponent"] = None if before is None else exponent(before, line, what)
        lines.append(line)
    heads = head_shares(options.dtype, options.rounds)
    seen = attention_shares(options.tokens, options.rounds, options.dtype)
    print(table(lines), table(heads), table(seen), sep="\n\n")
    if options.write:
        intro = f"Embedded model, dtype {options.dtype}, processor seconds, medians of {options.rounds} rounds. "
        parts = [intro + "MB: above what the loaded model takes.", table(lines)]
        parts += [f"The output projection's part, {HEAD_TOKENS:,} tokens, ms:", table(heads)]
        parts += ["Attention of one layer, ms:", table(seen)]
        section("long", "Long answers", parts, options.quick)


def of_length(tokens: int, options: argparse.Namespace) -> dict[str, Any]:
    told = ["--measure", str(tokens), "--rounds", str(options.rounds), "--dtype", options.dtype]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.long", *told], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(tokens: int, rounds: int, dtype: str) -> dict[str, Any]:
    model = load_model(identify("embedded", device="cpu", dtype=dtype))
    sample = answer(tokens, model)
    row = encode(sample, model.tokenizer, model.context)
    loaded = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    works: dict[str, Callable[[], Any]] = {
        "ours": lambda: score_samples([sample], model, ScoringConfig()),
        "body": lambda: run_body(model.body, [row.ids]),
        "bare": lambda: bare(model, row.ids),
    }
    most = 0
    times: dict[str, list[float]] = {name: [] for name in works}
    with torch.no_grad():
        for _ in range(rounds):
            for name, work in works.items():
                times[name].append(timed(work))
                most = most or memory("VmHWM") - loaded  # after the first of ours
    body, whole, ours = (statistics.median(times[name]) for name in ("body", "bare", "ours"))
    return {
        "tokens": row.supervised, "body s": body, "bare s": whole, "ours s": ours, "ours/body": ours / body,
        "ours/bare": ours / whole, "ours MB": most,
    }  # fmt: skip


def answer(tokens: int, model: ScoringModel) -> Sample:
    """A sample whose answer has some so many tokens, no two lines alike."""
    lines, count = [], 0
    while count < tokens:
        line = f"{len(lines)}. " + " ".join(WORDS[(len(lines) * 7 + i * i) % len(WORDS)] for i in range(12)) + ".\n"
        lines.append(line)
        count += len(model.tokenizer.encode(line, add_special_tokens=False))
    return Sample(0, 1, "prompt", (Turn("prompt", "Count as you like."), Turn("response", "".join(lines))))


def bare(model: ScoringModel, ids: Any) -> None:
    states, _ = run_body(model.body, [ids])
    for part in states.split(170):
        linear(part.to(model.head.weight.dtype), model.head.weight, model.head.bias)


def head_shares(dtype: str, rounds: int) -> list[dict[str, Any]]:
    model = load_model(identify("embedded", device="cpu", dtype=dtype))
    row = encode(answer(HEAD_TOKENS, model), model.tokenizer, model.context)
    lines = []
    with torch.no_grad():
        states = run_body(model.body, [row.ids])[0][:HEAD_TOKENS]
        targets = torch.from_numpy(row.ids[1 : HEAD_TOKENS + 1].copy())
        lengths = [100] * (HEAD_TOKENS // 100)
        usual = gradient.LOGIT_BYTES["cpu"]
        for size in CHUNKS:
            step = (size << 20) // (4 * model.head.vocab)
            gradient.LOGIT_BYTES["cpu"] = size << 20
            works: dict[str, Callable[[], Any]] = {
                "product": lambda step=step: [model.head._logits(part) for part in states.split(step)],
                "all": lambda: gradient.span_signals(
                    states, targets, lengths, model.head, model.projection, k=16, crop=8
                ),
            }
            took = {name: min(timed(work) for _ in range(rounds + 1)) * 1000 for name, work in works.items()}
            lines.append({"MB of logits": size, "tokens": step, **took, "all/product": took["all"] / took["product"]})
        gradient.LOGIT_BYTES["cpu"] = usual
    return lines


def attention_shares(lengths: Sequence[int], rounds: int, dtype: str) -> list[dict[str, Any]]:
    told = identify("embedded", device="cpu", dtype=dtype)
    heads, groups, width = 9, 3, 64  # the embedded model's
    lines = []
    for length in lengths:
        query, key, value = (
            torch.randn(1, count, length, width).to(getattr(torch, told.dtype)) for count in (heads, groups, groups)
        )
        works: dict[str, Callable[[], Any]] = {
            "torch's": lambda given=(query, key, value): scaled_dot_product_attention(
                *given, is_causal=True, enable_gqa=True
            ),
            "products": lambda given=(query, key, value): by_products(*given),
        }
        took = {name: min(timed(work) for _ in range(rounds + 1)) * 1000 for name, work in works.items()}
        lines.append({"tokens": length, **took, "products/torch's": took["products"] / took["torch's"]})
    return lines


def by_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: int = 64) -> torch.Tensor:
    """Causal attention of (1, heads, T, width) with keys and values (1, groups, T, width), `step` queries at a time."""
    groups, length, width = key.shape[1:]
    grouped = (query[0] * width**-0.5).unflatten(0, (groups, -1))  # (groups, heads a group, T, width)
    parts = []
    for start in range(0, length, step):
        own = grouped[:, :, start : start + step]
        stop = start + own.shape[2]
        like = (own.flatten(1, 2) @ key[0, :, :stop].mT).float().unflatten(1, own.shape[1:3])
        later = torch.ones(own.shape[2], own.shape[2], dtype=torch.bool).triu(1)
        like[..., start:].masked_fill_(later, -math.inf)
        seen = like.softmax(-1).to(value.dtype).flatten(1, 2) @ value[0, :, :stop]
        parts.append(seen.unflatten(1, own.shape[1:3]))
    return torch.cat(parts, 2).flatten(0, 1)[None]


def memory(what: str) -> int:
    """MB of this process, as Linux tells them."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) >> 10


def exponent(before: dict[str, Any], after: dict[str, Any], what: str) -> float | None:
    if not before[what] or not after[what]:
        return None
    return math.log(after[what] / before[what]) / math.log(after["tokens"] / before["tokens"])


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, nargs="+", default=[1000, 2000, 4000, 8000])
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--dtype", default="auto")
    options.add_argument("--quick", action="store_true", help="two lengths, one round")
    options.add_argument("--write", action="store_true", help="write RESULTS.md")
    options.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    told = options.parse_args()
    if told.quick:
        told.tokens, told.rounds = [500, 1000], 1
    return told


if __name__ == "__main__":
    main()
