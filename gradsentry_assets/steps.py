"""What the four assets do: each is one step of `gradsentry_lib.pipeline`, on one batch at a time.

Imported when a step runs, not when Dagster loads the code location: it imports what reads and judges data.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from gradsentry_assets import presentation
from gradsentry_assets.clean_value import as_value
from gradsentry_assets.columns import of_table
from gradsentry_assets.partitions import Events, Outcome, each_partition, progress_log, tag_run
from gradsentry_assets.receiving import find_arrival
from gradsentry_assets.resources import JudgingResource, ModelResource, ReadingResource
from gradsentry_assets.sources import Folder, Upstream
from gradsentry_assets.stage import Stage
from gradsentry_assets.upstream import bring_in_source
from gradsentry_lib import settings
from gradsentry_lib.errors import DamagedStore, NotFound, NotJudgedYet, SourceChanged, UnusableInput
from gradsentry_lib.files import sha256_json
from gradsentry_lib.pipeline.decide import decide, settle
from gradsentry_lib.pipeline.decided import load_decided, load_evidence
from gradsentry_lib.pipeline.deliver import deliver_batch
from gradsentry_lib.pipeline.ingest import Ingested, ingest, load
from gradsentry_lib.pipeline.naming import batch_key
from gradsentry_lib.pipeline.publish import gate_of, handed_out, publish
from gradsentry_lib.pipeline.score import load_scored, score_batch
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.store import Run, current_run
from gradsentry_lib.store.paths import Store

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel


def read_samples(context: dg.AssetExecutionContext, stage: Stage, data: Any = None) -> Events:
    """First step: rows in. `data`: what the upstream asset's I/O manager gave, where the stage's source is one."""
    judging: JudgingResource = stage.given(context.resources, "judging")
    place, run = stage.given(context.resources, "store").store, current_run("dagster", context.run_id)

    def step(partition: str | None) -> Outcome:
        settle(judging.decision, place)  # limits that need a name: before an hour of scoring, not after it
        if stage.lands:
            read, origin = _read_arrival(partition or "", place, run)
        else:
            reading: ReadingResource = stage.given(context.resources, "reading")
            name, origin = bring_in_source(stage, context.instance, partition, data, place)
            told = reading.told(name)
            source = open_as_told(name, told)
            key = batch_key(source, told, place)
            with place.alone(key):
                read = ingest(source, place, run, told, key)
        context.log.info(f"{read.batch_key}: {read.read} rows read, {read.readable} readable, {read.rejected} rejected")
        if read.truncated:
            context.log.warning(f"{read.batch_key} is cut short: {one_line(read.truncated, 400)}")
        tag_run(context, stage, batch=read.batch_key)
        theirs = stage.source.asset if isinstance(stage.source, Upstream) else None
        metadata = {
            "arrived_as": one_line(origin),
            **presentation.of_batch(read, place),
            **of_table(Path(read.source), read.read, theirs, bool(partition)),
        }
        return Outcome(metadata, read.samples_sha256)

    yield from each_partition(context, stage, step)


def _read_arrival(batch: str, place: Store, run: Run) -> tuple[Ingested, str]:
    """What the sensor took in, and where from."""
    with place.alone(batch):
        arrival = find_arrival(place.home, batch)
        if arrival is None:
            raise NotFound(f"the store {place.home} has no file for batch {batch}: put one into the landing folder")
        if arrival.failure:
            raise UnusableInput(arrival.failure)
        source = open_as_told(str(place.batch(batch) / arrival.path), arrival.told)
        if source.sha256 != arrival.sha256:  # by all digits: the batch's name shows some of them
            raise SourceChanged(place.batch(batch) / arrival.path, arrival.sha256, source.sha256)
        return ingest(source, place, run, arrival.told, key=batch), arrival.url


def score(context: dg.AssetExecutionContext, stage: Stage) -> Events:
    """Second step: the entropy of every sample's gradient, most of them perhaps known already."""
    judging: JudgingResource = stage.given(context.resources, "judging")
    model: ModelResource = stage.given(context.resources, "model")
    place, run = stage.given(context.resources, "store").store, current_run("dagster", context.run_id)

    def step(partition: str | None) -> Outcome:
        judging.check()  # before an hour of scoring, not after it
        batch = stage.batch(context.instance, partition)
        with place.alone(batch):
            identity = model.identify()
            scored = score_batch(
                _read(batch, place),
                place,
                run,
                identity,
                lambda: model.load(identity),
                model.scoring,
                model.effort,
                progress_log(context, batch),
            )
        context.log.info(f"{batch}: {scored.rows} rows, {scored.computed} computed, {scored.unscored} without a score")
        table = of_table(place.scores(batch, scored.score_key), scored.rows, None, bool(partition))
        return Outcome({**presentation.of_scores(scored, place), **table}, scored.scores_sha256)

    yield from each_partition(context, stage, step)


