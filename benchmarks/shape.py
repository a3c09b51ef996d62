"""A model of a given shape with random weights, for times alone: they do not depend on the values.

It reads text through the embedded model's tokenizer, its ids folded into the shape's own vocabulary: lengths and shared
prefixes of the rows stay what they are.
"""

import json
from pathlib import Path
from typing import Any

import torch

from gradsentry_lib.scoring.embedded import embedded_model
from gradsentry_lib.scoring.identity import ModelIdentity, identify
from gradsentry_lib.scoring.model import ScoringModel, wrap


class FoldedTokenizer:
    """A tokenizer whose ids are taken modulo another vocabulary's size."""

    chat_template = None

    def __init__(self, tokenizer: Any, vocab: int) -> None:
        self._tokenizer, self._vocab = tokenizer, vocab
        self.bos_token_id = self.eos_token_id = tokenizer.eos_token_id % vocab

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, **given: Any) -> list[int]:
        return [token % self._vocab for token in self._tokenizer.encode(text, **given)]


def random_model(shape: Path, device: str, dtype: str) -> ScoringModel:
    """The model of a transformers configuration (JSON, with its `model_type`), weights drawn on the device itself."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    told = json.loads(shape.read_text())
    config = AutoConfig.for_model(told.pop("model_type"), **told)
    embedded = identify("embedded", device=device, dtype=dtype)
    torch.manual_seed(0)
    with torch.device(embedded.device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, embedded.dtype))
    tokenizer = AutoTokenizer.from_pretrained(embedded_model(), local_files_only=True)
    identity = ModelIdentity(shape.stem, shape, "random", embedded.tokenizer, embedded.device, embedded.dtype)
    return wrap(
        model.eval().requires_grad_(False), FoldedTokenizer(tokenizer, config.get_text_config().vocab_size), identity
    )
