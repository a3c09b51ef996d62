"""Llama and its kin (Mistral, Qwen 2 and 3) written out: the states that transformers gives, bit for bit, without it.

A decoder layer is x + W_o attention(norm(x)), then x + W_down(silu(W_gate y) * W_up y) of y = norm(x); positions turn
queries and keys (RoPE). That is all there is in these models, and all that this file does; transformers' own takes five
seconds to import for it. It is a short cut: which models take it is decided by trying (tested.py), and a model with
anything else in its configuration or among its weights never does.

Rows come laid end to end (packed_attention.py), the only way in. Weights are mapped from the file, not read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import linear, silu

from gradsentry_lib.errors import UnusableModel
from gradsentry_lib.scoring.checkpoint import read_if_object
from gradsentry_lib.scoring.identity import SPREAD, ModelIdentity
from gradsentry_lib.scoring.packed_attention import NAME, PackedRows, rows_apart

KINDS = ("llama", "mistral", "qwen2", "qwen3")
PLAIN_ROPE = {"rope_type": "default", "partial_rotary_factor": 1.0}  # any other value turns positions otherwise


@dataclass(frozen=True)
class PlainConfig:
    """What the scorer asks of a model's configuration, under transformers' names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tied: bool
    _attn_implementation: str = NAME

    def get_text_config(self) -> "PlainConfig":
        return self


def plain_config(identity: ModelIdentity) -> PlainConfig | None:
    """The configuration of a model that may be of this kind, None for any other."""
    if identity.gguf or identity.base is not None or identity.device == SPREAD:
        return None
    told = read_if_object(identity.folder / "config.json")
    rope = told.get("rope_parameters") or {"rope_theta": told.get("rope_theta")}
    odd = (
        told.get("model_type") not in KINDS
        or told.get("hidden_act", "silu") != "silu"
        or told.get("quantization_config")
        or told.get("rope_scaling")
        or any(rope[name] != PLAIN_ROPE.get(name) for name in rope if name != "rope_theta")
        or (told.get("sliding_window") and told.get("use_sliding_window", True))
        or set(told.get("layer_types") or ()) - {"full_attention"}
        or len(list(identity.folder.glob("*.safetensors"))) != 1
    )
    if odd:
        return None
    try:
        heads, width = int(told["num_attention_heads"]), int(told["hidden_size"])
        return PlainConfig(
            hidden_size=width,
            intermediate_size=int(told["intermediate_size"]),
            num_hidden_layers=int(told["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=int(told.get("num_key_value_heads") or heads),
            head_dim=int(told.get("head_dim") or width // heads),
            vocab_size=int(told["vocab_size"]),
            max_position_embeddings=int(told["max_position_embeddings"]),
            rms_norm_eps=float(told["rms_norm_eps"]),
            rope_theta=float(rope["rope_theta"]),
            tied=bool(told["tie_word_embeddings"]),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):  # left to a default, which transformers knows
        return None


class PlainBody:
    """The transformer without its head, as `run_packed` calls it."""

    def __init__(self, config: PlainConfig, weights: dict[str, Tensor]) -> None:
        self.config = config
        self.weights = weights
        self.layers = [_of_layer(weights, layer) for layer in range(config.num_hidden_layers)]
        steps = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        self.turns = (1.0 / (config.rope_theta**steps)).to(weights["model.norm.weight"].device)  # (head_dim / 2,)

    def parameters(self) -> Iterator[Tensor]:
        return iter(self.weights.values())

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, position_ids: Tensor, packed_rows: PackedRows, **_: Any) -> Any:
        """input_ids, position_ids: (1, N). Gives `last_hidden_state` (1, N, D)."""
        states = torch.nn.functional.embedding(input_ids, self.weights["model.embed_tokens.weight"])
        angles = position_ids[..., None].float() * self.turns  # (1, N, head_dim / 2)
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = (part.to(states.dtype).unsqueeze(1) for part in (angles.cos(), angles.sin()))
        for number, layer in enumerate(self.layers):
            seen = self._norm(states, layer["input_layernorm.weight"])
            states = states + self._attention(seen, layer, number, cos, sin, packed_rows)
            inner = self._norm(states, layer["post_attention_layernorm.weight"])
            inner = silu(_map(inner, layer, "mlp.gate_proj")) * _map(inner, layer, "mlp.up_proj")
            states = states + _map(inner, layer, "mlp.down_proj")
        return SimpleNamespace(last_hidden_state=self._norm(states, self.weights["model.norm.weight"]))

    def _attention(
        self, states: Tensor, layer: dict[str, Tensor], number: int, cos: Tensor, sin: Tensor, packed_rows: PackedRows
    ) -> Tensor:
        query, key, value = (
            _map(states, layer, f"self_attn.{name}_proj").unflatten(-1, (-1, self.config.head_dim)) for name in "qkv"
        )
        if "self_attn.q_norm.weight" in layer:
            query = self._norm(query, layer["self_attn.q_norm.weight"])
            key = self._norm(key, layer["self_attn.k_norm.weight"])
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))  # (1, heads, N, head_dim)
        query, key = (part * cos + _half_turned(part) * sin for part in (query, key))
        groups = self.config.num_attention_heads // self.config.num_key_value_heads
        seen = rows_apart(packed_rows, number, query, key, value, groups, self.config.head_dim**-0.5)
        return _map(seen.flatten(2), layer, "self_attn.o_proj")

    def _norm(self, states: Tensor, weight: Tensor) -> Tensor:
        exact = states.to(torch.float32)
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.config.rms_norm_eps)
        return weight * exact.to(states.dtype)


