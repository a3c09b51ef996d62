"""Figure 6 (where a gradient's energy is), Table 7 (which module's gradient), and the choice of k and of the crop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench, Study
from gradsentry_lib.detection.entropy_threshold import find_threshold
from gradsentry_lib.evaluation.attacks import poison
from gradsentry_lib.evaluation.data import take, to_samples
from gradsentry_lib.evaluation.measures import auc_of, f1_of
from gradsentry_lib.evaluation.published import gradient_entropy, mean_loss, untied_head
from gradsentry_lib.evaluation.representations import passes
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.encoding import encode
from gradsentry_lib.scoring.spectrum import spectral_entropy

CROPS, KS = (1, 2, 4, 8), (4, 8, 16, 32, 64)
LONGEST = max(KS)


@torch.no_grad()
def spectra(bench: Bench, samples: Sequence[Sample], crop: int, what: str) -> np.ndarray:
    """(N, 64) largest singular values of the cropped gradients, descending, zero beyond the rank."""
    head = bench.model.head
    rows, columns = head.vocab // crop, head.width // crop
    values = np.zeros((len(samples), LONGEST))
    task = bench.progress.add_task(what, total=len(samples))
    for members, encoded, hidden in passes(samples, bench.model):
        for line, i in enumerate(members):
            at = np.concatenate([np.arange(start, end) for start, end in encoded[i].spans])
            states = hidden[line, torch.from_numpy(at - 1)]
            errors, _ = head.errors(states, torch.from_numpy(encoded[i].ids[at]))
            left, right = errors[:, :rows].double(), states[:, :columns].double()
            # The product of Q-factors of a small gradient: its values are those of R_left R_right^T.
            small = torch.linalg.qr(left.mT).R @ torch.linalg.qr(right.mT).R.mT
            found = torch.linalg.svdvals(small)[:LONGEST] / len(at)
            values[i, : len(found)] = found.numpy()
        bench.progress.advance(task, len(members))
    bench.progress.remove_task(task)
    return values


def _data(bench: Bench) -> list[tuple[str, list[Sample], np.ndarray]]:
    sets = []
    for name in bench.clean_sets[:2]:
        poisoned = poison(take(bench.clean(name), max(40, bench.rows // 3), 0), "badnets", 0.1, bench.seeds[0])
        sets.append((name, to_samples(poisoned.rows), poisoned.labels))
    return sets


def _figures(entropies: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    found = find_threshold(entropies)
    flags = entropies > found.tau
    return {
        "recall": float(flags[labels].mean()),
        "f1": f1_of(labels, flags),
        "auc": auc_of(labels, entropies),
        "tau": found.tau,
        "method": found.method,
    }


def sweeps(bench: Bench) -> list[dict[str, Any]]:
    lines = []
    for name, samples, labels in _data(bench):
        for crop in CROPS:
            values = torch.from_numpy(spectra(bench, samples, crop, f"{name}, crop 1/{crop}"))
            for k in KS:
                lines.append(
                    {"data": name, "crop": f"1/{crop}", "k": k, **_figures(spectral_entropy(values, k).numpy(), labels)}
                )
    return lines


def energy(bench: Bench) -> list[dict[str, Any]]:
    """Mean share of the sum of squared singular values in the largest k, of clean and of poisoned rows."""
    lines = []
    for name, samples, labels in _data(bench):
        squares = spectra(bench, samples, 8, f"{name} spectra") ** 2
        shares = squares.cumsum(1) / squares.sum(1, keepdims=True)
        for kind, own in (("clean", shares[~labels]), ("poisoned", shares[labels])):
            lines.append(
                {"data": name, "rows": kind, **{f"k{k}": float(own[:, k - 1].mean()) for k in (1, 2, 4, 8, 16)}}
            )
    return lines


def _plot_energy(lines: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    names = list(dict.fromkeys(line["data"] for line in lines))
    for axis, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        for line in lines:
            if line["data"] == name:
                axis.plot((1, 2, 4, 8, 16), [line[f"k{k}"] for k in (1, 2, 4, 8, 16)], marker="o", label=line["rows"])
        axis.set(title=name, xlabel="largest singular values", ylabel="share of energy", ylim=(0, 1.05))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)


# Other modules as Table 7 has them: names of a Llama-like decoder, with the layer to fill in.
MODULES = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj")
RANK = 4  # of LoRA adapters, as in the paper


def modules(bench: Bench) -> list[dict[str, Any]]:
    """Autograd through the whole model, one sample at a time; several modules' gradients from one backward pass."""
    name = "freebaseqa" if "freebaseqa" in bench.clean_sets else "facts"
    poisoned = poison(take(bench.clean(name), max(40, bench.rows // 4), 0), "badnets", 0.1, bench.seeds[0])
    samples, model = to_samples(poisoned.rows), bench.model.model
    layers = getattr(bench.model.body, "layers", None)
    if layers is None:
        return []
    weights = dict(model.named_parameters())
    prefix = next(key for key in weights if ".layers.0." in key).split("layers.0.")[0]
    depth = {"first": 0, "middle": len(layers) // 2, "last": len(layers) - 1}
    chosen = {
        f"{place} {module}": weights[f"{prefix}layers.{layer}.{module}.weight"]
        for place, layer in depth.items()
        for module in MODULES
        if f"{prefix}layers.{layer}.{module}.weight" in weights
    }
    # A fresh adapter W + (alpha / r) B A has B = 0: A's gradient is nil, B's is that of W times A^T, up to scale.
    drawn = torch.Generator().manual_seed(bench.seeds[0])
    adapters = {
        which: torch.randn(weight.shape[1], RANK, generator=drawn)
        for which, weight in chosen.items()
        if which.endswith(("q_proj", "v_proj"))
    }
    entropies: dict[str, list[float]] = {}
    task = bench.progress.add_task(f"{name} modules", total=len(samples))
    torch.manual_seed(bench.seeds[0])
    try:
        for weight in chosen.values():
            weight.requires_grad_(True)
        with untied_head(model) as head, torch.enable_grad():
            names = ["lm_head", *chosen]
            for sample in samples:
                loss = mean_loss(model, encode(sample, bench.model.tokenizer, bench.model.context))
                gradients = torch.autograd.grad(loss, [head, *chosen.values()])
                for which, gradient in zip(names, gradients, strict=True):
                    entropies.setdefault(which, []).append(gradient_entropy(gradient))
                    if which in adapters:
                        own = gradient_entropy(gradient @ adapters[which], crop=1)
                        entropies.setdefault(f"{which}, LoRA adapter", []).append(own)
                bench.progress.advance(task)
    finally:
        for weight in chosen.values():
            weight.requires_grad_(False)
        bench.progress.remove_task(task)
    return [
        {"data": name, "rows": len(samples), "module": which, **_figures(np.asarray(values), poisoned.labels)}
        for which, values in entropies.items()
    ]


FIGURES = ("recall", "f1", "auc", "tau", "method")

STUDIES = (
    Study(
        "sweeps",
        "How many singular values (k), how much of the gradient (crop)",
        sweeps,
        ("data", "crop", "k", *FIGURES),
        "The paper settles on k = 16 and a crop of 1/8.",
        "A gradient has no more singular values than the answer has tokens, so a larger k only lowers the entropy of "
        "all rows alike; the crop moves the threshold more than the ranking.",
    ),
    Study(
        "figure6",
        "Figure 6: share of the gradient's energy in its largest singular values",
        energy,
        ("data", "rows", "k1", "k2", "k4", "k8", "k16"),
        "Clean gradients are dominated by a few directions, poisoned ones are spread wider.",
        "So it is here from the second value on; the largest alone tells little. Most of the difference is that "
        "poisoned answers have more tokens, and thus more directions.",
        _plot_energy,
    ),
    Study(
        "table7",
        "Table 7: other modules' gradients",
        modules,
        ("data", "rows", "module", *FIGURES),
        "F1: lm_head 99.80, last-layer MLP 99.2 to 99.5, last o_proj 98.91, early and middle layers mostly 18 to 25, "
        "LoRA adapters at most 27.",
        "Each gradient is cropped to an eighth of its rows and columns, as lm_head's is; the paper does not say "
        "whether it crops the smaller matrices. An adapter's gradient has rank 4 and is not cropped: its entropy can't "
        "pass ln 4 / ln 16 = 0.5. Thirty layers of width 576 are not thirty-two of width 4,096.",
    ),
)
