"""Checks alone: the gate on a data set that somebody else's asset makes, without any asset of ours.

Their data are scanned by `gradsentry_lib.scan`, then judged as in our own gate: by plain code, and once more by Great
Expectations. Nothing of theirs is changed; what was found lies in the store.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from gradsentry_assets.assets import AGAIN
from gradsentry_assets.gates import ADVICE, CHECKS
from gradsentry_assets.partitions import Said
from gradsentry_assets.resources import JudgingResource, ModelResource, ReadingResource, StoreResource
from gradsentry_assets.sources import Reading
from gradsentry_assets.stage import Names

NEWS = "nothing_new_suspect"
WHAT_IS_NEW = (
    "Nothing that was not in the last good data set of this asset is flagged, and no group shares what none shared "
    "then; only warns. What is new lies beside it."
)


def gradsentry_checks(
    *,
    asset: Any,
    name: str = "gradsentry",
    file: str = "",
    reading: Reading | None = None,
    store: "StoreResource | str | Path | None" = None,
    model: "ModelResource | str | None" = None,
    judging: JudgingResource | None = None,
    blocking: bool = True,
    partitions_def: dg.PartitionsDefinition | None = None,
    pool: str | None = None,
) -> dg.AssetChecksDefinition:
    """GradSentry as checks on an asset that makes fine-tuning data.

    Args:
        asset: An asset or its key. What it makes comes through its I/O manager: a frame, a table, rows, or a path.
        name: What the checks' names begin with.
        file: The entry of the asset's metadata that names a file to read in its value's place.
        reading: How rows are read, where it can't be guessed.
        store: The folder of ledger, evidence and scores; GRADSENTRY_HOME if left out.
        model: What scores: a folder, a hub name, `embedded`. GRADSENTRY_MODEL if left out.
        judging: Policy, threshold, limits. Their variables if left out.
        blocking: Whether what is downstream waits for them, and is skipped where one fails. Two only ever warn.
        partitions_def: The asset's, for results that belong to a partition each. An asset given as such brings it.
        pool: One to run in, where there is one model in memory at a time.

    Returns:
        One definition with all checks, for `Definitions(asset_checks=[...])`.

    Examples:
        >>> import dagster as dg
        >>> from gradsentry_assets import gradsentry_checks
        >>> made = gradsentry_checks(asset=dg.AssetKey("collected"))
        >>> dg.AssetCheckKey(dg.AssetKey("collected"), "gradsentry_flagged_fraction") in made.check_keys
        True
    """
    key = asset if isinstance(asset, dg.AssetKey) else dg.AssetKey(asset) if isinstance(asset, list) else None
    if key is None:
        key = dg.AssetKey.from_user_string(asset) if isinstance(asset, str) else asset.key
        partitions_def = partitions_def or getattr(asset, "partitions_def", None)
    names = Names(f"{name}_{key.to_python_identifier()}")
    more: dict[str, Any] = {} if partitions_def is None else {"partitions_def": partitions_def}
    told = {**{check: text for check, (_, text) in CHECKS.items()}, NEWS: WHAT_IS_NEW}
    specs = [
        dg.AssetCheckSpec(
            f"{name}_{check}",
            asset=key,
            blocking=blocking and check not in (*ADVICE, NEWS),
            description=text,
            **more,
        )
        for check, text in told.items()
    ]
    resources = {
        names.of("store"): store
        if isinstance(store, StoreResource)
        else StoreResource(home=str(store) if store else None),
        names.of("model"): model if isinstance(model, ModelResource) else ModelResource(model=model),
        names.of("judging"): judging or JudgingResource(),
        names.of("reading"): ReadingResource(**(reading or Reading()).fields),
    }

    def given(context: dg.AssetCheckExecutionContext, what: str) -> Any:
        return getattr(context.resources, names.of(what))

    def results(context: dg.AssetCheckExecutionContext, data: Any = None) -> Iterator[Said]:
        from gradsentry_assets.check_theirs import check_theirs

        yield from check_theirs(context, key, file, data, lambda what: given(context, what), f"{name}_")

    common: dict[str, Any] = {
        "name": names.of("checks"),
        "specs": specs,
        "resource_defs": resources,
        "required_resource_keys": set(resources),
        "retry_policy": AGAIN,
        "pool": pool,
    }
    if file:

        @dg.multi_asset_check(**common)
        def checks(context: dg.AssetCheckExecutionContext) -> Iterator[Said]:
            yield from results(context)

    else:

        @dg.multi_asset_check(**common, ins={"data": key})
        def checks(context: dg.AssetCheckExecutionContext, data) -> Iterator[Said]:  # of any type
            yield from results(context, data)

    return checks
