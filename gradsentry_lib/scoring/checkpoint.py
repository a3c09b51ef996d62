"""What a model folder or file holds, told from its names and JSON alone, before anything of it is loaded.

What can never be scored is refused here, in one line that says what to do: models that bring code of their own, pickled
weights, kinds of model that have no output projection, quantisations whose library is not installed. Nothing of a
model's own code is ever imported, and nothing is asked.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import BadInput, UnusableModel

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".distcp")
CODE = ("modeling_*.py", "configuration_*.py", "tokenization_*.py", "processing_*.py", "custom_generate/*.py")
ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")  # may name a hub kernel
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")  # large, and nothing in them is ever run
PART = "-of-0"  # in the name of one file of a GGUF model that was split

# A class's last words: what such a model is, for a person.
OTHER_HEADS = {
    "ForSequenceClassification": "a classifier or reward model",
    "ForTokenClassification": "a classifier of tokens",
    "ForMultipleChoice": "a classifier",
    "ForQuestionAnswering": "a model that marks answers",
    "RewardModel": "a reward model",
    "ForRewardModel": "a reward model",
    "ForMaskedLM": "an encoder, which does not write from left to right",
}

# Quantisations that transformers reads, and what has to be installed for each; nothing where it expands them itself.
QUANTISERS: dict[str, tuple[str, ...]] = {
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "eetq": ("eetq",),
    "fp_quant": ("fp_quant",),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "quark": ("quark",),
    "spqr": ("spqr_quant",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
    "fbgemm_fp8": ("fbgemm_gpu",),
    "bitnet": (),
    "fp8": (),
    "mxfp8": (),
    "mxfp4": (),
}
PACKAGES = {"optimum.quanto": "optimum-quanto", "quark": "amd-quark", "fbgemm_gpu": "fbgemm-gpu-genai"}


@dataclass(frozen=True)
class Checkpoint:
    """A folder of safetensors; or in it one GGUF file, `gguf`; or an adapter whose `base` is named as a user would."""

    folder: Path
    gguf: str = ""
    base: str = ""


def open_checkpoint(name: str, path: Path) -> Checkpoint:
    """What lies at `path`, a folder or a GGUF file; `name` is what a user calls it. Raises BadInput."""
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return Checkpoint(path.parent, gguf=_one_gguf(name, [path.name]))
        if path.suffix.lower() in PICKLED:
            raise UnusableModel(_pickled(name, path.name))
        raise UnusableModel(f"model {name}: give the folder that holds config.json and *.safetensors, or a .gguf file")
    _refuse_code(name, path)
    if (path / "adapter_config.json").is_file():
        return _adapter(name, path)
    weights = any(path.glob("*.safetensors"))
    ggufs = sorted(file.name for file in path.glob("*.gguf") if not file.name.startswith("mmproj"))
    if ggufs and not weights:
        return Checkpoint(path, gguf=_one_gguf(name, ggufs))
    pickled = sorted(file.name for file in path.iterdir() if file.suffix.lower() in PICKLED)
    if not weights and pickled:
        raise UnusableModel(_pickled(name, pickled[0]))
    if not (path / "config.json").is_file() or not weights:
        missing = "weights (*.safetensors)" if (path / "config.json").is_file() else "config.json"
        raise UnusableModel(f"model {name}: no model folder, it holds no {missing}")
    config = read_json_object(name, path / "config.json")
    _refuse_kind(name, config)
    _refuse_outside(name, path, config)
    quantiser(name, config)
    return Checkpoint(path)


def quantiser(name: str, config: dict[str, Any]) -> str:
    """How a model is quantised, empty where it is not. Raises BadInput where that can't be read here."""
    told = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if not told:
        return ""
    if not isinstance(told, dict):
        raise UnusableModel(f"model {name}: quantization_config in its config.json is no object")
    method = str(told.get("quant_method") or ("bitsandbytes" if {"load_in_4bit", "load_in_8bit"} & set(told) else "?"))
    if method not in QUANTISERS:
        raise UnusableModel(
            f"model {name} is quantised in a way that can't be read ({method[:40]}); give it unquantised"
        )
    absent = [PACKAGES.get(module, module) for module in QUANTISERS[method] if not _installed(module)]
    if absent:
        raise UnusableModel(
            f"model {name} is quantised with {method}: pip install {' '.join(absent).replace('_', '-')}, "
            "or give it unquantised"
        )
    return method


