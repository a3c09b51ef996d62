"""What a model is, by its bytes: scores are reused only under the very weights and tokenizer that made them."""

import glob
import os
from contextlib import suppress
from pathlib import Path

from gradsentry_lib.errors import UnusableModel
from gradsentry_lib.files import read_json, sha256_file, sha256_json, write_json

WEIGHTS = ("*.safetensors", "config.json")
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.*.json",  # of one version of transformers, instead of the one above
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "additional_chat_templates/*",
    "vocab.*",
    "merges.txt",
    "*.model",
)

VOCABULARY = ("tokenizer.json", "vocab.*", "*.model")  # one of them makes a tokenizer


def digests(folder: Path, gguf: str = "", base: Path | None = None, memo: Path | None = None) -> tuple[str, str]:
    """Fingerprints of a model's weights and of its tokenizer, hex. An adapter's (`base` given) are of both models.

    `gguf`: the one file in the folder that holds all. `memo`: see `fingerprint`.
    """
    if gguf:
        own = (glob.escape(gguf),)
        return fingerprint(folder, own, memo), fingerprint(folder, (*own, *TOKENIZER), memo)
    if base is None:
        return fingerprint(folder, WEIGHTS, memo), _tokenizer(folder, memo)
    weights = sha256_json([fingerprint(folder, ADAPTER, memo), fingerprint(base, WEIGHTS, memo)])
    return weights, _tokenizer(tokenizer_folder(folder, base), memo)


def tokenizer_folder(folder: Path, base: Path | None) -> Path:
    """Where the tokenizer lies: an adapter may bring one of its own."""
    own = any(True for pattern in VOCABULARY for _ in folder.glob(pattern))
    return folder if own or base is None else base


def _tokenizer(folder: Path, memo: Path | None) -> str:
    if not any(True for pattern in VOCABULARY for _ in folder.glob(pattern)):
        raise UnusableModel(f"{folder} holds no tokenizer (tokenizer.json): save the model's tokenizer beside it")
    return fingerprint(folder, TOKENIZER, memo)


def fingerprint(folder: Path, patterns: tuple[str, ...], memo: Path | None = None) -> str:
    """SHA-256 over the names and digests of a model folder's files that match `patterns`, hex.

    `memo`: a JSON file that remembers digests by (path, size, change time), since hashing a large model takes a while.
    The change time is the kernel's own (ctime): a program that edits a file cannot set it back. A memo that somebody
    else made, or may write to, is not believed.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not files:
        raise UnusableModel(
            f"{folder} holds none of {', '.join(patterns)}: not a model folder that GradSentry can read."
        )
    known = _remembered(memo)
    digests = {}
    fresh = False
    for path in files:
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_ctime_ns}|{stat.st_ino}"
        if key not in known:
            known[key] = sha256_file(path)
            fresh = True
        digests[path.relative_to(folder).as_posix()] = known[key]
    if fresh and memo is not None:
        with suppress(OSError):  # no room, or not ours to write: it only saves time
            write_json(memo, {key: digest for key, digest in known.items() if Path(key.rsplit("|", 3)[0]).exists()})
    return sha256_json(digests)


def _remembered(memo: Path | None) -> dict[str, str]:
    """Digests by path, size and change time. A file that is gone or damaged is made anew: it only saves time."""
    try:
        known = read_json(memo) if memo is not None and _is_ours(memo) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: digest for key, digest in known.items() if isinstance(digest, str) and len(digest) == 64}


def _is_ours(memo: Path) -> bool:
    """Whether nobody but this user can have written it."""
    told = memo.stat()
    return not hasattr(os, "geteuid") or (told.st_uid == os.geteuid() and not told.st_mode & 0o022)
