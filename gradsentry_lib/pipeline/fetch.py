"""A source that lies at a URL (s3, gs, az, https, ...), fetched into the store before anything is read of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from gradsentry_lib import settings
from gradsentry_lib.errors import BadInput, UnusableInput
from gradsentry_lib.files import sha256_file, workshop
from gradsentry_lib.samples.container import too_large
from gradsentry_lib.store.paths import Store

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "'gradsentry[s3]'"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
}


def is_url(source: str) -> bool:
    return URL.match(source) is not None


def located(place: str) -> str | Path:
    """Where that is: a URL on another machine as it stands, anything else as a path (also `file://...`)."""
    if not is_url(place):
        return Path(place).expanduser()
    if place.partition(":")[0].lower() in ("file", "local"):
        from upath import UPath

        return Path(UPath(place).path)
    return place.rstrip("/")


def fetch(url: str, store: Store) -> Path:
    """Copies one file from any address that fsspec reads into the store, under its digest. Raises UnusableInput."""
    name = re.sub(r"[^\w.-]+", "-", PurePosixPath(url.partition("?")[0]).name).strip(".-")[:150] or "data"
    limit = settings.max_bytes()
    with (
        workshop(store.given) as folder,
        remote(url) as place,
        place.open("rb") as read,
        (folder / name).open("wb") as to,
    ):
        while block := read.read(1 << 20):
            to.write(block)
            if to.tell() > limit:
                raise UnusableInput(too_large(url, to.tell(), limit))
        to.flush()
        return keep(folder / name, store, name)


def keep(made: Path, store: Store, name: str) -> Path:
    """Moves a file made in a workshop of `store.given` under its digest there: the same bytes are one file."""
    place = store.given / sha256_file(made)[:16] / name
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        made.rename(place)
    return place


@contextmanager
def remote(url: str, kind: type[BadInput] = UnusableInput) -> Iterator[Any]:
    """A place on another machine, as a UPath. What goes wrong with it, of whatever client, is one line: a `kind`."""
    from upath import UPath

    scheme = url.partition(":")[0].lower()
    try:
        yield UPath(url)
    except BadInput:
        raise
    except ImportError as error:
        package = PACKAGES.get(scheme)
        raise kind(f"{url}: {scheme} needs another package{f': pip install {package}' * bool(package)}") from error
    except Exception as error:  # each client raises kinds of its own
        raise kind(f"can't reach {url}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error
