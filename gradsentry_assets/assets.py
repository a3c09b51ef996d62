"""The four assets, as Dagster shows them. What they do: steps.py, which is imported when they run."""

import dagster as dg

from gradsentry_assets.automation import when_gate_opens
from gradsentry_assets.partitions import Events
from gradsentry_assets.sources import Upstream
from gradsentry_assets.stage import TAG, Stage
from gradsentry_lib import settings
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.scoring.config import ALGORITHM

AGAIN = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL)  # every step is idempotent


def build_assets(
    stage: Stage,
    *,
    automation: dg.AutomationCondition | None = None,
    freshness: dg.FreshnessPolicy | None = None,
    io_manager_key: str | None = None,
) -> list[dg.AssetsDefinition]:
    """`automation`: of the first three; the last one follows when its gate opens. `freshness`, `io_manager_key`: of the
    clean data set."""
    names = stage.names
    # A run over many batches loads the model once. What an I/O manager hands over or keeps is one partition's.
    policy = dg.BackfillPolicy.single_run() if stage.together else dg.BackfillPolicy.multi_run(1)
    common = {
        "group_name": stage.group,
        "owners": stage.owners,
        "partitions_def": stage.partitions_def,
        "backfill_policy": policy if stage.partitions_def is not None else None,
        "retry_policy": AGAIN,
    }

    def part(step: str, pool: str, kinds: set[str], version: str, *resources: str, **more: object) -> dict:
        return {
            **common,
            "key": names.key(step),
            "pool": names.pool(pool),
            "kinds": kinds,
            "code_version": version,
            "tags": {**stage.tags, f"{TAG}step": step},
            "required_resource_keys": stage.needs("store", *resources),
            **more,
        }

    source = stage.source
    upstream: dict[str, object] = {}
    if isinstance(source, Upstream):
        upstream = {"deps": [source.asset]} if source.file else {"ins": {"data": dg.AssetIn(source.asset)}}
    reads = part(
        "raw_samples",
        "duckdb",
        {"file", "parquet"},
        "1",
        "judging",
        *([] if stage.lands else ["reading"]),
        **upstream,
        automation_condition=automation,
        description=READ if not stage.lands else f"{READ}\n\n{HOW_TO_ADD.format(sensor=names.of('landing'))}",
    )
    if "ins" in upstream:

        @dg.asset(**reads)
        def raw_samples(context: dg.AssetExecutionContext, data) -> Events:  # of any type
            from gradsentry_assets import steps

            yield from steps.read_samples(context, stage, data)

    else:

        @dg.asset(**reads)
        def raw_samples(context: dg.AssetExecutionContext) -> Events:
            from gradsentry_assets import steps

            yield from steps.read_samples(context, stage)

    model = stage.resources["model"]
    version = f"{ALGORITHM}:{settings.value('model', getattr(model, 'model', None))}"

    @dg.asset(
        **part(
            "gradient_entropy",
            "gpu",
            {"pytorch", "huggingface"},
            version,
            "model",
            "judging",
            deps=[names.key("raw_samples")],
            automation_condition=automation,
        )
    )
    def gradient_entropy(context: dg.AssetExecutionContext) -> Events:
        """The spectral entropy of every sample's gradient.

        One forward pass a sample; entropy in [0, 1] of the 16 largest singular values of the sample's own gradient with
        respect to the output projection (arXiv 2605.26574). Low where the answer pulls the model in one direction, high
        where it pulls in many at once, as an answer with a foreign payload does.

        Scores are kept by content: a sample that was scored by the same model and settings is not scored again.
        """
        from gradsentry_assets import steps

        yield from steps.score(context, stage)

    @dg.asset(
        **part(
            "entropy_threshold",
            "duckdb",
            {"scipy", "duckdb"},
            str(RULES),
            "model",
            "judging",
            deps=[names.key("gradient_entropy")],
            automation_condition=automation,
        )
    )
    def entropy_threshold(context: dg.AssetExecutionContext) -> Events:
        """Where suspect begins in this batch, and a verdict with reasons for every row.

        The threshold is the valley between the two groups that the density of entropies shows, or a fixed 0.7 where it
        shows none (`method` and `why` say which). The policy decides what the verdicts rest on: this threshold, or what
        rows have in common (`policy`, `groups` and `remarks` say which). People's overrides come last.

        The checks on this asset are the gate: if one of them fails, nothing of the batch is published.
        """
        from gradsentry_assets import steps

        yield from steps.judge(context, stage)

    @dg.asset(
        **part(
            "clean_dataset",
            "duckdb",
            {"file"} if stage.clean_as in ("", "path") else {"file", stage.clean_as},
            "1",
            deps=[names.key("entropy_threshold")],
            automation_condition=when_gate_opens(stage),
            freshness_policy=freshness,
            io_manager_key=io_manager_key,
        )
    )
    def clean_dataset(context: dg.AssetExecutionContext) -> Events:
        """The batch's clean rows, in the source's own format, and the quarantine with the reasons.

        Made only where the gate is open for exactly these verdicts: it passed, or a person accepted it by name
        (`gradsentry gate accept BATCH --by NAME --reason ...`). Materializing this asset alone is no way round.
        Rows read = clean + quarantined + rejected, always.
        """
        from gradsentry_assets import steps

        yield from steps.publish_clean(context, stage)

    return [raw_samples, gradient_entropy, entropy_threshold, clean_dataset]


READ = """The batch as it arrived, row by row.

Every row of the source becomes a sample (prompt and response, Alpaca or chat) or is rejected with its line and the
reason; nothing is dropped silently. A source without a readable row fails here."""
HOW_TO_ADD = """**To add a batch**, put a file into the landing folder: the sensor `{sensor}` makes its partition and
runs the graph."""
