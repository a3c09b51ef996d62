"""The sensor that takes in what arrives: a file in the landing folder becomes a batch, a partition and a run."""

import time
from collections.abc import Collection, Iterator, Sequence

import dagster as dg

from gradsentry_assets.arrivals import Landed, Landing, list_landing
from gradsentry_assets.jobs import scan_batch
from gradsentry_assets.partitions import BATCHES, MAX_TOGETHER, range_tags
from gradsentry_assets.receiving import Arrival, Vanished, receive
from gradsentry_assets.resources import LandingResource, StoreResource
from gradsentry_lib.files import sha256_json
from gradsentry_lib.report.escape import one_line

SMALL = 1 << 20  # bytes: batches up to this size share a run, and so one load of the model
DELIVERY_SECONDS = 25  # of a tick; what is left is delivered in the next one (Dagster ends a tick after 60 s)


@dg.sensor(
    job=scan_batch,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Takes in files that appear in the landing folder (GRADSENTRY_LANDING, else `landing` in the store). "
        "A file is taken in when two looks in a row find it unchanged."
    ),
)
def landing(
    context: dg.SensorEvaluationContext, landing_folder: LandingResource, store: StoreResource
) -> dg.SensorResult:
    return look(context, landing_folder, store)


def look(context: dg.SensorEvaluationContext, landing: LandingResource, store: StoreResource) -> dg.SensorResult:
    """One tick: list, deliver what is complete, ask for runs. The cursor holds all that has to be remembered."""
    root = landing.root
    if root.protocol in ("", "file"):
        root.mkdir(parents=True, exist_ok=True)
    listed = list_landing(root, landing.wanted)
    state = Landing.from_cursor(context.cursor)
    ready = state.look(listed, need_marker=landing.needs_marker)
    known = dict.fromkeys(context.instance.get_dynamic_partitions(str(BATCHES.name)))
    arrivals = list(_deliver(context, state, ready, landing, store, listed.keys(), known))
    fresh = {arrival.batch: arrival for arrival in arrivals if _needs_run(arrival, known, store)}
    together, alone = _grouped(list(fresh.values()), known)
    order = [arrival.batch for arrival in (*together, *alone) if arrival.batch not in known]
    waiting = len(ready) - len(arrivals)
    result = f"{len(listed)} files in {root}: {len(fresh)} new"
    return dg.SensorResult(
        run_requests=[*_shared_runs(together), *(_own_run(arrival) for arrival in alone)],
        dynamic_partitions_requests=[BATCHES.build_add_request(order)] if order else [],
        skip_reason=None if fresh else f"{result}, {waiting} waiting to be complete" if waiting else result,
        cursor=state.to_cursor(),
    )


def _deliver(
    context: dg.SensorEvaluationContext,
    state: Landing,
    ready: Sequence[Landed],
    landing: LandingResource,
    store: StoreResource,
    present: Collection[str],
    known: Collection[str],
) -> Iterator[Arrival]:
    """Receives one file after the other until the tick's time is up, and remembers each in the state."""
    started = time.monotonic()
    for file in ready:
        if time.monotonic() - started > DELIVERY_SECONDS:
            return
        try:
            arrival = receive(file, landing.root, store.store.home, present, known)
        except Vanished:
            state.forget(file)
            continue
        state.received(file, "" if arrival.failure else arrival.batch)
        context.log.info(one_line(f"{file.url}: {arrival.failure or f'batch {arrival.batch}'}"))
        yield arrival


def _needs_run(arrival: Arrival, known: Collection[str], store: StoreResource) -> bool:
    """A batch that is new; or one that was taken in, but whose run was lost before it read a row."""
    if arrival.batch not in known:
        return True
    return not arrival.failure and not (store.store.home / "batches" / arrival.batch / "batch.json").exists()


def _grouped(arrivals: Sequence[Arrival], known: Collection[str]) -> tuple[list[Arrival], list[Arrival]]:
    """Those that may share a run, and those that get one each: large, not readable, or not new."""
    together = [a for a in arrivals if a.usable and a.bytes <= SMALL and a.batch not in known]
    if len(together) < 2:
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
