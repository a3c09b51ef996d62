"""Taking in what arrives: a file in the landing folder becomes a batch, a partition and a run. One look is one tick."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath

import dagster as dg
from upath import UPath

from gradsentry_assets.arrivals import Landed, Landing, is_local, list_landing
from gradsentry_assets.folder import Refused
from gradsentry_assets.partitions import MAX_TOGETHER, range_tags
from gradsentry_assets.receiving import Arrival, CannotKeep, Changed, receive
from gradsentry_assets.resources import LandingResource, StoreResource
from gradsentry_assets.stage import Stage
from gradsentry_lib import settings
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.files import sha256_json
from gradsentry_lib.pipeline.ingest import load
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.system_errors import explain

SMALL = 1 << 20  # bytes: batches up to this size share a run, and so one load of the model
DELIVERY_SECONDS = 25  # of a tick; what is left is delivered in the next one (Dagster ends a tick after 60 s)
LARGE = 1 << 30  # bytes: what may take long to copy
TOLD_AT_ONCE = 50  # skipped arrivals whose reason is told in one tick; the rest in the next ones
SHOWN = 3  # of them in the line about a tick


def look(
    context: dg.SensorEvaluationContext, landing: LandingResource, store: StoreResource, stage: Stage
) -> dg.SensorResult:
    """One tick: list, deliver what is complete, ask for runs. The cursor holds all that has to be remembered."""
    root = landing.root_in(store.store)
    try:
        limit = settings.max_bytes()
        if is_local(root):
            root.mkdir(parents=True, exist_ok=True)
        listed = list_landing(root, landing.wanted, limit)
    except (GradSentryError, OSError) as error:
        return dg.SensorResult(skip_reason=one_line(f"cannot look into {root}: {error}", 500), cursor=context.cursor)
    state = Landing.from_cursor(context.cursor)
    ready = state.look(listed, need_marker=landing.needs_marker)
    known = dict.fromkeys(context.instance.get_dynamic_partitions(stage.batches))
    news = dict(_refused(state, listed))
    arrivals: list[Arrival] = []
    trouble = ""
    try:
        for file, outcome in _deliver(state, ready, root, landing, store, listed, known, limit):
            if isinstance(outcome, Refused):
                state.skip(file, str(outcome))
                news[file.url] = str(outcome)
                continue
            state.received(file, "" if outcome.failure else outcome.batch)
            context.log.info(one_line(f"{file.url}: {outcome.failure or f'batch {outcome.batch}'}"))
            arrivals.append(outcome)
    except CannotKeep as error:
        trouble = f"; {error}"
        context.log.error(one_line(str(error)))
    for url, reason in news.items():
        context.log.warning(one_line(f"skipped: {url} {reason}"))
    fresh = {arrival.batch: arrival for arrival in arrivals if _needs_run(arrival, known, store)}
    together, alone = _grouped(list(fresh.values()), known, stage.together)
    order = [arrival.batch for arrival in (*together, *alone) if arrival.batch not in known]
    waiting = sum(not state.is_settled(file.url) for file in ready) - sum(bool(a.failure) for a in arrivals)
    result = f"{len(listed)} files in {root}: {len(fresh)} new"
    result += f", {waiting} waiting to be complete" if waiting else ""
    batches = dg.DynamicPartitionsDefinition(name=stage.batches)
    return dg.SensorResult(
        run_requests=[*_shared_runs(together), *(_own_run(arrival) for arrival in alone)],
        dynamic_partitions_requests=[batches.build_add_request(order)] if order else [],
        skip_reason=None if fresh else one_line(result + _told(state.skipped()) + trouble),
        cursor=state.to_cursor(),
        asset_events=[_observation(stage, *entry) for entry in news.items()],
    )


def _refused(state: Landing, listed: Mapping[str, Landed]) -> Iterator[tuple[str, str]]:
    """What the listing refuses and nobody was told yet, at most TOLD_AT_ONCE; each is remembered as told."""
    new = (file for file in listed.values() if file.refusal and not state.is_settled(file.url))
    for file in islice(new, TOLD_AT_ONCE):
        state.skip(file, file.refusal)
        yield file.url, file.refusal


def _told(skipped: Mapping[str, str]) -> str:
    if not skipped:
        return ""
    some = "; ".join(f"{PurePosixPath(url).name[:100]} {reason}" for url, reason in islice(skipped.items(), SHOWN))
    return f", {len(skipped)} skipped: {some}{'; ...' if len(skipped) > SHOWN else ''}"


def _observation(stage: Stage, url: str, reason: str) -> dg.AssetObservation:
    """Shown among the events of `raw_samples`: what lay there and was not taken in."""
    metadata = {"skipped_arrival": one_line(url, 1000), "reason": one_line(reason, 500)}
    return dg.AssetObservation(stage.names.key("raw_samples"), description="An arrival was skipped.", metadata=metadata)


def _deliver(
    state: Landing,
    ready: Sequence[Landed],
    root: UPath,
    landing: LandingResource,
    store: StoreResource,
    present: Collection[str],
    known: Collection[str],
    limit: int,
) -> Iterator[tuple[Landed, Arrival | Refused]]:
    """Receives one file after the other until the tick's time is up. A large one gets a tick of its own: where copying
    it takes longer than Dagster lets a tick run, the others have been asked for before."""
    started = time.monotonic()
    for number, file in enumerate(sorted(ready, key=lambda file: file.bytes > LARGE)):
        if time.monotonic() - started > DELIVERY_SECONDS or (number and file.bytes > LARGE):
            return
        try:
            yield file, receive(file, root, store.store.home, present, known, limit, landing.told(file.url))
        except Changed:
            state.forget(file)
        except Refused as reason:
            yield file, reason
        except CannotKeep:
            raise
        except Exception as error:  # one file never stops the others
            if line := explain(error):
                raise CannotKeep(line) from error
            yield file, Refused(f"could not be taken in: {type(error).__name__}: {str(error)[:200]}")


def _needs_run(arrival: Arrival, known: Collection[str], store: StoreResource) -> bool:
    """A batch that is new; or one that was taken in, but whose run was lost before it read a row."""
    if arrival.batch not in known:
        return True
    return not arrival.failure and load(store.store, arrival.batch) is None


def _grouped(arrivals: Sequence[Arrival], known: Collection[str], sharing: bool) -> tuple[list[Arrival], list[Arrival]]:
    """Those that may share a run, and those that get one each: large, not readable, or not new."""
    together = [a for a in arrivals if a.usable and a.bytes <= SMALL and a.batch not in known]
    if len(together) < 2 or not sharing:
        together = []
    shared = {arrival.batch for arrival in together}
    return together, [arrival for arrival in arrivals if arrival.batch not in shared]


def _shared_runs(arrivals: Sequence[Arrival]) -> Iterator[dg.RunRequest]:
    """Runs over neighbouring partitions: they are added in this order."""
    for start in range(0, len(arrivals), MAX_TOGETHER):
        some = arrivals[start : start + MAX_TOGETHER]
        content = sha256_json([[arrival.batch, arrival.sha256] for arrival in some])
        tags = {**range_tags(some[0].batch, some[-1].batch), "gradsentry/batches": str(len(some))}
        yield dg.RunRequest(run_key=content, tags=tags)


def _own_run(arrival: Arrival) -> dg.RunRequest:
    # The key carries the content's digest: the same content is asked for once, whatever happens to the cursor.
    return dg.RunRequest(run_key=f"{arrival.batch}:{arrival.sha256}", partition_key=arrival.batch)
