"""The four assets. Each is one step of `gradsentry_lib.pipeline`; one partition is one batch."""

from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from gradsentry_assets import presentation
from gradsentry_assets.automation import when_gate_opens
from gradsentry_assets.partitions import BATCHES, TOGETHER, Events, Outcome, each_batch, handed_over, progress_log
from gradsentry_assets.receiving import find_arrival
from gradsentry_assets.resources import JudgingResource, ModelResource, StoreResource
from gradsentry_lib import settings
from gradsentry_lib.detection.policies import RULES
from gradsentry_lib.errors import DamagedStore, NotFound, NotJudgedYet, SourceChanged, UnusableInput
from gradsentry_lib.files import sha256_json
from gradsentry_lib.pipeline.decide import decide, settle
from gradsentry_lib.pipeline.decided import load_decided, load_evidence
from gradsentry_lib.pipeline.ingest import Ingested, ingest, load
from gradsentry_lib.pipeline.publish import gate_of, publish
from gradsentry_lib.pipeline.score import load_scored, score_batch
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.scoring.config import ALGORITHM
from gradsentry_lib.store import current_run
from gradsentry_lib.store.paths import Store

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel

GROUP = "gradsentry"
OWNERS = ["team:data-quality"]
AGAIN = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL)  # every step is idempotent


@dg.asset(
    partitions_def=BATCHES,
    backfill_policy=TOGETHER,
    group_name=GROUP,
    kinds={"file", "parquet"},
    owners=OWNERS,
    tags={"stage": "intake"},
    code_version="1",
    pool="duckdb",
    retry_policy=AGAIN,
)
def raw_samples(context: dg.AssetExecutionContext, store: StoreResource, judging: JudgingResource) -> Events:
    """The batch as it arrived, row by row.

    Every row of the file becomes a sample (prompt and response, Alpaca or chat) or is rejected with its line and the
    reason; nothing is dropped silently. A file without a readable row fails here.

    **To add a batch**, put a file into the landing folder: the sensor `landing` makes its partition and runs the graph.
    """
    place, run = store.store, current_run("dagster", context.run_id)

    def step(batch: str) -> Outcome:
        settle(judging.decision, place)  # limits that need a name: before an hour of scoring, not after it
        arrival = find_arrival(place.home, batch)
        if arrival is None:
            raise NotFound(f"the store {place.home} has no file for batch {batch}: put one into the landing folder")
        if arrival.failure:
            raise UnusableInput(arrival.failure)
        source = open_as_told(str(place.batch(batch) / arrival.path), arrival.told)
        if source.sha256 != arrival.sha256:  # by all digits: the batch's name shows some of them
            raise SourceChanged(place.batch(batch) / arrival.path, arrival.sha256, source.sha256)
        read = ingest(source, place, run, arrival.told, key=batch)
        context.log.info(f"{batch}: {read.read} rows read, {read.readable} readable, {read.rejected} rejected")
        if read.truncated:
            context.log.warning(f"{batch} is cut short: {one_line(read.truncated, 400)}")
        metadata = {"arrived_as": one_line(arrival.url), **presentation.of_batch(read, place)}
        return Outcome(metadata, read.samples_sha256)

    yield from each_batch(context, place, step)


@dg.asset(
    deps=[raw_samples],
    partitions_def=BATCHES,
    backfill_policy=TOGETHER,
    group_name=GROUP,
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    tags={"stage": "scoring"},
    code_version=f"{ALGORITHM}:{settings.model()}",
    pool="gpu",
    retry_policy=AGAIN,
)
def gradient_entropy(
    context: dg.AssetExecutionContext, store: StoreResource, model: ModelResource, judging: JudgingResource
) -> Events:
    """The spectral entropy of every sample's gradient.

    One forward pass a sample; entropy in [0, 1] of the 16 largest singular values of the sample's own gradient with
    respect to the output projection (arXiv 2605.26574). Low where the answer pulls the model in one direction, high
    where it pulls in many at once, as an answer with a foreign payload does.

    Scores are kept by content: a sample that was scored by the same model and settings is not scored again.
    """
    place, run = store.store, current_run("dagster", context.run_id)

    def step(batch: str) -> Outcome:
        judging.check()  # before an hour of scoring, not after it
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
        return Outcome(presentation.of_scores(scored, place), scored.scores_sha256)

    yield from each_batch(context, place, step)


