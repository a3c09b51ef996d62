"""The stage as a component: ten lines of YAML in anybody's `dg` project.

    dg scaffold defs gradsentry_assets.GradSentryComponent answers --asset raw/answers

makes `defs/answers/defs.yaml`. The fields `scoring` and `judging` take what the resources' fields do, from the
same settings, so no option is told twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components.resolved.core_models import (
    DailyPartitionsDefinitionModel,
    HourlyPartitionsDefinitionModel,
    StaticPartitionsDefinitionModel,
    TimeWindowPartitionsDefinitionModel,
    WeeklyPartitionsDefinitionModel,
    resolve_partitions_def,
)
from pydantic import BaseModel, Field, create_model

from gradsentry_assets.factory import gradsentry_assets
from gradsentry_assets.resources import JudgingResource, ModelResource
from gradsentry_assets.scaffolder import StageScaffolder
from gradsentry_assets.sources import File, Folder, Reading, Source, Upstream
from gradsentry_lib import settings
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.settings import OPTIONS


def _fields_of(name: str, group: str) -> Any:
    """A model of a resource's settings, for the schema."""
    told = {
        option.field: (option.kind | None, Field(default=None, description=option.told))
        for option in OPTIONS.values()
        if option.group == group and "dagster" in option.places
    }
    return create_model(name, __base__=dg.Model, **told)  # type: ignore[call-overload]  # fields made at run time


ScoringFields: Any = _fields_of("ScoringFields", "model")
JudgingFields: Any = _fields_of("JudgingFields", "judging")

_Partitions = (
    DailyPartitionsDefinitionModel
    | HourlyPartitionsDefinitionModel
    | WeeklyPartitionsDefinitionModel
    | TimeWindowPartitionsDefinitionModel
    | StaticPartitionsDefinitionModel
    | str
)


def _partitions(context: dg.ResolutionContext, given: Any) -> dg.PartitionsDefinition | None:
    if isinstance(given, str):
        return context.resolve_value(given, as_type=dg.PartitionsDefinition)  # type: ignore[type-abstract]  # asked for, not made
    return resolve_partitions_def(context, given)


def _told(help: str, *examples: Any, kind: Any = None) -> Any:
    more = {"model_field_type": kind} if kind else {}
    return dg.Resolver.default(description=help, examples=list(examples) or None, **more)


def _settings(fields: Any, help: str, example: Mapping[str, Any]) -> dg.Resolver:
    """A mapping of settings: what was said, templates filled in."""

    def resolve(context: dg.ResolutionContext, given: BaseModel) -> Mapping[str, Any]:
        return dict(context.resolve_value(given.model_dump(exclude_none=True)))

    return dg.Resolver(resolve, model_field_type=fields, description=help, examples=[example])


@dataclass
class SourceFields(dg.Resolvable):
    """Where the rows come from: one of `asset`, `folder` and `file`."""

    asset: Annotated[
        str | None, _told("The key of an asset of yours, whose value its I/O manager hands over.", "raw/answers")
    ] = None
    file_in_metadata: Annotated[
        str, _told("The entry of that asset's metadata that names a file to read in its value's place.", "path")
    ] = ""
    folder: Annotated[
        str | None,
        _told(
            "A folder or fsspec URL where files arrive, or a pattern of them; each becomes a partition.",
            "data/incoming",
            "s3://bucket/incoming/*.jsonl",
        ),
    ] = None
    done_marker: Annotated[bool | None, _told("Of a folder: wait for `<file>.done`.")] = None
    file: Annotated[
        str | None,
        _told("One file or URL; with `{partition}` in it, one for each partition.", "data/train.jsonl"),
    ] = None

    def source(self, root: Path) -> Source:
        """Raises UnusableOption unless exactly one of them is given. Paths are the project's."""
        given = [name for name in ("asset", "folder", "file") if getattr(self, name)]
        if len(given) != 1:
            said = " and ".join(given) or "none of them"
            raise UnusableOption(f"source: give one of asset, folder and file, not {said}")
        if self.asset:
            return Upstream(dg.AssetKey.from_user_string(self.asset), self.file_in_metadata)
        if self.file:
            return File(_below(root, self.file))
        found = Folder.matching(_below(root, self.folder or ""))
        return Folder(found.url, found.pattern, self.done_marker)


