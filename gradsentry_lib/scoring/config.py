"""What decides a score, and how the work is done. Imports no torch, so that looking scores up needs none."""

from dataclasses import asdict, dataclass
from typing import Any

from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import sha256_json

ALGORITHM = 2  # raised whenever the same sample under the same settings would get another score


@dataclass(frozen=True)
class ScoringConfig:
    """What decides a score. `k`, `crop`: paper, section 3.3. `max_tokens`: longest sample, None: the model's limit.

    `sketch`: also keep span sketches, which policies that compare rows need.
    """

    k: int = 16
    crop: int = 8
    max_tokens: int | None = None
    sketch: bool = True

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "algorithm": ALGORITHM}

    @property
    def key(self) -> str:
        return sha256_json(self.to_dict())


@dataclass(frozen=True)
class Cluster:
    """Scoring on a Ray cluster. `address`: the one to join; None: RAY_ADDRESS, or else one of this machine's own.

    `workers`: models loaded at once; None: one a GPU, or a CPU each but one.
    """

    address: str | None = None
    workers: int | None = None


def choose_cluster(engine: str, address: str | None = None, workers: int | None = None) -> Cluster | None:
    """The cluster of an engine by name: none for `local`. Raises BadInput for options that do not go together."""
    if engine == "ray":
        return Cluster(address, workers)
    if engine != "local":
        raise BadInput(f"engine {engine}: use local or ray")
    if address or workers:
        raise BadInput("a Ray address and a number of workers need the engine ray")
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
