"""One stage in a Dagster project: what its parts are called, where its rows come from, what it runs on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from gradsentry_assets.resources import StoreResource
from gradsentry_assets.sources import Folder, Source
from gradsentry_lib.errors import NotJudgedYet, UnusableOption

if TYPE_CHECKING:
    from gradsentry_lib.store.paths import Store

STEPS = ("raw_samples", "gradient_entropy", "entropy_threshold", "clean_dataset")
TAG = "gradsentry/"  # before every tag of a run or an asset that is ours


@dataclass(frozen=True)
class Names:
    """What the parts of a stage are called: its name before each. "": the code location is the stage's alone, and its
    parts go by their own names.

    `keys`: asset keys that somebody chose; `pools`: pools of theirs to run in.
    """

    name: str = ""
    keys: Mapping[str, dg.AssetKey] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name and not self.name.isidentifier():
            raise UnusableOption(f"name={self.name!r}: give letters, digits and underscores, as it begins other names")
        for what, known, given in (("asset", STEPS, self.keys), ("pool", ("duckdb", "gpu"), self.pools)):
            if unknown := sorted(set(given) - set(known)):
                raise UnusableOption(f"a stage has no {what} {unknown[0]!r}, only {', '.join(known)}")

    def of(self, part: str) -> str:
        """A job, sensor, resource, pool or partitions definition."""
        return f"{self.name}_{part}" if self.name else part

    def key(self, step: str) -> dg.AssetKey:
        return self.keys.get(step) or dg.AssetKey([self.name, step] if self.name else [step])

    def pool(self, name: str) -> str:
        return self.pools.get(name) or self.of(name)


@dataclass(frozen=True)
class Stage:
    """`partitions_def`: of its assets. `resources`: by what they are here (store, model, judging, landing_folder)."""

    names: Names
    source: Source
    partitions_def: dg.PartitionsDefinition | None
    resources: Mapping[str, dg.ConfigurableResource]
    group: str
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    clean_as: str = ""

    @property
    def lands(self) -> bool:
        """Whether its batches are files that arrive, each a partition of the stage's own."""
        return isinstance(self.source, Folder)

    @property
    def together(self) -> bool:
        """Whether one run may take many batches: what an I/O manager hands over, or keeps, is one partition's."""
        return self.lands and not self.clean_as

    @property
    def batches(self) -> str:
        """The name of the stage's own partitions."""
        return self.names.of("batches")

    @property
    def keys(self) -> list[dg.AssetKey]:
        return [self.names.key(step) for step in STEPS]

    def needs(self, *resources: str) -> set[str]:
        """Their keys in the code location."""
        return {self.names.of(resource) for resource in resources}

    def given(self, resources: Any, resource: str) -> Any:
        """One of them, out of a context's `resources`."""
        return getattr(resources, self.names.of(resource))

    @property
    def store(self) -> "Store":
        """The store as it was set up, for what runs outside any run: a run's own may be another one."""
        resource = self.resources["store"]
        assert isinstance(resource, StoreResource)
        return resource.process_config_and_initialize().store

    def batch(self, instance: dg.DagsterInstance, partition: str | None) -> str:
        """Which batch of the store a partition is now. Raises NotJudgedYet where it was not read in."""
        if self.lands:
            return partition or ""
        return self.handed_over(instance, "raw_samples", partition, "batch")

    def handed_over(self, instance: dg.DagsterInstance, step: str, partition: str | None, entry: str) -> str:
        """A metadata entry of a step's last materialization for this partition. Raises NotJudgedYet."""
        found = entry_of(instance, self.names.key(step), partition, entry)
        if found is None:
            of = f" for batch {partition}" if partition else ""
            raise NotJudgedYet(f"{step} was not materialized{of}: materialize it first")
        return str(found)


def entry_of(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, entry: str) -> Any:
    """A metadata entry of an asset's last materialization; None where there is none."""
    asked = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(asked, limit=1).records
    materialization = records[0].asset_materialization if records else None
    if materialization is None or entry not in materialization.metadata:
        return None
    return materialization.metadata[entry].value
