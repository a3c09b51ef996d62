"""Steps that take many small batches in one run, a partition each; or one that has no partitions."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from gradsentry_assets.dagster_private import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from gradsentry_assets.stage import TAG, Stage
from gradsentry_lib.errors import GradSentryError, MachineTrouble
from gradsentry_lib.files import sha256_json
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.system_errors import explain

if TYPE_CHECKING:
    from gradsentry_lib.pipeline.score import Progress

MAX_TOGETHER = 50  # batches in one run
LOG_EVERY = 10.0  # seconds between two lines of progress

Said = dg.AssetCheckResult | dg.AssetCheckEvaluation | dg.Output  # of a check
Events = Iterator[dg.MaterializeResult | dg.AssetMaterialization]


class Outcome(NamedTuple):
    """What a step made of one batch: the metadata to show, the digest of the result (its data version), and what its
    I/O manager is to keep, where there is anything."""

    metadata: dict[str, Any]
    version: str
    value: Any = None


def partitions_in(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, stage: Stage) -> list[str | None]:
    """The partitions of this run; None alone where the stage has none, whatever else runs with it."""
    return list(context.partition_keys) if stage.partitions_def is not None else [None]


def each_partition(context: dg.AssetExecutionContext, stage: Stage, step: Callable[[str | None], Outcome]) -> Events:
    """Runs a step on every partition of this run, or on None where the stage has none.

    A batch that fails does not take the others with it: those are materialized, then the step fails and names the
    failed ones, whose partitions stay unmaterialized. What a user has to put right is not retried.
    """
    partitions = partitions_in(context, stage)
    done: dict[str | None, Outcome] = {}
    failed: dict[str | None, GradSentryError] = {}
    for partition in partitions:
        try:
            done[partition] = step(partition)
        except GradSentryError as error:
            failed[partition] = error
        except Exception as error:  # what the machine refused is told in a line; all else is raised
            if (line := explain(error)) is None:
                raise
            failed[partition] = MachineTrouble(line)
    if not failed:
        for partition, outcome in done.items():
            more = {"partition_key": partition} if partition else {}
            context.add_asset_metadata(outcome.metadata, asset_key=context.asset_key, **more)
        # A run has one data version for all its batches: it changes when any of them does.
        outcomes = list(done.values())
        version = outcomes[0].version if len(outcomes) == 1 else sha256_json([each.version for each in outcomes])
        value = {} if outcomes[0].value is None else {"value": outcomes[0].value}
        yield dg.MaterializeResult(data_version=dg.DataVersion(version), **value)
        return
    for partition, outcome in done.items():
        tags = {"dagster/data_version": outcome.version, "dagster/data_version_is_user_provided": "true"}
        yield dg.AssetMaterialization(context.asset_key, partition=partition, metadata=outcome.metadata, tags=tags)
    raise refusal(failed, of=len(partitions))


def tag_run(context: dg.AssetExecutionContext, stage: Stage, **said: str) -> None:
    """Which batch and which decision a run is about, to find it by; a run over many is about none alone."""
    if len(partitions_in(context, stage)) == 1:
        tags = {f"{TAG}{stage.names.of(name)}": value for name, value in said.items()}
        context.instance.add_run_tags(context.run_id, tags)


def by_partition(spec: dg.AssetCheckSpec, found: Mapping[str | None, dg.AssetCheckResult]) -> Iterator[Said]:
    """What one check says of each partition of a run, told of that partition alone."""
    if len(found) == 1:  # Dagster knows which
        yield from found.values()
        return
    for partition, one in found.items():
        yield dg.AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=one.passed,
            metadata=one.metadata or {},
            severity=one.severity,
            description=one.description,
            blocking=spec.blocking,
            partition=partition,
        )
    yield dg.Output(None, output_name=spec.get_python_identifier())


def refusal(failed: Mapping[Any, GradSentryError], of: int) -> dg.Failure:
    """One line a failed batch; what kind of failure it is, and what to do, from the errors' classes."""
    lines = [f"{f'{batch}: ' if batch else ''}{one_line(str(error))}" for batch, error in failed.items()]
    heading = f"{len(failed)} of {of} batches failed.\n" if of > 1 else ""
    kinds = dict.fromkeys(type(error) for error in failed.values())
    metadata = {"what happened": "; ".join(kind.title for kind in kinds)}
    metadata |= {"what to do": "; ".join(kind.advice for kind in kinds), "kind": ", ".join(k.__name__ for k in kinds)}
    again = any(kind.retry for kind in kinds)
    return dg.Failure(heading + "\n".join(lines), metadata=metadata, allow_retries=again)


def progress_log(context: dg.AssetExecutionContext, batch: str) -> "Callable[[Progress], None]":
    """Writes a line into the run's log every ten seconds, with rate and what is left."""
    last = time.monotonic()

    def tell(progress: "Progress") -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY:
            last = time.monotonic()
            left = "" if progress.eta is None else f", {progress.eta:.0f} s left"
            context.log.info(f"{batch}: {progress.done} of {progress.total} rows, {progress.rate:.1f} rows/s{left}")

    return tell


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make one run materialize every partition from `first` to `last`, in the order they were added."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def neighbours(keys: Sequence[str], chosen: set[str], most: int = MAX_TOGETHER) -> Iterator[list[str]]:
    """The chosen ones among `keys`, as groups that stand side by side, each at most `most` long."""
    together: list[str] = []
    for key in keys:
        if together and (key not in chosen or len(together) == most):
            yield together
            together = []
        if key in chosen:
            together.append(key)
    if together:
        yield together
