"""What the checks on somebody else's asset do: scan what it made, judge that twice, say what is new.

Imported when the checks run, not when Dagster loads the code location.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from gradsentry_assets.checks import NEWS
from gradsentry_assets.partitions import Said, by_partition, refusal
from gradsentry_assets.resources import JudgingResource, ModelResource, ReadingResource
from gradsentry_assets.second_judge import Judged, judge_one, results
from gradsentry_assets.stage import entry_of
from gradsentry_assets.upstream import as_file
from gradsentry_lib.errors import GradSentryError, NotFound
from gradsentry_lib.pipeline.news import News, news_of
from gradsentry_lib.pipeline.run import ModelChoice, scan
from gradsentry_lib.report.escape import one_line
from gradsentry_lib.store import current_run
from gradsentry_lib.store.paths import Store


def check_theirs(
    context: dg.AssetCheckExecutionContext,
    key: dg.AssetKey,
    file: str,
    data: Any,
    given: Callable[[str], Any],
    prefix: str,
) -> Iterator[Said]:
    """What each check says of each partition of this run. `given`: the resources, by what they are.

    Raises dg.Failure where the data can't be judged.
    """
    partitioned = context.has_partition_key or context.has_partition_key_range
    partitions: list[str | None] = list(context.partition_keys) if partitioned else [None]
    judged: dict[str | None, tuple[Judged, News]] = {}
    failed: dict[str | None, GradSentryError] = {}
    for partition in partitions:
        value = data[partition] if len(partitions) > 1 and isinstance(data, Mapping) else data
        try:
            found = _named(context.instance, key, partition, file) if file else value
            judged[partition] = _judge(context, found, "-".join(key.path), given)
        except GradSentryError as error:
            failed[partition] = error
    if failed:
        raise refusal(failed, of=len(partitions))
    specs = {spec.name: spec for spec in context.check_specs}
    yield from results({at: one for at, (one, _) in judged.items()}, specs, prefix)
    name = f"{prefix}{NEWS}"
    yield from by_partition(specs[name], {at: _what_is_new(news, name) for at, (_, news) in judged.items()})


def _named(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, entry: str) -> str:
    named = entry_of(instance, key, partition, entry)
    if named is None:
        raise NotFound(f"the last materialization of {key.to_user_string()} has no entry {entry!r} that names its file")
    return str(named)


def _judge(
    context: dg.AssetCheckExecutionContext, data: Any, name: str, given: Callable[[str], Any]
) -> tuple[Judged, News]:
    place: Store = given("store").store
    reading: ReadingResource = given("reading")
    model: ModelResource = given("model")
    judging: JudgingResource = given("judging")
    source, run = as_file(data, place, name), current_run("dagster", context.run.run_id)
    made = scan(
        source,
        place,
        options=reading.told(source),
        model=ModelChoice.of(model.said),
        scoring=model.scoring,
        effort=model.effort,
        decision=judging.decision,
        run=run,
    )
    with place.alone(made.batch.batch_key):
        judged = judge_one(made.decided, made.batch, place, run)
    return judged, news_of(made.decided, made.batch.name, place)


def _what_is_new(news: News, name: str) -> dg.AssetCheckResult:
    said = f"{news.rows:,} rows are new since {news.since}, {news.suspect:,} of them not clean"
    triggers = "; ".join(one_line(trigger, 200) for trigger in news.triggers)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not news.suspect and not triggers,
        severity=dg.AssetCheckSeverity.WARN,
        description=said if news.since else "The first good data set of this asset: there is none to compare with.",
        metadata={
            "new_rows": news.rows,
            "gone_rows": news.gone,
            "new_rows_not_clean": news.suspect,
            **({"new_triggers": triggers} if triggers else {}),
            **({"since": news.since} if news.since else {}),
        },
    )
