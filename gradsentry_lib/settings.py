"""What the environment says. Options given on the command line or to a Dagster resource come first."""

import os
import re
from pathlib import Path

from gradsentry_lib.errors import BadInput

EMBEDDED = "embedded"  # the name of the model that the project brings along
MAX_BYTES = 64 << 30  # of text in one source, unpacked


def home() -> Path:
    """The store: ledger, batches, score cache. `GRADSENTRY_HOME`, else `.gradsentry` in the working directory."""
    return Path(os.environ.get("GRADSENTRY_HOME") or ".gradsentry").absolute()


def landing() -> str:
    """Where batches arrive: a path or an fsspec URL. `GRADSENTRY_LANDING`, else `landing` in the store."""
    return os.environ.get("GRADSENTRY_LANDING") or str(home() / "landing")


def model() -> str:
    """The scoring model: a folder, a hub name, or `embedded`. `GRADSENTRY_MODEL`."""
    return os.environ.get("GRADSENTRY_MODEL") or EMBEDDED


def device() -> str:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `spread`. `GRADSENTRY_DEVICE`."""
    return os.environ.get("GRADSENTRY_DEVICE") or "auto"


def watched() -> str:
    """What becomes of watched rows: `keep` or `quarantine`. `GRADSENTRY_WATCHED`."""
    return os.environ.get("GRADSENTRY_WATCHED") or "keep"


def review_port() -> int:
    """Where `gradsentry review` listens, and where the UI's links point. `GRADSENTRY_REVIEW_PORT`. Raises BadInput."""
    told = os.environ.get("GRADSENTRY_REVIEW_PORT") or "8765"
    if not told.isdigit() or not 0 < int(told) < 65536:
        raise BadInput(f"GRADSENTRY_REVIEW_PORT is to be a port, not {told!r}")
    return int(told)


def max_memory() -> dict[int | str, str] | None:
    """With the device `spread`: how much of each GPU (0, 1, ...) and of main memory (`cpu`) the model may take.

    `GRADSENTRY_MAX_MEMORY`, such as `0=20GiB,cpu=40GiB`; None: what is free. Raises BadInput.
    """
    told = os.environ.get("GRADSENTRY_MAX_MEMORY")
    if not told:
        return None
    found: dict[int | str, str] = {}
    for item in told.split(","):
        match = re.fullmatch(r"\s*(\d+|cpu)\s*=\s*(\d+(?:\.\d+)?\s*[KMG]i?B)\s*", item)
        if match is None:
            raise BadInput(f"GRADSENTRY_MAX_MEMORY: write 0=20GiB,cpu=40GiB, not {item!r}")
        place, size = match.groups()
        found[place if place == "cpu" else int(place)] = size
    return found


def cache() -> Path:
    """Where the embedded model is kept, shared by all checkouts. `GRADSENTRY_CACHE`, else the user's cache folder."""
    base = os.environ.get("GRADSENTRY_CACHE")
    if base:
        return Path(base).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradsentry"


def max_bytes() -> int:
    """The largest source that is read, in bytes of text once unpacked. `GRADSENTRY_MAX_BYTES`, else 64 GiB."""
    return parse_bytes(os.environ.get("GRADSENTRY_MAX_BYTES") or str(MAX_BYTES), "GRADSENTRY_MAX_BYTES")


def parse_bytes(text: str, name: str) -> int:
    """A number of bytes as people write it: `500000`, `20 GB`, `64GiB`. Raises `BadInput` that names the setting."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?\s*", text, re.IGNORECASE)
    if not found:
        raise BadInput(f"{name} is to be a number of bytes, such as 20GB, not {text!r}")
    power = " kmgt".index((found[2] or " ").lower())
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)
