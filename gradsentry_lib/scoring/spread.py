"""Models larger than one device: layers laid over all GPUs, then main memory, then disk.

The embedding and the output projection stay on the first device, where the scorer works with them directly; the rest is
moved in by accelerate when its turn comes. `GRADSENTRY_MAX_MEMORY` (such as `0=20GiB,cpu=40GiB`) says how much of each
may be used, else what is free.
"""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

from gradsentry_lib import settings
from gradsentry_lib.errors import BadInput


def spread(auto: Any, config: Any, dtype: torch.dtype, quantised: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained` that spread a model of this configuration. Raises BadInput where it can't be."""
    from accelerate import infer_auto_device_map, init_empty_weights
    from accelerate.utils import get_balanced_memory, get_max_memory

    folder = tempfile.mkdtemp(prefix="offload-", dir=_made(settings.cache()))
    limits = get_max_memory(settings.max_memory())
    told: dict[str, Any] = {"max_memory": limits, "offload_folder": folder}
    if quantised:  # sizes are known to its own library alone
        return {**told, "device_map": "auto"}
    with init_empty_weights():
        skeleton = auto.from_config(config, dtype=dtype, trust_remote_code=False)
    skeleton.tie_weights()
    whole = {"no_split_module_classes": list(skeleton._no_split_modules or ()), "dtype": dtype}
    first = next(iter(limits))
    kept = _ends(skeleton)
    size = sum({id(m.weight): m.weight.numel() * dtype.itemsize for m in kept.values()}.values())
    if len(limits) > 2:
        limits = get_balanced_memory(skeleton, limits, **whole)
    limits[first] = max(0, limits[first] - size)
    device_map = infer_auto_device_map(skeleton, limits, **whole)
    for name in kept:
        if name in device_map:
            device_map[name] = first
    if any(_place(name, device_map) in ("disk", None) for name in kept):
        raise BadInput("the model's embedding and output projection do not fit in memory: see GRADSENTRY_MAX_MEMORY")
    return {**told, "device_map": device_map}


def forget_offloaded(model: Any, folder: str) -> None:
    """Removes what was laid on disk when the model goes."""
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)


def _ends(model: Any) -> dict[str, Any]:
    """The embedding and the output projection, by name."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return {name: module for name, module in model.named_modules() if any(module is end for end in ends)}


def _place(name: str, device_map: dict[str, Any]) -> Any:
    """Where a module goes: by its own name or that of what holds it."""
    while name and name not in device_map:
        name = name.rpartition(".")[0]
    return device_map.get(name)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
