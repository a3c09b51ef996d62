"""Which model, before anything is loaded: enough to look scores up. Imports torch only where there is a GPU to ask."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gradsentry_lib import settings
from gradsentry_lib.errors import BadInput, UnusableModel, UnusableOption
from gradsentry_lib.files import sha256_json
from gradsentry_lib.scoring.checkpoint import open_checkpoint
from gradsentry_lib.scoring.embedded import embedded_model
from gradsentry_lib.scoring.fingerprint import ADAPTER, TOKENIZER, WEIGHTS, digests

DTYPES = ("float32", "bfloat16", "float16", "float64")
SPREAD = "spread"  # the device of a model that is larger than one: loading.py


@dataclass(frozen=True)
class ModelIdentity:
    """A model folder by its bytes, and how it will run.

    `weights` and `tokenizer` are SHA-256 fingerprints of the files; `dtype` is part of the identity, since it moves
    scores (by up to 0.02 between float32 and bfloat16). `gguf`: the file in the folder that holds the model, if it is
    one. `base`: the folder of the model that an adapter changes; both are in the fingerprint.
    """

    name: str
    folder: Path
    weights: str
    tokenizer: str
    device: str
    dtype: str
    gguf: str = ""
    base: Path | None = None

    @property
    def fingerprint(self) -> str:
        return sha256_json([self.weights, self.tokenizer, self.dtype])


def identify(
    name: str,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    memo: Path | None = None,
    base: str | None = None,
) -> ModelIdentity:
    """Finds a model (a folder, a GGUF file, a hub name, or `embedded`) and fingerprints its files, loading nothing.

    `base`: where an adapter's base model is, if not where the adapter says. `memo`: see fingerprint.py. Raises BadInput
    for a model, device or dtype that is not to be had here.
    """
    place = _device(device)
    number = _dtype(dtype, place)
    found = open_checkpoint(name, _find(name, revision))
    if base and not found.base:
        raise UnusableOption(f"model {name} is no adapter: leave --base-model out")
    below = _base(name, found.folder, base or found.base) if found.base else None
    weights, tokenizer = digests(found.folder, found.gguf, below, memo)
    return ModelIdentity(name, found.folder, weights, tokenizer, place, number, found.gguf, below)


def auto_device_and_dtype() -> tuple[str, str]:
    """What `auto` means on this machine."""
    place = _device("auto")
    return place, _dtype("auto", place)


def _base(name: str, adapter: Path, base: str) -> Path:
    """The folder of an adapter's base: as named, beside the adapter, or from the hub."""
    beside = adapter / base
    try:
        path = beside if beside.is_dir() else _find(base, None)
    except BadInput as error:
        raise UnusableModel(
            f"model {name} is an adapter of {base[:200]}, which is neither a folder here nor to be had from the hub: "
            "give its folder with --base-model, or the merged model"
        ) from error
    found = open_checkpoint(base, path)
    if found.base or found.gguf:
        raise UnusableModel(
            f"model {name} is an adapter of {base[:200]}, which is no plain model: give the merged model"
        )
    return found.folder


def _find(name: str, revision: str | None) -> Path:
    """A model's folder, or its GGUF file."""
    if name == settings.EMBEDDED:
        return embedded_model()
    path = Path(name).expanduser()
    if path.is_dir() or path.is_file():
        return path
    parts = name.split("/")
    gguf = len(parts) == 3 and name.endswith(".gguf")
    if path.is_absolute() or name.startswith((".", "~")) or (len(parts) > 2 and not gguf):
        raise UnusableModel(f"model {name}: there is no such folder or file")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        if gguf:
            return Path(hf_hub_download("/".join(parts[:2]), parts[2], revision=revision))
        wanted = [*WEIGHTS, *ADAPTER, *TOKENIZER, "*.index.json"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub client raises some ten kinds; all mean that the model cannot be had
        raise UnusableModel(
            f"model {name}: neither a folder here nor to be had from the hub ({first_line(error)}). "
            "Give a folder, a .gguf file, a hub name, or `embedded`."
        ) from error


def _device(device: str) -> str:
    if device == SPREAD:
        return device
    if device == "auto":
        return "cuda" if _cuda_devices() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UnusableOption(f"device {device}: use auto, cpu, cuda, cuda:N or spread")
    if kind == "cuda" and not _cuda_devices():
        raise UnusableOption(f"device {device}: there is no CUDA device here; use --device cpu or auto")
    if kind == "cuda" and int(index or 0) >= _cuda_devices():
        raise UnusableOption(f"device {device}: there are only {_cuda_devices()} CUDA devices here")
    return device


def _cuda_devices() -> int:
    if sys.platform == "linux" and not Path("/dev/nvidiactl").exists() and not Path("/dev/dxg").exists():
        return 0  # spares the two seconds that importing torch takes
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _dtype(dtype: str, device: str) -> str:
    """`auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    if dtype != "auto":
        if dtype not in DTYPES:
            raise UnusableOption(f"dtype {dtype}: use auto, {', '.join(DTYPES)}")
        return dtype
    if device.startswith("cuda") or (device == SPREAD and _cuda_devices()):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def first_line(error: Exception) -> str:
    """An error's first line: what a user can be shown."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
