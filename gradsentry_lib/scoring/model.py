"""The scoring model: loaded, checked, freed."""

import gc
import logging
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradsentry_lib.errors import BadInput
from gradsentry_lib.scoring import tested
from gradsentry_lib.scoring.forward import is_packed, past_limit, same_states, use_packed_attention
from gradsentry_lib.scoring.head import OutputProjection, body_name, find_output_projection
from gradsentry_lib.scoring.identity import ModelIdentity, identify
from gradsentry_lib.scoring.plain_model import plain_config, plain_model
from gradsentry_lib.scoring.plain_tokenizer import plain_tokenizer, same_tokenizer
from gradsentry_lib.scoring.sketch import Projection, known_projection, make_projection
from gradsentry_lib.scoring.tested import Tested

log = logging.getLogger(__name__)

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
    def whole(self) -> bool:
        """Whether it is made of transformers' own modules."""
        return self.head.shell is not None

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
    name: str | ModelIdentity,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    whole: bool | None = None,
) -> ScoringModel:
    """Loads a model for scoring. Raises BadInput with one clear line where it cannot be had or used.

    `whole`: as transformers' own modules, which writing text and another layer's gradient need. If left out that is so
    for a model given by name; one given by its identity is to be scored with, and is the written-out one where that was
    found to be the same (tested.py).
    """
    identity = name if isinstance(name, ModelIdentity) else identify(name, revision, device, dtype)
    whole = not isinstance(name, ModelIdentity) if whole is None else whole
    known = tested.recall(identity)
    if known is not None and known.written_out and not whole:
        return written_out(identity, known)
    from transformers.utils import logging

    from gradsentry_lib.scoring.loading import load_causal_lm, load_tokenizer

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what matters is said by this project, in one line
    made = wrap(load_causal_lm(identity), load_tokenizer(identity), identity, known)
    if known is None:
        tested.keep(identity, _tested(made))
    return made


@torch.no_grad()
def wrap(model: Any, tokenizer: Any, identity: ModelIdentity, known: Tested | None = None) -> ScoringModel:
    """A ScoringModel from a model that is in memory already; its short cuts are tested, but for what is `known`."""
    head = find_output_projection(model)
    body = text_body(model)
    use_packed_attention(body, known.packed if known else None)
    if known is None:
        projection = make_projection(body, tokenizer, head, context(model), vocab(model, head))
    else:
        projection = known_projection(head, known.usual, known.price)
    limit = known.past_limit if known else past_limit(body)
    return ScoringModel(identity, model, body, tokenizer, head, limit, projection)


def written_out(identity: ModelIdentity, known: Tested) -> ScoringModel:
    """The model without transformers. Raises BadInput where it is of another kind."""
    model, tokenizer = plain_model(identity), plain_tokenizer(identity.folder)
    head = OutputProjection(model.head, None, plain=True, shell=None, projection=None)
    projection = known_projection(head, known.usual, known.price)
    return ScoringModel(identity, model, model.body, tokenizer, head, known.past_limit, projection)


def _tested(made: ScoringModel) -> Tested:
    """What `wrap` found of a model's short cuts, and whether the written-out model is the same to the bit."""
    usual, price = made.projection.usual.cpu().numpy(), made.projection.price
    packed = is_packed(made.body)
    known = Tested(packed, made.past_limit, False, usual, price)
    usable = packed and made.past_limit > 0 and made.head.plain and made.head.bias is None
    if not usable or plain_config(made.identity) is None:
        return known
    try:
        plain = written_out(made.identity, known)
        context_and_vocab = (plain.context, plain.vocab) == (made.context, made.vocab)
        same = (
            context_and_vocab
            and same_tokenizer(plain.tokenizer, made.tokenizer)
            and torch.equal(plain.head.weight, made.head.weight)
            and same_states(plain.body, made.body, made.vocab)
        )
        if same:
            told = make_projection(plain.body, plain.tokenizer, plain.head, plain.context, plain.vocab)
            same = torch.equal(told.usual, made.projection.usual) and told.price == price
    except (BadInput, RuntimeError, ValueError, OSError) as error:
        log.info("%s is not scored as written out: %s", made.identity.name, error)
        return known
    return replace(known, written_out=same)


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


def release(collect: bool = True) -> None:
    """Gives a dropped model's memory back. `collect`: its modules hold one another (`whole`); the collector looks at
    all that the process has, which takes longer than many a scan."""
    if collect:
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
