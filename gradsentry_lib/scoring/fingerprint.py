"""What a model is, by its bytes: scores are reused only under the very weights and tokenizer that made them."""

from pathlib import Path

from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import read_json, sha256_file, sha256_json, write_json

WEIGHTS = ("*.safetensors", "config.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "vocab.*",
    "merges.txt",
    "*.model",
)


def fingerprint(folder: Path, patterns: tuple[str, ...], memo: Path | None = None) -> str:
    """SHA-256 over the names and digests of a model folder's files that match `patterns`, hex.

    `memo`: a JSON file that remembers digests by (path, size, change time), since hashing a large model takes a while.
    The change time is the kernel's own (ctime): a program that edits a file cannot set it back.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not files:
        raise BadInput(f"{folder} holds none of {', '.join(patterns)}: not a model folder that GradSentry can read.")
    known = _remembered(memo)
    digests = {}
    fresh = False
    for path in files:
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_ctime_ns}|{stat.st_ino}"
        if key not in known:
            known[key] = sha256_file(path)
            fresh = True
        digests[path.name] = known[key]
    if fresh and memo is not None:
        write_json(memo, known)
    return sha256_json(digests)


def _remembered(memo: Path | None) -> dict[str, str]:
    """Digests by path, size and change time. A file that is gone or damaged is made anew: it only saves time."""
    try:
        known = read_json(memo) if memo is not None else {}
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: digest for key, digest in known.items() if isinstance(digest, str) and len(digest) == 64}
