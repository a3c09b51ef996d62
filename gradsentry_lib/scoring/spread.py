"""Models larger than one device: layers laid over all GPUs, then main memory, then disk.

The embedding and the output projection stay on the first device, where the scorer works with them directly; the rest is
moved in by accelerate when its turn comes. `GRADSENTRY_MAX_MEMORY` (such as `0=20GiB,cpu=40GiB`) says how much of each
may be used, else what is free.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableModel
from gradsentry_lib.scoring.transformers_private import never_split


def spread(auto: Any, config: Any, dtype: torch.dtype, quantised: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained` that spread a model of this configuration. Raises BadInput where it can't be."""
    from accelerate import infer_auto_device_map, init_empty_weights
    from accelerate.utils import get_balanced_memory, get_max_memory

    limits = get_max_memory(settings.max_memory())
    told: dict[str, Any] = {"max_memory": dict(limits)}
    if quantised:  # sizes are known to its own library alone
        return {**told, "device_map": "auto"}
    with init_empty_weights():
        skeleton = auto.from_config(config, dtype=dtype, trust_remote_code=False)
    skeleton.tie_weights()
    whole = {"no_split_module_classes": never_split(skeleton), "dtype": dtype}
    first = next(iter(limits))
    kept = _ends(skeleton)
    size = sum({id(m.weight): m.weight.numel() * dtype.itemsize for m in kept.values()}.values())
    if len(limits) > 2:
        limits = get_balanced_memory(skeleton, limits, **whole)
    if limits[first] < size:
        raise UnusableModel(
            f"the model's embedding and output projection ({size >> 20:,} MiB) do not fit on device {first}: see "
            "GRADSENTRY_MAX_MEMORY"
        )
    limits[first] -= size
    device_map = infer_auto_device_map(skeleton, limits, **whole)
    for name in kept:
        _split_down_to(name, device_map, skeleton)
        device_map[name] = first
    return {**told, "device_map": device_map}


@contextmanager
def offload_folder() -> Iterator[tuple[str, Callable[[Any], None]]]:
    """A folder for what goes to disk, and what ties it to a model: it is removed when the model goes, or at once where
    none was tied."""
    settings.cache().mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="offload-", dir=settings.cache())
    tied: list[Any] = []

    def tie(model: Any) -> None:
        tied.append(weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True))

    try:
        yield folder, tie
    finally:
        if not tied:
            shutil.rmtree(folder, ignore_errors=True)


def _ends(model: Any) -> dict[str, Any]:
    """The embedding and the output projection, by name."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return {name: module for name, module in model.named_modules() if any(module is end for end in ends)}


def _split_down_to(name: str, device_map: dict[str, Any], model: Any) -> None:
    """Gives a module a place of its own, where it went with what holds it."""
    while name not in device_map:
        holder = name
        while holder not in device_map:
            holder = holder.rpartition(".")[0]
        module, place = model.get_submodule(holder), device_map.pop(holder)
        inside = [key for key, _ in module.named_children()]
        inside += [key for key, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]]
        device_map |= {f"{holder}.{key}" if holder else key: place for key in inside}
