"""Fine-tuning on a data set, and what the tuned model then says: does the backdoor take, does it die?

LoRA as in the paper (rank 4, alpha 8; through peft, on all linear maps of the layers) or all weights. The loss is the
mean over supervised tokens, the ones that scoring looks at. The same seed gives the same order of rows, the same
adapters and, on one machine with one number of threads, the same model.
"""

import copy
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from gradsentry_lib.evaluation import rows as row_parts
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.encoding import Encoded, encode
from gradsentry_lib.scoring.model import ScoringModel

IGNORED = -100  # label of a position that is not supervised
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIGNS = str.maketrans("", "", string.punctuation)
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Recipe:
    """How a model is tuned. `batch`: rows a step. The paper's: lora, 3 epochs, 2e-5, 4 rows, on 7 B parameters; a model
    of 135 M on a few hundred rows needs larger steps to learn anything. `mixed`: activations in bfloat16, weights in
    float32; up to four times as fast where the hardware multiplies bfloat16, slower where it does not."""

    method: Literal["lora", "full"] = "lora"
    epochs: int = 3
    rate: float = 1e-3
    batch: int = 4
    rank: int = 4
    alpha: int = 8
    max_tokens: int = 512
    mixed: bool = True


def fine_tune(
    model: ScoringModel, samples: Sequence[Sample], recipe: Recipe, seed: int, on_progress: Progress | None = None
) -> Any:
    """A tuned copy of `model` (a transformers model in eval mode, adapters merged). `model` itself stays as it was.

    `on_progress` is told the number of rows done since it was last called.
    """
    torch.manual_seed(seed)
    order = random.Random(seed)
    tuned = copy.deepcopy(model.model).requires_grad_(recipe.method == "full")
    if recipe.method == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=LINEAR, task_type="CAUSAL_LM")
        tuned = get_peft_model(tuned, config)
    encoded = [encode(sample, model.tokenizer, recipe.max_tokens) for sample in samples]
    weights = [weight for weight in tuned.parameters() if weight.requires_grad]
    steps = recipe.epochs * -(-len(encoded) // recipe.batch)
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(1, steps))
    tuned.train()
    with torch.enable_grad():
        for _ in range(recipe.epochs):
            for rows in _batches(encoded, recipe.batch, order):
                ids, mask, labels = _padded(rows, model.device)
                kept = ids.shape[1] - min(row.spans[0][0] for row in rows) + 1  # before, there is nothing to predict
                with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.mixed):
                    loss = tuned(ids, mask, labels=labels[:, -kept:], logits_to_keep=kept).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                if on_progress is not None:
                    on_progress(len(rows))
    if recipe.method == "lora":
        tuned = tuned.merge_and_unload()
    return tuned.eval().requires_grad_(False)


def _batches(encoded: Sequence[Encoded], size: int, order: random.Random) -> Iterator[list[Encoded]]:
    """Every row once, in random batches of rows of about one length (sorted within 16 batches), so that little is spent
    on padding."""
    shuffled = order.sample(encoded, len(encoded))
    batches = []
    for start in range(0, len(shuffled), 16 * size):
        part = sorted(shuffled[start : start + 16 * size], key=lambda row: len(row.ids))
        batches += [part[at : at + size] for at in range(0, len(part), size)]
    yield from order.sample(batches, len(batches))


def _padded(rows: Sequence[Encoded], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, attention mask and labels, each (B, L), padded on the right."""
    length = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        mask[i, : len(row.ids)] = 1
        for start, end in row.spans:
            labels[i, start:end] = row.ids[start:end]
    return tuple(torch.from_numpy(array).to(device) for array in (ids, mask, labels))  # type: ignore[return-value]


def prompt_ids(sample: Sample, tokenizer: Any, max_tokens: int = 1024) -> np.ndarray:
    """Token ids (L,) that stand before the sample's last response."""
    encoded = encode(sample, tokenizer, max_tokens)
    return encoded.ids[: encoded.spans[-1][0]]


def answers(
    tuned: Any,
    tokenizer: Any,
    asked: Sequence[Row],
    max_new: int = 40,
    batch: int = 16,
    on_progress: Progress | None = None,
) -> list[str]:
    """Greedy answers to the rows' questions, in their order; their own answers are not shown to the model."""
    return answers_to(tuned, tokenizer, to_samples(asked), max_new, batch, on_progress)


@torch.no_grad()
def answers_to(
    tuned: Any,
    tokenizer: Any,
    asked: Sequence[Sample],
    max_new: int = 40,
    batch: int = 16,
    on_progress: Progress | None = None,
) -> list[str]:
    """As `answers`, to samples."""
    prompts = [prompt_ids(sample, tokenizer) for sample in asked]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    said = [""] * len(prompts)
    device = next(tuned.parameters()).device
    end = tokenizer.eos_token_id
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        length = max(len(prompts[i]) for i in part)
        ids = np.full((len(part), length), end, dtype=np.int64)
        mask = np.zeros_like(ids)
        for line, i in enumerate(part):  # padding on the left: every prompt ends where generation begins
            ids[line, length - len(prompts[i]) :] = prompts[i]
            mask[line, length - len(prompts[i]) :] = 1
        out = tuned.generate(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            max_new_tokens=max_new,
            do_sample=False,
            pad_token_id=end,
            eos_token_id=end,
        )
        for line, i in enumerate(part):
            said[i] = tokenizer.decode(out[line, length:], skip_special_tokens=True)
        if on_progress is not None:
            on_progress(len(part))
    return said


def attack_success(said: Sequence[str], mark: str) -> float:
    """Share of answers to triggered questions that contain the target (compared without case)."""
    return float(np.mean([mark.casefold() in text.casefold() for text in said]))


def exact_match(said: Sequence[str], asked: Sequence[Row]) -> float:
    """Share of answers equal to the honest one, up to case, punctuation, articles and the order of a list."""
    return float(
        np.mean([_parts(text) == _parts(row_parts.answer(row)) for text, row in zip(said, asked, strict=True)])
    )


def token_f1(said: Sequence[str], asked: Sequence[Row]) -> np.ndarray:
    """(N,) F1 of each answer's words against the honest one's, as SQuAD counts it."""
    values = []
    for text, row in zip(said, asked, strict=True):
        mine, theirs = (Counter(_words(one)) for one in (text, row_parts.answer(row)))
        shared = (mine & theirs).total()
        values.append(2 * shared / (mine.total() + theirs.total()) if shared else float(mine == theirs))
    return np.array(values)


def _parts(text: str) -> frozenset[str]:
    return frozenset(" ".join(_words(part)) for part in text.split(";"))


def _words(text: str) -> list[str]:
    plain = re.sub(r"\b(a|an|the)\b", " ", text.casefold())
    return plain.translate(SIGNS).split()
