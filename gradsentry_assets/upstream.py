"""What somebody's asset, or a file of theirs, hands to a stage, as a file that the reader opens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from gradsentry_assets.sources import PLACE, File, Upstream
from gradsentry_assets.stage import Stage, entry_of
from gradsentry_lib.api.incoming import bring_in
from gradsentry_lib.errors import NotFound, UnusableInput, UnusableOption
from gradsentry_lib.store.paths import Store


def bring_in_source(
    stage: Stage, instance: dg.DagsterInstance, partition: str | None, data: Any, store: Store
) -> tuple[str, str]:
    """The file to read and, for people, where it comes from. `data`: what their I/O manager gave.

    Raises NotFound where the asset names no file yet, UnusableInput where the data are nothing that can be scanned.
    """
    source = stage.source
    if isinstance(source, File):
        url = _placed(source.url, partition)
        return as_file(url, store), url
    assert isinstance(source, Upstream)
    origin = source.asset.to_user_string()
    if not source.file:
        name = f"{source.asset.path[-1]}-{partition}" if partition else source.asset.path[-1]
        return as_file(_one_set(data) if type(data) is dict and not partition else data, store, name), origin
    named = entry_of(instance, source.asset, partition, source.file)
    if named is None:
        raise NotFound(
            f"the last materialization of {origin} has no entry {source.file!r} that names its file: "
            "materialize it first, or have it add one with dg.MaterializeResult(metadata=...)"
        )
    return as_file(str(named), store), f"{origin}: {named}"


def as_file(data: Any, store: Store, name: str = "data") -> str:
    """Data of any kind that a scan takes, as the name of a file. Raises UnusableInput."""
    source = bring_in(data, store, name).source
    return source if isinstance(source, str) else str(source.path)


def _one_set(shards: Mapping[str, Any]) -> Any:
    """The rows of all partitions of their asset, which a stage without partitions is given by key, in the partitions'
    order: what they hold together is judged together. Raises UnusableInput where they can't be one table."""
    import pyarrow as pa

    parts = list(shards.values())
    if all(isinstance(part, list | tuple) for part in parts):
        return [row for part in parts for row in part]
    try:
        tables = [
            pa.Table.from_pandas(part, preserve_index=False)
            if type(part).__module__.partition(".")[0] == "pandas"
            else pa.table(part)
            for part in parts
        ]
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UnusableInput(
            f"the partitions {', '.join(map(str, shards))[:200]} can't be read as one set ({str(error)[:200]}): hand "
            "over frames or lists of rows with the same columns, or give the stage their partitions"
        ) from error


def _placed(url: str, partition: str | None) -> str:
    """The file of a partition. A key can't lead out of the folder that was named."""
    if PLACE not in url:
        return url
    if not partition:
        raise UnusableOption(f"{url} names a file for each partition, but the stage has no partitions: give some")
    if Path(partition).name != partition or partition in (".", ".."):
        raise UnusableOption(f"the partition {partition!r} can't be part of a file's name")
    return url.replace(PLACE, partition)
