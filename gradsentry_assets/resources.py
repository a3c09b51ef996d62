"""What the assets are given: the store, the model, how to judge, and where batches arrive.

The fields are the library's settings, by their names, defaults and descriptions. An empty field takes its value from
the environment (`GRADSENTRY_*`) of the process that uses it, so that a deployment needs no run configuration and a
single run can still override anything in the launchpad.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from gradsentry_lib import settings
from gradsentry_lib.settings import OPTIONS, Settings

if TYPE_CHECKING:  # they load what reads and scores: too much for who only loads the code location
    from upath import UPath

    from gradsentry_lib.pipeline.decide import DecisionConfig
    from gradsentry_lib.scoring.config import Effort, ScoringConfig
    from gradsentry_lib.scoring.identity import ModelIdentity
    from gradsentry_lib.scoring.resident import AnyModel
    from gradsentry_lib.store.paths import Store


def told(name: str) -> Any:
    """The field of that setting. Left out it is empty, and the environment or the default counts."""
    return Field(default=None, description=OPTIONS[name].told)


class StoreResource(dg.ConfigurableResource):
    """The folder that holds the ledger, the batches and the score cache; and where results go besides."""

    home: str | None = told("home")
    outputs: str | None = told("outputs")

    @property
    def store(self) -> "Store":
        from gradsentry_lib.store.paths import Store

        return Store(Path(settings.value("home", self.home)).absolute())

    @property
    def delivered_to(self) -> str | None:
        return settings.value("outputs", self.outputs)


class ReadingResource(dg.ConfigurableResource):
    """How rows are read, where it can't be guessed."""

    columns: dict[str, str] = Field(
        default_factory=dict, description='Which column is which, like {"prompt": "q", "response": "a"}.'
    )
    roles: dict[str, str] = Field(
        default_factory=dict, description='Whose turns a speaker\'s are, like {"narrator": "assistant"}.'
    )
    response_marker: str = Field(default="", description="What stands before the answer in a text; none: all of it.")
    mapping: str | None = told("landing_mapping")
    encoding: str = Field(default="", description="How texts are written, like cp1252, where that does not show.")
    separator: str = Field(default="", description="Of CSV, where the header does not show it.")

    def told(self, url: str) -> dict[str, Any]:
        """How a file is to be read, as far as anybody said; a batch keeps what was said when it arrived. Raises
        UnusableFile where the mapping file has nothing for it."""
        from gradsentry_lib.samples.mapping import read_mapping

        mapping = settings.value("landing_mapping", self.mapping)
        found: dict[str, Any] = read_mapping(Path(mapping), url) if mapping else {}
        found["columns"] = {**found.get("columns", {}), **self.columns}
        found["roles"] = {**found.get("roles", {}), **self.roles}
        name = PurePosixPath(url).name.lower()
        found["marker"] = self.response_marker
        if not name.endswith((".parquet", ".arrow", ".feather")):
            found["encoding"] = self.encoding
        if ".csv" in name or ".tsv" in name:
            found["separator"] = self.separator
        return {name: value for name, value in found.items() if value}


class LandingResource(ReadingResource):
    """Where batches arrive, and how they are read."""

    url: str | None = told("landing")
    pattern: str | None = told("landing_pattern")
    done_marker: bool | None = told("landing_marker")

    def root_in(self, store: "Store") -> "UPath":
        """The folder; where nobody named one, that of the store."""
        from upath import UPath

        return UPath(self.url or settings.value("landing") or str(store.landing))

    @property
    def wanted(self) -> str:
        return settings.value("landing_pattern", self.pattern)

    @property
    def needs_marker(self) -> bool:
        return settings.value("landing_marker", self.done_marker)


class ModelResource(dg.ConfigurableResource):
    """The model whose gradients score the samples. Loaded when first asked for, freed when the run ends."""

    model: str | None = told("model")
    revision: str | None = told("revision")
    base_model: str | None = told("base_model")
    device: str | None = told("device")
    dtype: str | None = told("dtype")
    token_budget: int | None = told("token_budget")
    max_tokens: int | None = told("max_tokens")
    module: str | None = told("module")
    k: int | None = told("k")
    crop: int | None = told("crop")
    engine: str | None = told("engine")
    ray_address: str | None = told("ray_address")
    workers: int | None = told("workers")
    resident: str | None = told("resident")

    _loaded: "AnyModel | None" = PrivateAttr(default=None)

    @property
    def said(self) -> Settings:
        """Raises UnusableOption."""
        return settings.read(**_given(self, "model"))

    def identify(self) -> "ModelIdentity":
        """Which weights and tokenizer these are, by their bytes; loads nothing."""
        from gradsentry_lib.pipeline.run import ModelChoice

        return ModelChoice.of(self.said).identify()

    def load(self, identity: "ModelIdentity") -> "AnyModel":
        from gradsentry_lib.scoring.resident import open_model

        if self._loaded is None:
            self._loaded = open_model(identity, self.scoring.module is not None, self.said.resident == "auto")
        return self._loaded

    @property
    def scoring(self) -> "ScoringConfig":
        from gradsentry_lib.scoring.config import ScoringConfig

        return ScoringConfig.of(self.said)

    @property
    def effort(self) -> "Effort":
        from gradsentry_lib.scoring.config import Effort

        return Effort.of(self.said)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["ModelResource"]:
        try:
            yield self
        finally:
            if self._loaded is not None:
                from gradsentry_lib.scoring.resident import free

                held, self._loaded = [self._loaded], None
                free(held)


class JudgingResource(dg.ConfigurableResource):
    """How scores become verdicts, and what the gate lets through."""

    policy: str | None = told("policy")
    threshold: float | None = told("threshold")
    max_flagged: float | None = told("max_flagged")
    warn_flagged: float | None = told("warn_flagged")
    max_unscored: float | None = told("max_unscored")
    max_rejected: float | None = told("max_rejected")
    min_power: float | None = told("min_power")
    power: str | None = told("power")
    limits_by: str | None = told("limits_by")
    limits_reason: str | None = told("limits_reason")
    control_tokens: str | None = told("control_tokens")
    watched: str | None = told("watched")
    known: str | None = told("known")

    @property
    def decision(self) -> "DecisionConfig":
        """Raises UnusableOption where a figure is out of range. A limit that nobody gave is the store's own."""
        from gradsentry_lib.pipeline.decide import DecisionConfig

        return DecisionConfig.of(settings.read(**_given(self, "judging")))

    def check(self) -> None:
        """Raises UnusableOption where these settings could not judge."""
        _ = self.decision


def _given(resource: dg.ConfigurableResource, group: str) -> dict[str, Any]:
    """The fields of a resource, by the names of the settings that they are."""
    fields = {option.name: option.field for option in OPTIONS.values() if option.group == group}
    return {name: getattr(resource, field) for name, field in fields.items() if "dagster" in OPTIONS[name].places}
