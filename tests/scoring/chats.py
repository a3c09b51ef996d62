"""Conversations, and tokenizers that write them by real models' chat templates (templates/)."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from gradsentry_lib.samples.sample import Sample, Turn
from gradsentry_lib.scoring.encoding import Encoded, encode

TEMPLATES = Path(__file__).with_name("templates")

# Template -> its model's (begin, end) of sequence; the other tokens that it writes as one.
ENDS: dict[str, tuple[str, str]] = {
    "alpaca": ("<s>", "</s>"),
    "chatml": ("<s>", "<|im_end|>"),
    "command_r": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "deepseek_r1_distill": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "deepseek_v3": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "falcon3": ("<|startoftext|>", "<|endoftext|>"),
    "gemma": ("<bos>", "<eos>"),
    "gemma3": ("<bos>", "<eos>"),
    "granite3": ("<|begin_of_text|>", "<|end_of_text|>"),
    "harmony": ("<|startoftext|>", "<|return|>"),
    "internlm2": ("<s>", "</s>"),
    "llama2": ("<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama3_1": ("<|begin_of_text|>", "<|eot_id|>"),
    "mistral_v1": ("<s>", "</s>"),
    "mistral_v3": ("<s>", "</s>"),
    "mistral_v7": ("<s>", "</s>"),
    "mixtral": ("<s>", "</s>"),
    "olmo": ("<|padding|>", "<|endoftext|>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "phi4": ("<|endoftext|>", "<|im_end|>"),
    "qwen2_5": ("<|endoftext|>", "<|im_end|>"),
    "qwen3": ("<|endoftext|>", "<|im_end|>"),
    "smollm2": ("<|im_start|>", "<|im_end|>"),
    "smollm3": ("<|begin_of_text|>", "<|im_end|>"),
    "vicuna": ("<s>", "</s>"),
    "yi": ("<|startoftext|>", "<|im_end|>"),
    "zephyr": ("<s>", "</s>"),
}
WRITTEN = (
    *("<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"),
    *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<｜User｜>"),
    *("<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"),
    *("<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>"),
    *(
        "<｜tool▁output▁end｜>",
        "<|START_OF_TURN_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        "<|USER_TOKEN|>",
        "<|CHATBOT_TOKEN|>",
    ),
    *(
        "<|SYSTEM_TOKEN|>",
        "<|start_of_role|>",
        "<|end_of_role|>",
        "<|start|>",
        "<|message|>",
        "<|channel|>",
        "<|call|>",
    ),
    *("<|return|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
)
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOLS = json.dumps([{"type": "function", "function": {"name": "weather", "description": "Tells the weather."}}])


@lru_cache(maxsize=64)
def tokenizer(template: str, begin: str = "<s>", end: str = "</s>") -> Any:
    """A byte-level tokenizer that writes chats by a template, given as text, and takes its tokens as one each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=begin, eos_token=end)
    literals = [token for token in WRITTEN if token in template or token.strip("<|>") in template]
    wrapped.add_tokens(literals, special_tokens=True)
    wrapped.chat_template = template
    return wrapped


def of_model(name: str) -> Any:
    """The tokenizer of a template in templates/."""
    return tokenizer((TEMPLATES / f"{name}.jinja").read_text("utf-8"), *ENDS[name])


def turn(role: str, text: str, train: bool | None = None, **beside: Any) -> Turn:
    return Turn(role, text, train, json.dumps(beside, ensure_ascii=False) if beside else "")


def chat(*turns: Turn | tuple[str, str], tools: str = "") -> Sample:
    return Sample(0, 1, "chat", tuple(each if isinstance(each, Turn) else Turn(*each) for each in turns), tools)


def shown(row: Encoded, tokens: Any) -> str:
    """The tokens as text, what is learnt in ⟦ ⟧."""
    parts, at = [], 0
    for start, end in row.spans:
        parts += [tokens.decode(row.ids[at:start]), "⟦", tokens.decode(row.ids[start:end]), "⟧"]
        at = end
    return "".join([*parts, tokens.decode(row.ids[at:])])


def learnt(sample: Sample, tokens: Any) -> str:
    return shown(encode(sample, tokens, 10_000), tokens)