@dataclass(frozen=True)
class PlainModel:
    """What stands in a ScoringModel for transformers' model."""

    config: PlainConfig
    body: PlainBody
    head: Tensor  # (V, D)

    def get_input_embeddings(self) -> Any:
        return SimpleNamespace(weight=self.body.weights["model.embed_tokens.weight"])


def plain_model(identity: ModelIdentity) -> PlainModel:
    """Raises BadInput where the files hold other weights than such a model has."""
    config = plain_config(identity)
    if config is None:
        raise UnusableModel(f"model {identity.name} is of a kind that is not written out")
    (file,) = identity.folder.glob("*.safetensors")
    weights = _mapped(file, getattr(torch, identity.dtype), identity.device)
    head = weights["model.embed_tokens.weight"] if config.tied else weights.pop("lm_head.weight", None)
    body = PlainBody(config, weights)
    known = {"model.embed_tokens.weight", "model.norm.weight"}
    known |= {f"model.layers.{n}.{name}" for n, layer in enumerate(body.layers) for name in layer}
    if head is None or set(weights) != known:
        raise UnusableModel(f"model {identity.name} holds weights that are not written out")
    return PlainModel(config, body, head)


def _mapped(file: Path, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    with safe_open(file, "pt") as held:
        return {name: held.get_tensor(name).to(device=device, dtype=dtype) for name in held.keys()}  # noqa: SIM118


PARTS = (
    *(f"self_attn.{name}_proj.{part}" for name in "qkvo" for part in ("weight", "bias")),
    *(
        "self_attn.q_norm.weight",
        "self_attn.k_norm.weight",
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
    ),
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
)


def _of_layer(weights: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    found = {part: weights.get(f"model.layers.{number}.{part}") for part in PARTS}
    return {part: weight for part, weight in found.items() if weight is not None}


def _map(states: Tensor, layer: dict[str, Tensor], name: str) -> Tensor:
    return linear(states, layer[f"{name}.weight"], layer.get(f"{name}.bias"))


def _half_turned(part: Tensor) -> Tensor:
    half = part.shape[-1] // 2
    return torch.cat((-part[..., half:], part[..., :half]), dim=-1)