@dg.scaffold_with(StageScaffolder)
@dataclass
class GradSentryComponent(dg.Component, dg.Resolvable):
    """Finds backdoor poison in fine-tuning data, between two assets of yours.

    Makes raw_samples -> gradient_entropy -> entropy_threshold -> clean_dataset, with blocking checks before the last.
    Whatever it defines begins with its `name`, so a code location may hold several, with stores of their own or one.
    """

    name: Annotated[str, _told("Of the stage: what its assets, jobs, sensors and resources begin with.", "answers")]
    source: SourceFields
    layout: Annotated[
        Mapping[str, Any],
        _told(
            "How rows are read, where it can't be guessed: columns, roles, response_marker, mapping, encoding, "
            "separator.",
            {"columns": {"prompt": "question", "response": "answer"}},
        ),
    ] = field(default_factory=dict)
    store: Annotated[
        str | None,
        _told(
            "The folder of ledger, batches and scores; components may share one. If left out: GRADSENTRY_HOME, else "
            "`.gradsentry` in the project.",
            "stores/answers",
        ),
    ] = None
    scoring: Annotated[
        Mapping[str, Any],
        _settings(ScoringFields, "The model that scores, and how.", {"model": "embedded", "device": "cuda"}),
    ] = field(default_factory=dict)
    judging: Annotated[
        Mapping[str, Any],
        _settings(JudgingFields, "The policy, and what the gate lets through.", {"policy": "auto", "max_flagged": 0.2}),
    ] = field(default_factory=dict)
    partitions: Annotated[
        dg.PartitionsDefinition | None,
        dg.Resolver(
            _partitions,
            model_field_type=_Partitions,
            description="The source's, one batch for each; none if left out. A folder's files are partitions of their "
            "own.",
            examples=[{"type": "daily", "start_date": "2026-01-01"}, "{{ my_partitions }}"],
        ),
    ] = None
    keys: Annotated[Mapping[str, str], _told("Other asset keys.", {"clean_dataset": "answers/clean"})] = field(
        default_factory=dict
    )
    group: Annotated[str | None, _told("Of the assets. If left out: the name.", "quality")] = None
    owners: Annotated[Sequence[str], _told("Of the assets.", ["team:data"])] = ()
    tags: Annotated[Mapping[str, str], _told("Of the assets.", {"tier": "prod"})] = field(default_factory=dict)
    pools: Annotated[
        Mapping[str, str],
        _told("Pools to run in, of those named NAME_gpu and NAME_duckdb.", {"gpu": "a100"}),
    ] = field(default_factory=dict)
    automation_condition: Annotated[
        dg.AutomationCondition | None,
        _told("When the stage runs by itself.", "{{ dg.AutomationCondition.eager() }}", kind=str | None),
    ] = None
    freshness_policy: Annotated[
        dg.FreshnessPolicy | None,
        _told(
            "Of the clean data set.",
            "{{ dg.FreshnessPolicy.time_window(fail_window=datetime.timedelta(hours=26)) }}",
            kind=str | None,
        ),
    ] = None
    clean_as: Annotated[
        str, _told("What clean_dataset hands to its I/O manager: pandas, polars, arrow or path.", "pandas")
    ] = ""
    io_manager_key: Annotated[str | None, _told("Of clean_dataset, where it is not `io_manager`.")] = None

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(
            tags=["data-quality", "llm", "security"],
            produces=["asset", "asset_check", "job", "sensor", "resource"],
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Raises UnusableOption; paths are relative to the project's root."""
        root = context.project_root
        if unknown := sorted(set(self.layout) - set(Reading().fields)):
            raise UnusableOption(f"layout: there is no {unknown[0]!r}, only {', '.join(Reading().fields)}")
        return gradsentry_assets(
            name=self.name,
            source=self.source.source(root),
            partitions_def=self.partitions,
            reading=Reading(**self.layout),
            store=_below(root, self.store or settings.value("home")),
            model=ModelResource(**self.scoring),
            judging=JudgingResource(**self.judging),
            keys=self.keys,
            group=self.group,
            owners=self.owners,
            tags=self.tags,
            pools=self.pools,
            automation_condition=self.automation_condition,
            freshness_policy=self.freshness_policy,
            clean_as=self.clean_as,
            io_manager_key=self.io_manager_key,
        )


def _below(root: Path, place: str) -> str:
    """A path of the project's; a URL and an absolute path as they are."""
    return place if "://" in place else str(root / place)
