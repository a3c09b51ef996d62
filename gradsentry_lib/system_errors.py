"""What the machine refuses (space, memory, permission), in one line each that says the way back.

Nothing is lost by any of them: what was finished stays, what was not is not there, and the same command goes on.
"""

import errno
import re

from gradsentry_lib.errors import MachineTrouble

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]

AGAIN = "nothing that was finished is lost, the same command goes on from there"
ADDRESSES = 1200 << 20  # bytes of address space that the libraries take before a model is loaded, measured
_SPACE = {errno.ENOSPC, errno.EDQUOT}
_LOCKED = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL = re.compile(r"no space left on device|disk quota exceeded|could not write|failed to write", re.IGNORECASE)
_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|bad_alloc|malloc of size|"
    r"failed to allocate|could not allocate|mmap failed|failed to map|can't start new thread|"
    r"failed to map segment|resource temporarily unavailable",
    re.IGNORECASE,
)


def explain(error: BaseException) -> str | None:
    """One line for whoever has to free something; None for an error that is not the machine's but the program's."""
    if isinstance(error, OSError) and error.errno in _LOCKED:
        return f"can't read or write: {_about(error)}; check the permissions, or set GRADSENTRY_HOME; {AGAIN}"
    for cause in _chain(error):
        said = str(cause)
        if isinstance(cause, MemoryError) or _MEMORY.search(said):
            return (
                f"there is not enough memory ({_first(said) or 'allocation failed'}): close other programs, raise the "
                f"limit, or take a smaller model or --token-budget; {AGAIN}"
            )
        if (isinstance(cause, OSError) and cause.errno in _SPACE) or (_is_native(cause) and _FULL.search(said)):
            return f"the disk is full ({_about(cause)}): free some space; {AGAIN}"
        if isinstance(cause, OSError) and cause.errno == errno.EIO:
            return f"the disk fails ({_about(cause)}): check the device before anything is written to it again"
    return None


def check_addresses() -> None:
    """Raises MachineTrouble where this process may map less than the libraries of a scan need for themselves: they
    would end it by a signal, without a word."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    if resource and limit != resource.RLIM_INFINITY and limit < ADDRESSES:
        raise MachineTrouble(
            f"there is not enough memory: this process may take {limit >> 20:,} MiB of addresses (ulimit -v), the "
            f"libraries alone take {ADDRESSES >> 20:,}; raise the limit"
        )


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _is_native(error: BaseException) -> bool:
    """Raised by a library that writes files by itself."""
    return type(error).__module__.partition(".")[0] in (
        "duckdb",
        "_duckdb",
        "pyarrow",
        "safetensors",
        "safetensors_rust",
    )


def _about(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename is not None else "")
    return _first(str(error))


def _first(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:200]
