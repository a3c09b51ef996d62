"""The scoring model: loaded, checked, freed."""

import gc
from dataclasses import dataclass
from typing import Any

import torch

from gradsentry_lib.errors import BadInput
from gradsentry_lib.scoring.forward import lay_strips, past_limit
from gradsentry_lib.scoring.head import OutputProjection, find_output_projection
from gradsentry_lib.scoring.identity import ModelIdentity, first_line, identify
from gradsentry_lib.scoring.sketch import Projection, make_projection


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
        """Longest sequence the model's positions allow; 8,192 where the configuration names none or more."""
        config = self.model.config.get_text_config()
        named = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return min(int(named or 8192), 8192)


def load_model(
    name: str | ModelIdentity, revision: str | None = None, device: str = "auto", dtype: str = "auto"
) -> ScoringModel:
    """Loads a model for scoring. Raises BadInput with one clear line where it cannot be had or used."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    identity = name if isinstance(name, ModelIdentity) else identify(name, revision, device, dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(identity.folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            identity.folder, dtype=getattr(torch, identity.dtype), use_safetensors=True, local_files_only=True
        )
        model = model.eval().requires_grad_(False).to(identity.device)
    except (OSError, ValueError, KeyError, torch.OutOfMemoryError) as error:
        raise BadInput(f"model {identity.name}: {first_line(error)}") from error
    return wrap(model, tokenizer, identity)


def wrap(model: Any, tokenizer: Any, identity: ModelIdentity) -> ScoringModel:
    """A ScoringModel from a model that is in memory already."""
    head = find_output_projection(model)
    body = getattr(model, model.base_model_prefix)
    lay_strips(body)
    return ScoringModel(
        identity, model, body, tokenizer, head, past_limit(body), make_projection(body, tokenizer, head)
    )


def release() -> None:
    """Gives a dropped model's memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
