"""The scoring model: loaded, checked, freed."""

import gc
from dataclasses import dataclass
from typing import Any

import torch

from gradsentry_lib.scoring.forward import past_limit, use_packed_attention
from gradsentry_lib.scoring.head import OutputProjection, body_name, find_output_projection
from gradsentry_lib.scoring.identity import ModelIdentity, identify
from gradsentry_lib.scoring.loading import load_causal_lm, load_tokenizer
from gradsentry_lib.scoring.sketch import Projection, make_projection

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "context_length")  # by what a model names it


@dataclass(frozen=True)
class ScoringModel:
    """A loaded model. `body`: the transformer without its head; `past_limit`: forward.py; `projection`: sketch.py."""

    identity: ModelIdentity
    model: Any
    body: Any
    tokenizer: Any
    head: OutputProjection
    past_limit: int
    projection: Projection

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def context(self) -> int:
        """See `context`."""
        return context(self.model)

    @property
    def vocab(self) -> int:
        """Token ids below this have both an embedding and a row of the head: a tokenizer may know more."""
        return vocab(self.model, self.head)


def context(model: Any) -> int:
    """Longest sequence that a model's positions allow; 8,192 where its configuration names none or more."""
    config = model.config.get_text_config()
    named = next((size for name in LENGTHS if (size := getattr(config, name, None))), 8192)
    return min(int(named), 8192)


def vocab(model: Any, head: OutputProjection) -> int:
    return min(head.vocab, model.get_input_embeddings().weight.shape[0])


def load_model(
    name: str | ModelIdentity, revision: str | None = None, device: str = "auto", dtype: str = "auto"
) -> ScoringModel:
    """Loads a model for scoring. Raises BadInput with one clear line where it cannot be had or used."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what matters is said by this project, in one line
    identity = name if isinstance(name, ModelIdentity) else identify(name, revision, device, dtype)
    return wrap(load_causal_lm(identity), load_tokenizer(identity), identity)


@torch.no_grad()
def wrap(model: Any, tokenizer: Any, identity: ModelIdentity) -> ScoringModel:
    """A ScoringModel from a model that is in memory already."""
    head = find_output_projection(model)
    body = text_body(model)
    use_packed_attention(body)
    projection = make_projection(body, tokenizer, head, context(model), vocab(model, head))
    return ScoringModel(identity, model, body, tokenizer, head, past_limit(body), projection)


def text_body(model: Any) -> Any:
    """The transformer without its head; of a multimodal model the part that reads text, if that alone gives the same
    states for text."""
    body = getattr(model, body_name(model))
    part = getattr(body, "language_model", None)
    if not isinstance(part, torch.nn.Module):
        return body
    ids = torch.arange(8, device=next(body.parameters()).device)[None]
    whole, alone = (each(input_ids=ids, use_cache=False).last_hidden_state for each in (body, part))
    return part if torch.equal(whole, alone) else body


def release() -> None:
    """Gives a dropped model's memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
