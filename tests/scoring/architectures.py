"""Tiny randomly initialised models of every architecture that the scorer is tried on."""

import copy
from typing import Any

import torch
import transformers as tf

VOCAB, WIDTH = 320, 64
COMMON: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = COMMON | {"num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256}
GPT2 = {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 256}

COMMON_MAMBA = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 8}
PLAIN_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "sliding_window": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
DEEPSEEK = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
}
JAMBA = {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "num_experts": 4,
    "mamba_d_state": 8,
    "use_mamba_kernels": False,
}
MAMBA2_PART = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "shared_expert_intermediate_size": 48,
}

CONFIGS: dict[str, Any] = {
    "llama": tf.LlamaConfig(**LLAMA, tie_word_embeddings=False),
    "llama-tied": tf.LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "qwen2": tf.Qwen2Config(**LLAMA),
    "qwen3": tf.Qwen3Config(**LLAMA, head_dim=16),
    "mistral": tf.MistralConfig(**LLAMA, sliding_window=None),
    "mistral-sliding": tf.MistralConfig(**LLAMA, sliding_window=8),
    "mistral-wide": tf.MistralConfig(**LLAMA, sliding_window=64),
    "mixtral": tf.MixtralConfig(**LLAMA, num_local_experts=4, num_experts_per_tok=2),
    "gemma2": tf.Gemma2Config(**LLAMA, head_dim=16, final_logit_softcapping=3.0, sliding_window=8),
    "gemma3": tf.Gemma3TextConfig(**LLAMA, head_dim=16, sliding_window=8),
    "gpt2": tf.GPT2Config(**GPT2, bos_token_id=0, eos_token_id=1),
    "gpt-neox": tf.GPTNeoXConfig(**COMMON, intermediate_size=96, max_position_embeddings=256),
    "gpt-j": tf.GPTJConfig(**GPT2, rotary_dim=8, bos_token_id=0, eos_token_id=1),
    "phi": tf.PhiConfig(**COMMON, intermediate_size=96, max_position_embeddings=256),
    "opt": tf.OPTConfig(**COMMON, ffn_dim=96, max_position_embeddings=256, word_embed_proj_dim=48),
    "bloom": tf.BloomConfig(vocab_size=VOCAB, hidden_size=WIDTH, n_layer=2, n_head=4),
    "falcon": tf.FalconConfig(**COMMON),
    "falcon-alibi": tf.FalconConfig(**COMMON, alibi=True),
    "olmo2": tf.Olmo2Config(**LLAMA),
    "granite": tf.GraniteConfig(**LLAMA, logits_scaling=4.0),
    "cohere": tf.CohereConfig(**LLAMA, logit_scale=0.25),
    "phi3": tf.Phi3Config(**LLAMA, pad_token_id=0),
    "mpt": tf.MptConfig(vocab_size=VOCAB, d_model=WIDTH, n_layers=2, n_heads=4, max_seq_len=256),
    # Mixtures of experts.
    "qwen2-moe": tf.Qwen2MoeConfig(**LLAMA, **EXPERTS, shared_expert_intermediate_size=48),
    "deepseek-v3": tf.DeepseekV3Config(**LLAMA | {"num_key_value_heads": 4}, **DEEPSEEK),
    "gpt-oss": tf.GptOssConfig(**LLAMA, head_dim=16, num_local_experts=4, num_experts_per_tok=2, **PLAIN_ROPE),
    "llama4": tf.Llama4TextConfig(**LLAMA, head_dim=16, intermediate_size_mlp=96, num_local_experts=4),
    # State spaces, linear attention, and both beside attention.
    "mamba": tf.MambaConfig(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, state_size=8),
    "mamba2": tf.Mamba2Config(**COMMON_MAMBA, num_heads=8, head_dim=16, n_groups=1, chunk_size=16),
    "falcon-mamba": tf.FalconMambaConfig(**COMMON_MAMBA, bos_token_id=0, eos_token_id=1),
    "rwkv": tf.RwkvConfig(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, context_length=256),
    "jamba": tf.JambaConfig(**LLAMA, **JAMBA),
    "bamba": tf.BambaConfig(**LLAMA, attn_layer_indices=[1], **MAMBA2_PART),
    "falcon-h1": tf.FalconH1Config(**LLAMA, mamba_d_ssm=128, lm_head_multiplier=0.5, **MAMBA2_PART),
    "recurrent-gemma": tf.RecurrentGemmaConfig(
        **LLAMA | {"num_hidden_layers": 3}, attention_window_size=8, lru_width=WIDTH, head_dim=16
    ),
    "qwen3-next": tf.Qwen3NextConfig(
        **LLAMA, **EXPERTS, **LINEAR, head_dim=16, layer_types=["linear_attention", "full_attention"]
    ),
    "lfm2": tf.Lfm2Config(**LLAMA, layer_types=["conv", "full_attention"]),
}


def tiny(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """The model of that name, with weights large enough that its predictions differ from token to token."""
    torch.manual_seed(7)
    model = tf.AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]))  # a model may change its own
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
            elif "bias" in name or name in ("phi", "gpt-j"):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval().to(dtype)