@dg.asset(
    deps=[gradient_entropy],
    partitions_def=BATCHES,
    backfill_policy=TOGETHER,
    group_name=GROUP,
    kinds={"scipy", "duckdb"},
    owners=OWNERS,
    tags={"stage": "verdict"},
    code_version=str(RULES),
    pool="duckdb",
    retry_policy=AGAIN,
)
def entropy_threshold(
    context: dg.AssetExecutionContext, store: StoreResource, model: ModelResource, judging: JudgingResource
) -> Events:
    """Where suspect begins in this batch, and a verdict with reasons for every row.

    The threshold is the valley between the two groups that the density of entropies shows, or a fixed 0.7 where it
    shows none (`method` and `why` say which). The policy decides what the verdicts rest on: this threshold, or what
    rows have in common (`policy`, `groups` and `remarks` say which). People's overrides come last.

    The checks on this asset are the gate: if one of them fails, nothing of the batch is published.
    """
    place, run = store.store, current_run("dagster", context.run_id)

    def step(batch: str) -> Outcome:
        scored = load_scored(place, batch, handed_over(context.instance, "gradient_entropy", batch, "score_key"))
        if scored is None:
            raise DamagedStore(f"the scores of {batch} are gone from the store: materialize gradient_entropy again")
        ask = partial(_same_model, model, place, batch, scored.fingerprint)
        decided = decide(_read(batch, place), scored, place, run, judging.decision, load=ask, scoring=model.scoring)
        context.log.info(f"{batch}: {decided.flagged} flagged, {decided.unscored} unscored, tau {decided.tau:.3f}")
        metadata = presentation.of_decision(decided, load_evidence(place, decided), place)
        return Outcome(metadata, decided.verdicts_sha256)

    yield from each_batch(context, place, step)


def _same_model(model: ModelResource, place: Store, batch: str, fingerprint: str) -> "AnyModel":
    """The model that scored the batch: the policy `auto` asks it about a few rows, `paper` does not."""
    identity = model.identify()
    if identity.fingerprint != fingerprint:
        raise NotJudgedYet(f"{batch} was scored by another model: materialize gradient_entropy again")
    return model.load(identity)


@dg.asset(
    deps=[entropy_threshold],
    partitions_def=BATCHES,
    backfill_policy=TOGETHER,
    group_name=GROUP,
    kinds={"file"},
    owners=OWNERS,
    tags={"stage": "release"},
    code_version="1",
    pool="duckdb",
    retry_policy=AGAIN,
    automation_condition=when_gate_opens(),
)
def clean_dataset(context: dg.AssetExecutionContext, store: StoreResource) -> Events:
    """The batch's clean rows, in the source's own format, and the quarantine with the reasons.

    Made only where the gate is open for exactly these verdicts: it passed, or a person accepted it by name
    (`gradsentry gate accept BATCH --by NAME --reason ...`). Materializing this asset alone is no way round.
    Rows read = clean + quarantined + rejected, always.
    """
    place, run = store.store, current_run("dagster", context.run_id)

    def step(batch: str) -> Outcome:
        decided = load_decided(place, batch, handed_over(context.instance, "entropy_threshold", batch, "decision_key"))
        if decided is None:
            raise DamagedStore(f"the verdicts of {batch} are gone from the store: materialize entropy_threshold again")
        read, state = _read(batch, place), gate_of(decided, place)
        published = publish(read, decided, place, run)
        context.log.info(f"{batch}: {published.clean_rows} clean rows in {published.clean}")
        return Outcome(
            presentation.of_publication(read, decided, published, state, place),
            sha256_json([decided.verdicts_sha256, read.source_sha256]),
        )

    yield from each_batch(context, place, step)


def _read(batch: str, store: Store) -> Ingested:
    read = load(store, batch)
    if read is None:
        raise NotJudgedYet(f"batch {batch} was not read into the store yet: materialize raw_samples first")
    return read