def judge(context: dg.AssetExecutionContext, stage: Stage) -> Events:
    """Third step: a verdict with reasons for every row."""
    judging: JudgingResource = stage.given(context.resources, "judging")
    model: ModelResource = stage.given(context.resources, "model")
    place, run = stage.given(context.resources, "store").store, current_run("dagster", context.run_id)

    def step(partition: str | None) -> Outcome:
        batch = stage.batch(context.instance, partition)
        with place.alone(batch):
            key = stage.handed_over(context.instance, "gradient_entropy", partition, "score_key")
            scored = load_scored(place, batch, key)
            if scored is None:
                raise DamagedStore(f"the scores of {batch} are gone from the store: materialize gradient_entropy again")
            ask = partial(_same_model, model, place, batch, scored.fingerprint)
            read, cluster = _read(batch, place), model.effort.cluster
            decided = decide(
                read, scored, place, run, judging.decision, load=ask, scoring=model.scoring, cluster=cluster
            )
        context.log.info(f"{batch}: {decided.flagged} flagged, {decided.unscored} unscored, tau {decided.tau:.3f}")
        tag_run(context, stage, decision=decided.decision_key)
        verdicts = place.decision(batch, decided.decision_key).verdicts
        rows = decided.clean + decided.flagged + decided.unscored
        metadata = {
            **presentation.of_decision(decided, load_evidence(place, decided), place),
            **of_table(verdicts, rows, None, bool(partition)),
        }
        return Outcome(metadata, decided.verdicts_sha256)

    yield from each_partition(context, stage, step)


def _same_model(model: ModelResource, place: Store, batch: str, fingerprint: str) -> "AnyModel":
    """The model that scored the batch: the policy `auto` asks it about a few rows, `paper` does not."""
    identity = model.identify()
    if identity.fingerprint != fingerprint:
        raise NotJudgedYet(f"{batch} was scored by another model: materialize gradient_entropy again")
    return model.load(identity)


def publish_clean(context: dg.AssetExecutionContext, stage: Stage) -> Events:
    """Last step: the clean rows and the quarantine, where the gate is open for exactly these verdicts."""
    place, run = stage.given(context.resources, "store").store, current_run("dagster", context.run_id)

    def step(partition: str | None) -> Outcome:
        batch = stage.batch(context.instance, partition)
        with place.alone(batch):
            key = stage.handed_over(context.instance, "entropy_threshold", partition, "decision_key")
            decided = load_decided(place, batch, key)
            if decided is None:
                raise DamagedStore(
                    f"the verdicts of {batch} are gone from the store: materialize entropy_threshold again"
                )
            read, state = _read(batch, place), gate_of(decided, place)
            published = publish(read, decided, place, run)
        delivered: dict[str, Any] = {}
        if outputs := stage.given(context.resources, "store").delivered_to:
            arrive = None
            if isinstance(stage.source, Folder):
                arrive = stage.source.url or settings.value("landing") or str(place.landing)
            files = handed_out(place, decided, published)
            delivered["delivered_to"] = deliver_batch(files, outputs, batch, place.home, arrive)
        context.log.info(f"{batch}: {published.clean_rows} clean rows in {published.clean}")
        rows_of = stage.names.key("raw_samples")
        return Outcome(
            {
                **presentation.of_publication(read, decided, published, state, place),
                **of_table(published.clean, published.clean_rows, rows_of, bool(partition)),
                **delivered,
            },
            sha256_json([decided.verdicts_sha256, read.source_sha256]),
            as_value(published.clean, stage.clean_as),
        )

    yield from each_partition(context, stage, step)


def _read(batch: str, store: Store) -> Ingested:
    read = load(store, batch)
    if read is None:
        raise NotJudgedYet(f"batch {batch} was not read into the store yet: materialize raw_samples first")
    return read
