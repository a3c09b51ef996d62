"""What the assets are given: the store, the model, how to judge, and where batches arrive.

An empty field takes its value from the environment (`GRADSENTRY_*`) of the process that uses it, so that a deployment
needs no run configuration and a single run can still override anything in the launchpad.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr
from upath import UPath

from gradsentry_lib import settings
from gradsentry_lib.detection.control import QUARANTINE
from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.detection.policies import DEFAULT_POLICY, POLICIES
from gradsentry_lib.errors import BadInput
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.scoring.config import Effort, ScoringConfig, choose_cluster
from gradsentry_lib.scoring.identity import ModelIdentity, identify
from gradsentry_lib.store.paths import Store

if TYPE_CHECKING:
    from gradsentry_lib.scoring.model import ScoringModel


class StoreResource(dg.ConfigurableResource):
    """The folder that holds the ledger, the batches and the score cache."""

    home: str = Field(
        default="", description="Folder; if empty GRADSENTRY_HOME, else `.gradsentry` where Dagster runs."
    )

    @property
    def store(self) -> Store:
        return Store(Path(self.home).absolute() if self.home else settings.home())


class LandingResource(dg.ConfigurableResource):
    """Where batches arrive."""

    url: str = Field(
        default="",
        description="Folder or fsspec URL (s3://...); if empty GRADSENTRY_LANDING, else `landing` in the store.",
    )
    pattern: str = Field(
        default="",
        description="Which files are batches, like `team-a/*`; if empty GRADSENTRY_LANDING_PATTERN, else all.",
    )
    done_marker: bool | None = Field(
        default=None,
        description="Wait for `<file>.done` instead of for a file to settle; if empty GRADSENTRY_LANDING_MARKER=1.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description='Which column is which, like {"prompt": "q", "response": "a"}.'
    )
    roles: dict[str, str] = Field(
        default_factory=dict, description='Whose turns a speaker\'s are, like {"narrator": "assistant"}.'
    )
    response_marker: str = Field(default="", description="What stands before the answer in a text; none: all of it.")
    mapping: str = Field(
        default="",
        description="LLaMA-Factory's dataset_info.json or Axolotl's YAML, by which files are read; "
        "if empty GRADSENTRY_LANDING_MAPPING.",
    )
    encoding: str = Field(default="", description="How texts are written, like cp1252, where that does not show.")
    separator: str = Field(default="", description="Of CSV, where the header does not show it.")

    @property
    def root(self) -> UPath:
        return UPath(self.url or settings.landing())

    @property
    def wanted(self) -> str:
        return self.pattern or os.environ.get("GRADSENTRY_LANDING_PATTERN") or "*"

    def told(self, url: str) -> dict[str, Any]:
        """How a file is to be read, as far as anybody said; a batch keeps what was said when it arrived. Raises
        BadInput where the mapping file has nothing for it."""
        from gradsentry_lib.samples.mapping import read_mapping

        mapping = self.mapping or os.environ.get("GRADSENTRY_LANDING_MAPPING", "")
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

    @property
    def needs_marker(self) -> bool:
        if self.done_marker is None:
            return os.environ.get("GRADSENTRY_LANDING_MARKER") == "1"
        return self.done_marker


class ModelResource(dg.ConfigurableResource):
    """The model whose gradients score the samples. Loaded when first asked for, freed when the run ends."""

    model: str = Field(
        default="", description="A folder, a hub name or `embedded`; if empty GRADSENTRY_MODEL, else `embedded`."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    base_model: str | None = Field(default=None, description="An adapter's base, if not where the adapter says.")
    device: str = Field(
        default="",
        description="auto, cpu, cuda, cuda:N, or spread (over all there is); if empty GRADSENTRY_DEVICE, else auto.",
    )
    dtype: str = Field(default="auto", description="auto, float32, bfloat16 or float16.")
    token_budget: int | None = Field(default=None, description="Tokens in one pass; sized to the device if empty.")
    max_tokens: int | None = Field(default=None, description="Longest sample read whole; the model's limit if empty.")
    module: str | None = Field(
        default=None, description="Linear layer whose gradient gives the entropy; empty: the output projection."
    )
    k: int = Field(default=16, description="Singular values the entropy is of.")
    crop: int = Field(default=8, description="Part of the gradient looked at: 1/crop a side; 1: all.")
    engine: str = Field(default="local", description="Where to score: `local`, in the step's own process, or `ray`.")
    ray_address: str | None = Field(default=None, description="Ray cluster to join; empty: RAY_ADDRESS or one here.")
    workers: int | None = Field(default=None, description="With Ray: models loaded at once; one a GPU if empty.")

    _loaded: "ScoringModel | None" = PrivateAttr(default=None)

    def identify(self) -> ModelIdentity:
        """Which weights and tokenizer these are, by their bytes; loads nothing."""
        return identify(
            self.model or settings.model(),
            self.revision,
            self.device or settings.device(),
            self.dtype,
            settings.model_digests(),
            self.base_model,
        )

    def load(self, identity: ModelIdentity) -> "ScoringModel":
        from gradsentry_lib.scoring.model import load_model

        if self._loaded is None:
            self._loaded = load_model(identity, whole=True) if self.module else load_model(identity)
        return self._loaded

    @property
    def scoring(self) -> ScoringConfig:
        return ScoringConfig(k=self.k, crop=self.crop, max_tokens=self.max_tokens, module=self.module)

    @property
    def effort(self) -> Effort:
        return Effort(
            token_budget=self.token_budget, cluster=choose_cluster(self.engine, self.ray_address, self.workers)
        )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["ModelResource"]:
        try:
            yield self
        finally:
            if self._loaded is not None:
                from gradsentry_lib.scoring.model import release

                self._loaded = None
                release()


class JudgingResource(dg.ConfigurableResource):
    """How scores become verdicts, and what the gate lets through."""

    policy: str = Field(
        default="",
        description=f"Which policy judges ({', '.join(POLICIES)}); if empty GRADSENTRY_POLICY, else the default.",
    )
    threshold: float | None = Field(default=None, description="A fixed threshold in place of the one the data show.")
    max_flagged: float | None = Field(
        default=None, description="Flagged fraction above which nothing is published; GRADSENTRY_MAX_FLAGGED, else 0.5."
    )
    warn_flagged: float | None = Field(
        default=None, description="Flagged fraction above which the check warns; GRADSENTRY_WARN_FLAGGED, else 0.2."
    )
    max_unscored: float | None = Field(
        default=None,
        description="Unscored fraction above which nothing is published; GRADSENTRY_MAX_UNSCORED, else 0.05.",
    )
    max_rejected: float | None = Field(
        default=None,
        description="Fraction of unreadable rows above which nothing is published; GRADSENTRY_MAX_REJECTED, else 0.05.",
    )
    limits_by: str = Field(
        default="",
        description="Who answers for limits looser than the store's own; recorded. GRADSENTRY_LIMITS_BY if empty.",
    )
    limits_reason: str = Field(
        default="", description="Why they are looser; recorded and shown. GRADSENTRY_LIMITS_REASON if empty."
    )
    control_tokens: str = Field(
        default=QUARANTINE,
        description="Rows whose own text holds control tokens (<|im_start|>, </s>): `quarantine` or `keep`.",
    )

    watched: str = Field(
        default="",
        description="Watched rows: `keep` (default) or `quarantine`; GRADSENTRY_WATCHED if empty.",
    )

    @property
    def decision(self) -> DecisionConfig:
        """Raises BadInput where a figure is out of range. A limit that nobody gave is the store's own."""
        names = ("max_flagged", "warn_flagged", "max_unscored", "max_rejected")
        return DecisionConfig(
            policy=self.policy or os.environ.get("GRADSENTRY_POLICY") or DEFAULT_POLICY,
            threshold=ThresholdConfig(fixed=self.threshold),
            limits={name: _limit(getattr(self, name), f"GRADSENTRY_{name.upper()}") for name in names},
            limits_by=self.limits_by or os.environ.get("GRADSENTRY_LIMITS_BY", ""),
            limits_reason=self.limits_reason or os.environ.get("GRADSENTRY_LIMITS_REASON", ""),
            control_tokens=self.control_tokens,
            watched=self.watched or settings.watched(),
        )

    def check(self) -> None:
        """Raises BadInput where these settings could not judge."""
        _ = self.decision


def _limit(given: float | None, variable: str) -> float | None:
    if given is not None or not os.environ.get(variable):
        return given
    try:
        return float(os.environ[variable])
    except ValueError:
        raise BadInput(f"{variable} is no number: {os.environ[variable]!r}") from None
