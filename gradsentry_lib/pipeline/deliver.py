"""Where finished files go: a folder, or a URL that fsspec writes to (s3, gs, az, sftp, ...).

Either way a scan replaces and removes what a scan of the same store wrote there, and nothing else. The store itself
stays on this machine (docs/decisions/0012-outputs-by-url-ledger-local.md).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.pipeline.fetch import located
from gradsentry_lib.pipeline.output_folder import NAMED, OutputFolder
from gradsentry_lib.pipeline.output_url import OutputUrl


def outputs_at(place: str, home: Path, source: str | Path | None, overwrite: bool = False) -> OutputFolder | OutputUrl:
    """The place for the files of a scan. `home`: the store; `source`: what is scanned (see `located`), None where it
    can't lie there; `overwrite`: replace what no scan of this store wrote, too, but never the source."""
    where = located(place)
    if isinstance(where, str):
        return OutputUrl(where, home, source if isinstance(source, str) else None, overwrite)
    return OutputFolder(where, home, source if isinstance(source, Path) and source.exists() else None, overwrite)


def deliver_batch(files: Mapping[str, Path], outputs: str, batch: str, home: Path, landing: str | None = None) -> str:
    """Copies a published batch's files into a folder of its name below `outputs`; gives that place.

    `landing`: where batches arrive. Raises UnusableOption where the results would arrive there as batches, InTheWay
    where what no scan of this store wrote lies in that folder.
    """
    below, arrive = located(outputs), located(landing) if landing else None
    if arrive is not None and f"{_whole(below)}/".startswith(f"{_whole(arrive)}/"):
        raise UnusableOption(
            f"outputs {outputs} lies in {landing}, where batches arrive: results would be taken for them"
        )
    place = f"{below}/{batch}"
    outputs_at(place, home, None).write(files)
    return place


def _whole(place: str | Path) -> str:
    return str(place.absolute()) if isinstance(place, Path) else place


@contextmanager
def earlier_results(place: str) -> Iterator[None]:
    """A scan that ends with an error in this block says which clean files lay in the place before it: who does not look
    at the exit code could take them for its result."""
    try:
        yield
    except BaseException as error:  # whatever ends it: a note is added, and it goes on
        if left := outputs_at(place, Path(), None).clean_names():
            error.add_note(f"{', '.join(left[:NAMED])} in {place} is older: not of this scan")
        raise