def read_json_object(name: str, path: Path) -> dict[str, Any]:
    """One of a model's JSON files. Raises BadInput where it is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnusableModel(f"model {name}: {path.name} can't be read as a JSON object")
    return found


def _refuse_code(name: str, folder: Path) -> None:
    """transformers would ask at a terminal whether to run what these name; a "y" there must not be possible."""
    for path in sorted(folder.glob("*.json")):
        if path.name in VOCABULARIES or path.name.endswith(".index.json"):
            continue
        told = read_if_object(path)
        if "auto_map" in told:
            raise UnusableModel(
                f"model {name} brings code of its own ({path.name}: auto_map), which is never run; if transformers "
                'knows this kind of model itself, remove "auto_map" from a copy of the folder, else take another model'
            )
        if "/" in "".join(
            str(part.get(key, ""))
            for part in (told, told.get("text_config"))
            for key in ATTENTION
            if isinstance(part, dict)
        ):
            raise UnusableModel(
                f"model {name} wants code of the hub for its attention ({path.name}), which is never run"
            )
    code = sorted(str(path.relative_to(folder)) for pattern in CODE for path in folder.glob(pattern))
    if code:
        raise UnusableModel(
            f"model {name} brings code of its own ({code[0]}), which is never run; if transformers knows this kind of "
            "model itself, leave the .py files out of a copy of the folder, else take another model"
        )


def read_if_object(path: Path) -> dict[str, Any]:
    try:
        return read_json_object("", path)
    except BadInput:  # a file that nobody loads may hold anything
        return {}


def _refuse_kind(name: str, config: dict[str, Any]) -> None:
    architecture = next(iter(config.get("architectures") or []), "")
    kind = next((what for end, what in OTHER_HEADS.items() if str(architecture).endswith(end)), "")
    if config.get("is_encoder_decoder") is True:
        kind = "an encoder and a decoder"
    elif str(architecture).endswith("Model") and not str(architecture).endswith(("LMHeadModel", "HeadsModel")):
        kind = "a body without an output projection"
    if kind:
        raise UnusableModel(
            f"model {name} is {kind} ({str(architecture)[:60]}): scores need a causal language model with its output "
            "projection, such as the one that is to be fine-tuned"
        )


def _refuse_outside(name: str, folder: Path, config: dict[str, Any]) -> None:
    """The fingerprint is of the folder's own files: weights that a config or an index fetches elsewhere have none."""
    if config.get("transformers_weights"):
        raise UnusableModel(f"model {name}: config.json names its weights itself (transformers_weights); save it anew")
    index = folder / "model.safetensors.index.json"
    if not index.is_file() or (folder / "model.safetensors").is_file():
        return
    placed = read_json_object(name, index).get("weight_map")
    files = sorted({str(file) for file in placed.values()}) if isinstance(placed, dict) else []
    for file in files:
        if "/" in file or "\\" in file or not file.endswith(".safetensors"):
            raise UnusableModel(f"model {name}: {index.name} names a file that is not in the folder ({file[:80]})")
        if not (folder / file).is_file():
            raise UnusableModel(f"model {name}: the shard {file[:80]} is missing")


def _adapter(name: str, folder: Path) -> Checkpoint:
    if any(folder.glob("model*.safetensors")):
        raise UnusableModel(f"model {name} holds a whole model and an adapter: move the adapter to a folder of its own")
    config = read_json_object(name, folder / "adapter_config.json")
    if not (folder / "adapter_model.safetensors").is_file():
        if (folder / "adapter_model.bin").is_file():
            raise UnusableModel(_pickled(name, "adapter_model.bin"))
        raise UnusableModel(f"model {name} is an adapter without weights (adapter_model.safetensors)")
    if not _installed("peft"):
        raise UnusableModel(f"model {name} is an adapter: pip install peft, or give the merged model")
    base = config.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UnusableModel(f"model {name} is an adapter that does not name its base: give the merged model")
    return Checkpoint(folder, base=base)


def _one_gguf(name: str, files: list[str]) -> str:
    if len(files) > 1 and not all(PART in file for file in files):
        raise UnusableModel(f"model {name} holds {len(files)} GGUF files: name one, such as {files[0]}")
    if PART in files[0]:
        raise UnusableModel(f"model {name} is a GGUF model in parts: merge them first (llama-gguf-split --merge)")
    return files[0]


def _pickled(name: str, file: str) -> str:
    return (
        f"model {name} has its weights in a pickled file ({file}), which could run code while it is read: only "
        "safetensors are read; convert it where you trust it (save_pretrained)"
    )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is not installed
        return False
