"""Model folders and files of the kinds that people have, tiny and made when a test asks for them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from .architectures import CONFIGS, tiny


def saved(folder: Path, model: Any, tokenizer: Any = None, **how: Any) -> Path:
    model.save_pretrained(folder, **how)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def changed(folder: Path, name: str = "config.json", **values: Any) -> Path:
    """The folder, some values of one of its JSON files set anew."""
    path = folder / name
    told = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(told | values))
    return folder


def without(folder: Path, *keys: str) -> Path:
    """The folder, without some of its weights."""
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k not in keys}, folder / "model.safetensors", {"format": "pt"})
    return folder


def adapter(folder: Path, base: str, seed: int = 3, **settings: Any) -> Path:
    """A LoRA adapter for the tiny Llama with weights that change its answers."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **settings)
    model = get_peft_model(tiny("llama"), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(folder, save_embedding_layers=False)
    return changed(folder, "adapter_config.json", base_model_name_or_path=base)


def gguf(path: Path, model: Any, tokenizer: Any) -> Path:
    """A Llama and its byte-level tokenizer as one GGUF file of 32 bit floats."""
    from gguf import GGUFWriter, TokenType

    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    words += ["ĀĀ", *(f"<unused{i}>" for i in range(config.vocab_size - len(words) - 1))]  # two NUL bytes: never met
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([TokenType.CONTROL if word in ("<s>", "</s>") else TokenType.NORMAL for word in words])
    writer.add_token_merges(["Ā Ā"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, value in model.state_dict().items():
        writer.add_tensor(*_gguf_tensor(name, value.float().numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _gguf_tensor(name: str, value: np.ndarray, config: Any) -> tuple[str, np.ndarray]:
    name = name.replace("model.layers.", "blk.")
    for theirs, own in NAMES.items():
        name = name.replace(theirs, own)
    for part, heads in (("attn_q.", config.num_attention_heads), ("attn_k.", config.num_key_value_heads)):
        if part in name:  # llama.cpp lays the halves that rotate together side by side
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
    return name, np.ascontiguousarray(value)


def reward(folder: Path, tokenizer: Any) -> Path:
    config = tf.LlamaConfig(**CONFIGS["llama"].to_dict() | {"num_labels": 1, "pad_token_id": 1})
    return saved(folder, tf.LlamaForSequenceClassification(config), tokenizer)
