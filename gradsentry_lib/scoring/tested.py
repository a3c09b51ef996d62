"""What the self-tests of the scorer's short cuts found, kept: once for a model, versions and kind of processor.

Nothing is taken that was not tried on this very combination. Packed rows (packed_attention.py), reused prefixes
(reuse.py) and the written-out model (plain_model.py) are each compared with padded rows under transformers; the
averages of the projection (sketch.py) are made on the way. The result is a small file named by the digest of all that
it depends on, which the file repeats. One that is torn, of another combination, or that somebody else may write to is
not believed: the tests are made again.

What is trusted: whoever may write to this folder as its owner. The same can exchange the program itself.
"""

import logging
import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry_lib import settings
from gradsentry_lib.files import read_json, sha256_json, write_json
from gradsentry_lib.scoring.identity import ModelIdentity

log = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
SWITCHES = ("ATEN_", "CUBLAS_", "DNNL_", "MKL_", "NVIDIA_TF32", "ONEDNN_", "TORCH_")  # change how products are made
COUNTS = ("MKL_NUM_THREADS",)  # of threads: no test depends on it
UNLIMITED = 1 << 30  # tokens: no limit to `past_limit`
MOST = 200  # results kept; the oldest give way


@dataclass(frozen=True)
class Tested:
    """`packed`: rows may be laid end to end. `past_limit`: forward.py. `written_out`: model and tokenizer may be the
    written-out ones. `usual` (D,) float32 and `price`: sketch.py."""

    packed: bool
    past_limit: int
    written_out: bool
    usual: np.ndarray
    price: float

    def to_dict(self) -> dict[str, Any]:
        told = {"packed": self.packed, "past_limit": self.past_limit, "written_out": self.written_out}
        return told | {"usual": self.usual.astype("<f4").tobytes().hex(), "price": self.price}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Tested":
        """Raises KeyError, TypeError or ValueError for what `to_dict` did not make."""
        usual = np.frombuffer(bytes.fromhex(told["usual"]), "<f4")
        flags = (told["packed"], told["written_out"])
        whole = all(isinstance(flag, bool) for flag in flags) and type(told["past_limit"]) is int
        if not (whole and isinstance(told["price"], float) and told["price"] > 0 and np.isfinite(usual).all()):
            raise ValueError("no result of a test")
        if told["written_out"] and not (told["packed"] and told["past_limit"] > 0):
            raise ValueError("no result of a test")
        return cls(told["packed"], told["past_limit"], told["written_out"], usual, told["price"])


def combination(identity: ModelIdentity) -> dict[str, Any]:
    """All that a result depends on."""
    return {
        "model": identity.fingerprint,
        "dtype": identity.dtype,
        "software": software(),
        "processor": processor(identity.device),
        "switches": switches(),
    }


def switches() -> dict[str, str]:
    return {k: v for k, v in sorted(os.environ.items()) if k.startswith(SWITCHES) and k not in COUNTS}


@cache
def software() -> dict[str, str]:
    """Versions; of this project the code that is tested and that tests, by its bytes."""
    own = sha256_json({path.name: path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")})
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in PACKAGES}, "scoring": own}


@cache
def processor(device: str) -> dict[str, str]:
    """Its kind: what it is called and what it can do."""
    if device.startswith("cuda"):
        import torch

        number = torch.device(device)
        capability = ".".join(map(str, torch.cuda.get_device_capability(number)))
        return {"kind": "cuda", "name": torch.cuda.get_device_name(number), "can": f"{capability} {torch.version.cuda}"}
    told = {"kind": device, "name": platform.processor() or platform.machine(), "can": sys.platform}
    with suppress(OSError):
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        for name, _, value in lines:
            key = {"model name": "name", "flags": "can", "Features": "can"}.get(name.strip())
            if key:
                told[key] = " ".join(sorted(value.split())) if key == "can" else value.strip()
    return told


def recall(identity: ModelIdentity) -> Tested | None:
    """What is known of this combination; None where it is to be tested."""
    wanted = combination(identity)
    path = _path(wanted)
    if not path.exists():
        return None
    found = _believed(path)
    if found is None or found["combination"] != wanted:
        log.warning("What is kept of the self-tests in %s is not to be believed: testing again.", path)
        return None
    return Tested.of(found["found"])


def keep(identity: ModelIdentity, tested: Tested) -> None:
    """Writes a result down; where that can't be done the next process tests again."""
    wanted, now = combination(identity), datetime.now(UTC).isoformat(timespec="seconds")
    told = {"combination": wanted, "name": identity.name, "found": tested.to_dict(), "made_at": now}
    path = _path(wanted)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(path, told | {"sha256": sha256_json(told)})
        for old in sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-MOST]:
            old.unlink(missing_ok=True)


def forget(identity: ModelIdentity) -> None:
    """Has this combination tested anew."""
    _path(combination(identity)).unlink(missing_ok=True)


def all_kept() -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Every result that is kept, None for one that is not believed."""
    for path in sorted(settings.tested().glob("*.json")):
        yield path, _believed(path)


def _path(wanted: Mapping[str, Any]) -> Path:
    return settings.tested() / f"{sha256_json(wanted)}.json"


def _believed(path: Path) -> dict[str, Any] | None:
    """What a file says, if it is whole, and its owner's alone to write."""
    try:
        if not (owned(path) and owned(path.parent)):
            return None
        told = read_json(path)
        said = told.pop("sha256")
        Tested.of(told["found"])
        whole = sha256_json(told) == said and sha256_json(told["combination"]) == path.stem
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return told if whole else None


def owned(path: Path) -> bool:
    """Whether nobody but its owner may write there, and that is this user or root."""
    if not hasattr(os, "geteuid"):
        return True
    told = path.lstat()
    if stat.S_ISLNK(told.st_mode) or told.st_uid not in (0, os.geteuid()):
        return False
    return not told.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
