"""A source that lies at a URL (s3, gs, az, https, ...), fetched into the store before anything is read of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from gradsentry_lib import settings
from gradsentry_lib.errors import BadInput, UnusableInput
from gradsentry_lib.files import workshop
from gradsentry_lib.samples.container import too_large
from gradsentry_lib.samples.shards import known_suffix
from gradsentry_lib.samples.source import digest
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
    """Copies a file, or the data files below a prefix, from any address that fsspec reads into the store, under its
    digest. Raises UnusableInput."""
    name = re.sub(r"[^\w.-]+", "-", PurePosixPath(url.partition("?")[0]).name).strip(".-")[:150] or "data"
    with workshop(store.given) as folder, remote(url) as place:
        made = folder / name
        if url.partition(":")[0].lower() not in ("http", "https") and place.fs.isdir(place.path):
            _copy_shards(place, url, made)
        else:
            _copy_file(place, url, made)
        return keep(made, store, name)


def _copy_file(place: Any, url: str, made: Path) -> None:
    limit = settings.max_bytes()
    with place.open("rb") as read, made.open("wb") as to:
        while block := read.read(1 << 20):
            to.write(block)
            if to.tell() > limit:
                raise UnusableInput(too_large(url, to.tell(), limit))


def _copy_shards(place: Any, url: str, made: Path) -> None:
    """As many at a time as the client of that address takes. What is hidden is left out, `..` too."""
    found = {path: PurePosixPath(path.removeprefix(place.path).strip("/")) for path in place.fs.find(place.path)}
    wanted = {
        path: str(made / below)
        for path, below in found.items()
        if known_suffix(below.name) and not any(part[0] in "._" for part in below.parts)
    }
    size, limit = sum(place.fs.sizes(list(wanted))), settings.max_bytes()
    if size > limit:
        raise UnusableInput(too_large(url, size, limit))
    made.mkdir()
    place.fs.get(list(wanted), list(wanted.values()))


def keep(made: Path, store: Store, name: str) -> Path:
    """Moves a file or folder made in a workshop of `store.given` under its digest there: the same bytes lie there
    once."""
    place = store.given / digest(made, "dataset")[:16] / name
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
