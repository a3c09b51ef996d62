"""One partition a batch, made as files arrive; and steps that take many small batches in one run."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import dagster as dg

from gradsentry_assets.dagster_private import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from gradsentry_lib.errors import GradSentryError, MachineTrouble, NotJudgedYet
from gradsentry_lib.files import sha256_json
from gradsentry_lib.pipeline.score import Progress
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.store.paths import Store
from gradsentry_lib.system_errors import explain

BATCHES = dg.DynamicPartitionsDefinition(name="batches")
TOGETHER = dg.BackfillPolicy.single_run()  # a run over many partitions loads the model once
MAX_TOGETHER = 50  # batches in one run
LOG_EVERY = 10.0  # seconds between two lines of progress

Events = Iterator[dg.MaterializeResult | dg.AssetMaterialization]


class Outcome(NamedTuple):
    """What a step made of one batch: the metadata to show, and the digest of the result (its data version)."""

    metadata: dict[str, Any]
    version: str


def each_batch(context: dg.AssetExecutionContext, store: Store, step: Callable[[str], Outcome]) -> Events:
    """Runs a step on every batch of this run.

    A batch that fails does not take the others with it: those are materialized, then the step fails and names the
    failed ones, whose partitions stay unmaterialized. What a user has to put right is not retried.
    """
    done: dict[str, Outcome] = {}
    failed: dict[str, GradSentryError] = {}
    for batch in context.partition_keys:
        try:
            with store.alone(batch):
                done[batch] = step(batch)
        except GradSentryError as error:
            failed[batch] = error
        except Exception as error:  # what the machine refused is told in a line; all else is raised
            if (line := explain(error)) is None:
                raise
            failed[batch] = MachineTrouble(line)
    if not failed:
        for batch, outcome in done.items():
            context.add_asset_metadata(outcome.metadata, asset_key=context.asset_key, partition_key=batch)
        # A run has one data version for all its batches: it changes when any of them does.
        versions = [outcome.version for outcome in done.values()]
        version = versions[0] if len(versions) == 1 else sha256_json(versions)
        yield dg.MaterializeResult(data_version=dg.DataVersion(version))
        return
    for batch, outcome in done.items():
        tags = {"dagster/data_version": outcome.version, "dagster/data_version_is_user_provided": "true"}
        yield dg.AssetMaterialization(context.asset_key, partition=batch, metadata=outcome.metadata, tags=tags)
    raise refusal(failed, of=len(context.partition_keys))


def refusal(failed: dict[str, GradSentryError], of: int) -> dg.Failure:
    """One line a failed batch; what kind of failure it is, and what to do, from the errors' classes."""
    lines = [f"{batch}: {one_line(str(error))}" for batch, error in failed.items()]
    heading = f"{len(failed)} of {of} batches failed.\n" if of > 1 else ""
    kinds = dict.fromkeys(type(error) for error in failed.values())
    metadata = {"what happened": "; ".join(kind.title for kind in kinds)}
    metadata |= {"what to do": "; ".join(kind.advice for kind in kinds), "kind": ", ".join(k.__name__ for k in kinds)}
    again = any(kind.retry for kind in kinds)
    return dg.Failure(heading + "\n".join(lines), metadata=metadata, allow_retries=again)


def handed_over(instance: dg.DagsterInstance, asset: str, batch: str, entry: str) -> str:
    """A metadata entry of an upstream asset's last materialization for this batch. Raises NotJudgedYet."""
    asked = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[batch])
    records = instance.fetch_materializations(asked, limit=1).records
    materialization = records[0].asset_materialization if records else None
    if materialization is None or entry not in materialization.metadata:
        raise NotJudgedYet(f"{asset} was not materialized for batch {batch}: materialize it first")
    return str(materialization.metadata[entry].value)


def progress_log(context: dg.AssetExecutionContext, batch: str) -> Callable[[Progress], None]:
    """Writes a line into the run's log every ten seconds, with rate and what is left."""
    last = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY:
            last = time.monotonic()
            left = "" if progress.eta is None else f", {progress.eta:.0f} s left"
            context.log.info(f"{batch}: {progress.done} of {progress.total} rows, {progress.rate:.1f} rows/s{left}")

    return tell


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make one run materialize every partition from `first` to `last`, in the order they were added."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def neighbours(keys: Sequence[str], chosen: set[str]) -> Iterator[list[str]]:
    """The chosen ones among `keys`, as groups that stand side by side, each at most MAX_TOGETHER long."""
    together: list[str] = []
    for key in keys:
        if together and (key not in chosen or len(together) == MAX_TOGETHER):
            yield together
            together = []
        if key in chosen:
            together.append(key)
    if together:
        yield together
