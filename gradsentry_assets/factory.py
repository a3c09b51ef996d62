"""The stage, for anybody's Dagster project: one call that makes definitions which merge with any others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from gradsentry_assets import runs
from gradsentry_assets.assets import build_assets
from gradsentry_assets.clean_value import check_kind
from gradsentry_assets.gates import build_gate
from gradsentry_assets.resources import JudgingResource, LandingResource, ModelResource, ReadingResource, StoreResource
from gradsentry_assets.sources import Folder, Reading, partitions_of, source_of
from gradsentry_assets.stage import Names, Stage
from gradsentry_lib.errors import UnusableOption


def gradsentry_assets(
    *,
    name: str,
    source: Any = None,
    partitions_def: dg.PartitionsDefinition | None = None,
    reading: Reading | None = None,
    store: "StoreResource | str | Path | None" = None,
    model: "ModelResource | str | None" = None,
    judging: JudgingResource | None = None,
    keys: Mapping[str, Any] | None = None,
    group: str | None = None,
    owners: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    pools: Mapping[str, str] | None = None,
    automation_condition: dg.AutomationCondition | None = None,
    freshness_policy: dg.FreshnessPolicy | None = None,
    clean_as: str = "",
    io_manager_key: str | None = None,
) -> dg.Definitions:
    """GradSentry as a stage of a Dagster project: raw_samples, gradient_entropy, entropy_threshold, clean_dataset.

    Everything it defines begins with its name: `answers` makes the assets `answers/raw_samples`, ..., the job
    `answers_scan_batch`, the resources `answers_store`, ... So it merges with anybody's definitions, and with other
    stages.

    Args:
        name: Letters, digits and underscores. "": no prefix, for a code location that is this stage's alone.
        source: An asset or its key, whose value (a frame, a table, rows, a path) comes through its I/O manager; a
            folder, or a pattern of files in one, on this machine or at a URL; or one file. `Folder`, `File` and
            `Upstream` say more. If left out: the folder GRADSENTRY_LANDING, else `landing` in the store.
        partitions_def: Of the source, one batch for each. An asset given as such brings its own. Files that arrive in a
            folder make partitions of the stage's own.
        reading: How rows are read, where it can't be guessed.
        store: The folder of ledger, batches and scores; several stages may share one. GRADSENTRY_HOME if left out.
        model: What scores: a folder, a hub name, `embedded`. GRADSENTRY_MODEL if left out.
        judging: Policy, threshold, the gate's limits. Their variables (GRADSENTRY_POLICY, ...) if left out.
        keys: Other asset keys: `{"clean_dataset": "answers/clean"}`.
        group: Of the assets; their name's if left out.
        owners: Of the assets, `team:data` or mail addresses.
        tags: Of the assets.
        pools: Pools to run in, for those named `NAME_gpu` (one model in memory at a time) and `NAME_duckdb` (one writer
            of a ledger at a time): `{"gpu": "a100"}`. Stages that share a card or a store had better share its pool.
        automation_condition: When raw_samples, gradient_entropy and entropy_threshold run by themselves. clean_dataset
            follows when its gate is open.
        freshness_policy: Of the clean data set.
        clean_as: What clean_dataset hands to its I/O manager: `pandas`, `polars`, `arrow` or `path`. "": nothing.
        io_manager_key: Of clean_dataset, where it is not `io_manager`.

    Raises:
        UnusableOption: Something of this can't be; the message says what.

    Examples:
        >>> from gradsentry_assets import gradsentry_assets
        >>> made = gradsentry_assets(name="answers", source="s3://bucket/incoming/*.jsonl")
        >>> sorted(key.to_user_string() for key in made.resolve_asset_graph().materializable_asset_keys)
        ['answers/clean_dataset', 'answers/entropy_threshold', 'answers/gradient_entropy', 'answers/raw_samples']
    """
    check_kind(clean_as)
    found, read = source_of(source), reading or Reading()
    names = Names(name, {step: _key(given) for step, given in (keys or {}).items()}, pools or {})
    if isinstance(found, Folder):
        if partitions_def is not None:
            raise UnusableOption("files that arrive in a folder make partitions of their own: leave partitions_def out")
        partitions_def = dg.DynamicPartitionsDefinition(name=names.of("batches"))
        place: dict[str, dg.ConfigurableResource] = {
            "landing_folder": LandingResource(
                url=found.url, pattern=found.pattern, done_marker=found.done_marker, **read.fields
            )
        }
    else:
        partitions_def = partitions_def or partitions_of(source)
        place = {"reading": ReadingResource(**read.fields)}
    stage = Stage(
        names=names,
        source=found,
        partitions_def=partitions_def,
        resources={
            "store": store if isinstance(store, StoreResource) else StoreResource(home=str(store) if store else None),
            "model": model if isinstance(model, ModelResource) else ModelResource(model=model),
            "judging": judging or JudgingResource(),
            **place,
        },
        group=group or name or "gradsentry",
        owners=owners,
        tags=tags or {},
        clean_as=clean_as,
    )
    return _definitions(stage, automation_condition, freshness_policy, io_manager_key)


def _definitions(
    stage: Stage,
    automation: dg.AutomationCondition | None,
    freshness: dg.FreshnessPolicy | None,
    io_manager_key: str | None,
) -> dg.Definitions:
    scan_batch = runs.build_scan_job(stage)
    assets = build_assets(stage, automation=automation, freshness=freshness, io_manager_key=io_manager_key)
    made = dg.Definitions(
        assets=dg.with_source_code_references(assets),
        asset_checks=[build_gate(stage)],
        jobs=[scan_batch],
        sensors=[runs.build_open_gates(stage), runs.build_alerts(stage)],
        resources={stage.names.of(what): resource for what, resource in stage.resources.items()},
    )
    if not stage.lands:
        return made
    arriving = dg.Definitions(sensors=[runs.build_landing(stage, scan_batch)])
    return dg.Definitions.merge(made, arriving, runs.build_rescan(stage, scan_batch))


def _key(given: Any) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(given) if isinstance(given, str) else dg.AssetKey(given)
