"""What decides a score, and how the work is done. Imports no torch, so that looking scores up needs none."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.files import sha256_json
from gradsentry_lib.settings import OPTIONS, Settings

ALGORITHM = 3  # raised whenever the same sample under the same settings would get another score


@dataclass(frozen=True)
class ScoringConfig:
    """What decides a score. `k`, `crop`: paper, section 3.3. `max_tokens`: longest sample, None: the model's limit.

    `k`: how many singular values the entropy is of; `crop`: of a gradient of V x D the first V // crop x D // crop are
    looked at, 1: all. `sketch`: also keep span sketches, which policies that compare rows need. `module`: the linear
    layer whose gradient it is, by name (layer.py), None: the output projection. Sketches and NLL are of the output
    projection always. Raises UnusableOption for values that make no score.
    """

    k: int = Settings.k
    crop: int = Settings.crop
    max_tokens: int | None = None
    sketch: bool = True
    module: str | None = None

    def __post_init__(self) -> None:
        for name in ("k", "crop", "max_tokens"):
            OPTIONS[name].check(getattr(self, name))

    @classmethod
    def of(cls, said: Settings) -> "ScoringConfig":
        return cls(k=said.k, crop=said.crop, max_tokens=said.max_tokens, module=said.module)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as fingerprints and the ledger hold it; a module only where one is named, so that scores made
        before there was a choice are found again."""
        told = {**asdict(self), "algorithm": ALGORITHM}
        return told if self.module else {name: value for name, value in told.items() if name != "module"}

    @property
    def key(self) -> str:
        return sha256_json(self.to_dict())


def settings_note(scoring: Mapping[str, Any], policy: str) -> str:
    """What a reader of verdicts has to know of settings that are not the usual; empty where they are."""
    usual = ScoringConfig()
    changed = [
        f"{name} {scoring[name]}"
        for name in ("k", "crop")
        if scoring.get(name, getattr(usual, name)) != getattr(usual, name)
    ]
    if scoring.get("module"):
        changed.insert(0, f"module {scoring['module']}")
    if not changed:
        return ""
    if policy == "paper":
        return f"entropy with {', '.join(changed)}: fixed thresholds and trust were measured with the usual settings"
    return f"{', '.join(changed)} change the entropy alone, which the policy {policy} ignores: use the policy paper"


@dataclass(frozen=True)
class Cluster:
    """Scoring on a Ray cluster. `address`: the one to join; None: RAY_ADDRESS, or else one of this machine's own.

    `workers`: models loaded at once; None: one a GPU, or a CPU each but one.
    """

    address: str | None = None
    workers: int | None = None


def choose_cluster(engine: str, address: str | None = None, workers: int | None = None) -> Cluster | None:
    """The cluster of an engine by name: none for `local`. Raises UnusableOption for options that do not go together."""
    if engine == "ray":
        return Cluster(address, workers)
    OPTIONS["engine"].check(engine)
    if address or workers:
        raise UnusableOption("a Ray address and a number of workers need the engine ray")
    return None


@dataclass(frozen=True)
class Effort:
    """How the work is done; no score depends on it.

    `token_budget`: tokens a pass, None to size it to the device. `rows_per_shard`: samples scored before their scores
    are kept, which is what a killed run can lose. `cluster`: where to score, None for this process.
    """

    token_budget: int | None = None
    share_prefixes: bool = True
    rows_per_shard: int = 1024
    cluster: Cluster | None = None

    @classmethod
    def of(cls, said: Settings) -> "Effort":
        """Raises UnusableOption for options that do not go together."""
        cluster = choose_cluster(said.engine, said.ray_address, said.workers)
        return cls(token_budget=said.token_budget, cluster=cluster)
