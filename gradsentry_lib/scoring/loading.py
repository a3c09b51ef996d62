"""From a model's files to a model in memory: all of its weights, none of its code; a PEFT adapter merged into its base.

Loading fails closed: a weight that the files do not hold would be filled with random numbers, so one that is missing
stops it. `trust_remote_code=False` is said at every call, since transformers asks at a terminal where it is left out.
"""

import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from gradsentry_lib.errors import BadInput, UnusableModel
from gradsentry_lib.scoring.checkpoint import quantiser, read_json_object
from gradsentry_lib.scoring.fingerprint import tokenizer_folder
from gradsentry_lib.scoring.identity import SPREAD, ModelIdentity, first_line
from gradsentry_lib.scoring.spread import offload_folder, spread
from gradsentry_lib.scoring.transformers_private import loads

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = ("score.", "classifier.", "qa_outputs.")  # heads of other kinds of model
ADAPTED = "base_model.model."  # before the names of a base's weights in an adapter
EMBEDDINGS = (".embed_tokens.weight", ".wte.weight", ".embed_in.weight", ".lm_head.weight", ".word_embeddings.weight")
OWN_FILES: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_tokenizer(identity: ModelIdentity) -> Any:
    """The tokenizer of a model. Raises BadInput."""
    from transformers import AutoTokenizer

    folder = tokenizer_folder(identity.folder, identity.base)
    file = {"gguf_file": identity.gguf} if identity.gguf else {}
    with one_line(f"model {identity.name}: its tokenizer can't be loaded"):
        return AutoTokenizer.from_pretrained(folder, **file, **OWN_FILES)


def load_causal_lm(identity: ModelIdentity) -> Any:
    """The model, on its device, an adapter merged into it. Raises BadInput."""
    if identity.base is not None and identity.device == SPREAD:
        raise UnusableModel(
            f"model {identity.name} is an adapter, which can't be merged on several devices: merge it first"
        )
    with one_line(f"model {identity.name} can't be loaded"):
        model = _whole(identity)
        if identity.base is not None:
            model = _merged(model, identity)
        return model.eval().requires_grad_(False)


def _whole(identity: ModelIdentity) -> Any:
    from transformers import AutoConfig

    folder = identity.base or identity.folder
    file = {"gguf_file": identity.gguf} if identity.gguf else {}
    config = AutoConfig.from_pretrained(folder, **file, **OWN_FILES)
    dtype = getattr(torch, identity.dtype)
    auto = _auto_class(config, identity.name)
    told: dict[str, Any] = {**file, "dtype": dtype, **_expanded(identity)}
    with ExitStack() as stack:
        if identity.device == SPREAD:
            packed = bool(identity.gguf or getattr(config, "quantization_config", None))
            told |= spread(auto, config, dtype, packed)
            told["offload_folder"], tie = stack.enter_context(offload_folder())
        elif getattr(config, "quantization_config", None):
            told["device_map"] = {"": identity.device}  # packed weights can't be moved afterwards
        told |= {"use_safetensors": True, "output_loading_info": True}
        told["ignore_mismatched_sizes"] = True  # only so that they are listed: they are refused below
        model, found = auto.from_pretrained(folder, **told, **OWN_FILES)
        _refuse_missing(model, found, identity.name)
        if identity.device == SPREAD:
            tie(model)
    return model if "device_map" in told else model.to(identity.device)


def _merged(model: Any, identity: ModelIdentity) -> Any:
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
        key for key in set(shapes) - wanted if key not in whole or key.removeprefix(ADAPTED) not in known
    }
    if odd:
        raise UnusableModel(
            f"model {identity.name}: this adapter does not fit its base ({len(odd)} of its weights, {min(odd)}); "
            "give the base that it was trained on with --base-model, or the merged model"
        )
    return adapted.merge_and_unload(safe_merge=True)


def _auto_class(config: Any, name: str) -> Any:
    """Which of transformers' classes loads it: for a multimodal model its own, of which the text part is used."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    for auto in (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
        if loads(auto, config):
            return auto
    raise UnusableModel(f"model {name}: transformers has no causal language model of the kind {config.model_type}")


def _expanded(identity: ModelIdentity) -> dict[str, Any]:
    """Has packed floats and integers expanded where transformers can: products of them need kernels, which are code of
    the hub, and a module's gradient needs weights to go back through."""
    from transformers import CompressedTensorsConfig, FineGrainedFP8Config, GgufConfig
    from transformers.utils.quantization_config import Mxfp4Config

    if identity.gguf:
        return {"quantization_config": GgufConfig(dequantize=True)}
    config = read_json_object(identity.name, (identity.base or identity.folder) / "config.json")
    method = quantiser(identity.name, config)
    told: Any = config.get("quantization_config") or {}
    own: Any
    match method:
        case "fp8" | "mxfp8":
            own = FineGrainedFP8Config(dequantize=True, modules_to_not_convert=told.get("modules_to_not_convert"))
        case "mxfp4":
            own = Mxfp4Config(dequantize=True, modules_to_not_convert=told.get("modules_to_not_convert"))
        case "compressed-tensors":
            own = CompressedTensorsConfig(dequantize=True)
        case _:
            return {}
    return {"quantization_config": own}


def _refuse_missing(model: Any, found: dict[str, Any], name: str) -> None:
    missing = sorted(map(str, found.get("missing_keys") or ()))
    head = next((key for key, module in model.named_modules() if module is model.get_output_embeddings()), "-")
    if f"{head}.weight" in missing:
        raise UnusableModel(
            f"model {name} has no output projection in its files ({head}.weight): they hold a body, a classifier or a "
            "reward model; give the causal language model"
        )
    other = next((str(key) for key in sorted(found.get("unexpected_keys") or ()) if str(key).startswith(OTHER)), "")
    if other:  # with a tied head nothing is missing
        raise UnusableModel(f"model {name} is a classifier or reward model ({other}); give the causal language model")
    for key, held, wanted in found.get("mismatched_keys") or ():
        sizes = (" x ".join(map(str, shape)) for shape in (held, wanted))
        raise UnusableModel("model {}: {} is {} in its files and {} by its config.json".format(name, key, *sizes))
    if missing:
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        raise UnusableModel(
            f"model {name} is not whole: {', '.join(missing[:2])}{more} missing from its files; save it anew"
        )
    for error in found.get("error_msgs") or ():
        raise UnusableModel(f"model {name} is not whole: {str(error)[:300]}")


@contextmanager
def one_line(message: str) -> "Iterator[None]":
    """Turns whatever foreign files make a loader raise, of whatever library, into one line."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except BadInput:
        raise
    except Exception as error:  # foreign files make loaders raise what they like
        raise UnusableModel(f"{message}: {first_line(error)[:500]}") from error
