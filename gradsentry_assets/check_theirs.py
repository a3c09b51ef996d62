"""What the checks on somebody else's asset do: scan what it made, judge that twice, say what is new.

Imported when the checks run, not when Dagster loads the code location.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from gradsentry_assets.checks import NEWS
from gradsentry_assets.partitions import refusal
from gradsentry_assets.resources import JudgingResource, ModelResource, ReadingResource
from gradsentry_assets.second_judge import Judged, judge_one, results
from gradsentry_assets.stage import entry_of
from gradsentry_lib.api.incoming import bring_in
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
) -> Iterator[dg.AssetCheckResult]:
    """One result a check, over the partitions of this run. `given`: the resources, by what they are.

    Raises dg.Failure where the data can't be judged.
    """
    partitioned = context.has_partition_key or context.has_partition_key_range
    partitions: list[str | None] = list(context.partition_keys) if partitioned else [None]
    judged: list[tuple[Judged, News]] = []
    failed: dict[str | None, GradSentryError] = {}
    for partition in partitions:
        value = data[partition] if len(partitions) > 1 and isinstance(data, Mapping) else data
        try:
            found = _named(context.instance, key, partition, file) if file else value
            judged.append(_judge(context, found, "-".join(key.path), given))
        except GradSentryError as error:
            failed[partition] = error
    if failed:
        raise refusal(failed, of=len(partitions))
    yield from results([one for one, _ in judged], prefix)
    yield _what_is_new([news for _, news in judged], prefix)


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
    source, run = bring_in(data, place, name).source, current_run("dagster", context.run.run_id)
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


def _what_is_new(news: list[News], prefix: str) -> dg.AssetCheckResult:
    last = news[-1]
    triggers = [one_line(trigger, 200) for each in news for trigger in each.triggers]
    suspect, rows = sum(each.suspect for each in news), sum(each.rows for each in news)
    said = f"{rows:,} rows are new since {last.since}, {suspect:,} of them not clean"
    return dg.AssetCheckResult(
        check_name=f"{prefix}{NEWS}",
        passed=not suspect and not triggers,
        severity=dg.AssetCheckSeverity.WARN,
        description=said if last.since else "The first good data set of this asset: there is none to compare with.",
        metadata={
            "new_rows": rows,
            "gone_rows": sum(each.gone for each in news),
            "new_rows_not_clean": suspect,
            **({"new_triggers": "; ".join(triggers)} if triggers else {}),
            **({"since": last.since} if last.since else {}),
        },
    )
