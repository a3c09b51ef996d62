"""What is read of transformers that it does not promise, in one place.

tests/test_private_apis.py reads each of these from the installed version, and says which version moved.
"""

from typing import Any


def attention_of(body: Any) -> str:
    """The name of the attention that a model runs: it can be set in public, and not be asked for."""
    return body.config._attn_implementation


def never_split(model: Any) -> list[str]:
    """Classes of modules that stay on one device."""
    return list(model._no_split_modules or ())


def loads(auto: Any, config: Any) -> bool:
    """Whether an automatic class (AutoModelForCausalLM, ...) knows models of this configuration."""
    return type(config) in auto._model_mapping
