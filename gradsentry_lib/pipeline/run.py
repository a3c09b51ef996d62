"""A whole scan in one call: what the command line does, and what the Dagster assets do step by step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gradsentry_lib import settings
from gradsentry_lib.errors import GateFailed
from gradsentry_lib.pipeline.decide import DecisionConfig, decide, settle
from gradsentry_lib.pipeline.decided import Decided
from gradsentry_lib.pipeline.ingest import Ingested, ingest
from gradsentry_lib.pipeline.naming import batch_key
from gradsentry_lib.pipeline.other_batches import ReleasedInOthers, released_in_others
from gradsentry_lib.pipeline.publish import Published, handed_out, publish, write_refusal
from gradsentry_lib.pipeline.score import Progress, Scored, score_batch
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.samples.source import Source
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.identity import ModelIdentity, identify
from gradsentry_lib.scoring.resident import free, open_model
from gradsentry_lib.settings import Settings, read
from gradsentry_lib.store import Run, current_run
from gradsentry_lib.store.paths import Store

if TYPE_CHECKING:
    from gradsentry_lib.scoring.resident import AnyModel


@dataclass(frozen=True)
class ModelChoice:
    """Which model is to score, as a user names it. `base`: where an adapter's base is, if not where it says."""

    name: str = field(default_factory=settings.model)
    revision: str | None = None
    device: str = field(default_factory=settings.device)
    dtype: str = field(default_factory=partial(settings.value, "dtype"))
    base: str | None = None
    resident: str = field(default_factory=partial(settings.value, "resident"))

    @classmethod
    def of(cls, said: Settings) -> "ModelChoice":
        return cls(said.model, said.revision, said.device, said.dtype, said.base_model, said.resident)

    def identify(self) -> ModelIdentity:
        return identify(self.name, self.revision, self.device, self.dtype, settings.model_digests(), self.base)

    def lease(self, identity: ModelIdentity, whole: bool = False) -> AbstractContextManager[Callable[[], "AnyModel"]]:
        """What gives the model to one scan: loaded when it is needed, freed afterwards. `whole`: see `load_model`."""
        return lazy_model(identity, whole, self.resident == "auto")


class ModelSource(Protocol):
    """Where a scan gets its model: a `ModelChoice`, or whoever keeps one loaded."""

    def identify(self) -> ModelIdentity: ...

    def lease(
        self, identity: ModelIdentity, whole: bool = False
    ) -> AbstractContextManager[Callable[[], "AnyModel"]]: ...


@dataclass(frozen=True)
class ScanResult:
    """`published` is None where the gate refused. `released_in_others`: rows put back in other batches, not in this."""

    batch: Ingested
    scored: Scored
    decided: Decided
    published: Published | None
    released_in_others: tuple[ReleasedInOthers, ...] = ()

    def files(self, store: Store) -> dict[str, Path]:
        """What there is to hand out, by name; `clean...` and `quarantine.jsonl` only where the gate is open."""
        return handed_out(store, self.decided, self.published)


@contextmanager
def lazy_model(
    identity: ModelIdentity, whole: bool = False, resident: bool = True
) -> Iterator[Callable[[], "AnyModel"]]:
    """Gives a function that loads the model on its first call; frees it at the end. `whole`, `resident`: see
    `open_model`."""
    loaded: list[AnyModel] = []

    def load() -> "AnyModel":
        if not loaded:
            loaded.append(open_model(identity, whole, resident))
        return loaded[0]

    try:
        yield load
    finally:
        free(loaded)


def scan(
    source: str | Source,
    store: Store | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    model: ModelSource | None = None,
    scoring: ScoringConfig | None = None,
    effort: Effort | None = None,
    decision: DecisionConfig | None = None,
    run: Run | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> ScanResult:
    """Reads, scores, judges and publishes one source, told by its name or opened.

    `options`: columns, split, limit, ... (see ingest.py). `settings`: all else that can be said, `settings.read()` if
    left out; `model`, `scoring`, `effort` and `decision` go over it.
    """
    said = settings or read()
    store, run = store or Store.default(), run or current_run("cli")
    told = dict(options or {})
    decision, _ = settle(decision or DecisionConfig.of(said), store)  # before an hour of scoring, not after it
    opened = source if isinstance(source, Source) else open_as_told(source, told)
    chosen = model or ModelChoice.of(said)
    identity = chosen.identify()
    scoring, effort = scoring or ScoringConfig.of(said), effort or Effort.of(said)
    key = batch_key(opened, told, store)
    with store.alone(key):
        batch = ingest(opened, store, run, told, key)
        with chosen.lease(identity, scoring.module is not None) as load:
            scored = score_batch(batch, store, run, identity, load, scoring, effort, on_progress)
            decided = decide(batch, scored, store, run, decision, load=load, scoring=scoring, cluster=effort.cluster)
        try:
            published = publish(batch, decided, store, run)
        except GateFailed:
            published = None
            write_refusal(batch, decided, store, run)
    return ScanResult(batch, scored, decided, published, released_in_others(store, batch.batch_key))
