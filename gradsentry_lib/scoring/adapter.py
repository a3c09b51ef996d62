"""A PEFT adapter merged into its base: what is scored is one plain model, with the adapter's changes in its weights."""

from typing import Any

from gradsentry_lib.errors import UnusableModel
from gradsentry_lib.scoring.identity import ModelIdentity

PREFIX = "base_model.model."
EMBEDDINGS = (".embed_tokens.weight", ".wte.weight", ".embed_in.weight", ".lm_head.weight", ".word_embeddings.weight")


def merged(model: Any, identity: ModelIdentity) -> Any:
    """The base `model` with the adapter in `identity.folder` merged. Raises BadInput where it doesn't fit."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    config = PeftConfig.from_pretrained(str(identity.folder))
    if config.is_prompt_learning:
        raise UnusableModel(
            f"model {identity.name} is an adapter of prompts ({config.peft_type.value}), which has no weights to "
            "merge: give another model"
        )
    with safe_open(identity.folder / "adapter_model.safetensors", "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    whole = {key for key in shapes if key.endswith(EMBEDDINGS)}  # saved as they are, where tokens were added
    rows = {shapes[key][0] for key in whole}
    if len(rows) == 1 and rows != {model.get_input_embeddings().weight.shape[0]}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)
    known = set(model.state_dict())
    adapted = PeftModel.from_pretrained(
        model, str(identity.folder), config=config, torch_device=str(model.device), local_files_only=True
    )
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    odd = wanted - set(shapes) | {
        key for key in set(shapes) - wanted if key not in whole or key.removeprefix(PREFIX) not in known
    }
    if odd:
        raise UnusableModel(
            f"model {identity.name}: this adapter does not fit its base ({len(odd)} of its weights, {min(odd)}); "
            "give the base that it was trained on with --base-model, or the merged model"
        )
    return adapted.merge_and_unload(safe_merge=True)
