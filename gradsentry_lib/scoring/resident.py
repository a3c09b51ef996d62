"""A scorer that another process of this user keeps loaded (`gradsentry serve`): found, asked, done without.

Found by a small file in the cache, named by model, number format and device, that only this user may write; it says
where the process listens and what to say to it. It is asked only where it scores with the very same weights and code.
Where there is none, or it goes away half-way, the model is loaded here, so nothing depends on it but time. What
goes to and fro: resident_wire.py.

Imports neither torch nor, where there is none to be found, what it takes to ask.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from gradsentry_lib import settings
from gradsentry_lib.files import read_json, sha256_json
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring import tested
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.scoring.identity import SPREAD, ModelIdentity
from gradsentry_lib.scoring.score import Score

if TYPE_CHECKING:
    from gradsentry_lib.scoring.model import ScoringModel

    AnyModel: TypeAlias = "ScoringModel | Remote"

log = logging.getLogger(__name__)

ROWS = 1_024  # of one request
ALIVE = 60.0  # seconds without a frame after which a scorer counts as gone; it sends one every few


@dataclass
class Remote:
    """Stands where a ScoringModel would. `here`: loads the model, for when the other process goes away."""

    address: str
    token: str
    here: "Callable[[], ScoringModel]"
    loaded: "ScoringModel | None" = field(default=None, repr=False)

    @property
    def whole(self) -> bool:
        return self.loaded is not None and self.loaded.whole

    def score(
        self,
        samples: Sequence[Sample],
        config: ScoringConfig,
        effort: Effort | None = None,
        tell: Callable[[int], None] | None = None,
    ) -> list[Score]:
        """As `score_samples`."""
        from gradsentry_lib.scoring import resident_wire as wire

        made: list[Score] = []
        while self.loaded is None and len(made) < len(samples):
            told = 0

            def report(rows: int) -> None:
                nonlocal told
                told += rows
                if tell is not None:
                    tell(rows)

            part = samples[len(made) : len(made) + ROWS]
            try:
                made += self._ask(part, config, report)
            except wire.Gone as error:
                log.warning("The scorer at %s went away (%s): the model is loaded here.", self.address, error)
                self.loaded = self.here()
                report(-told)
        if len(made) == len(samples):
            return made
        from gradsentry_lib.scoring.scorer import score_samples

        assert self.loaded is not None
        return made + score_samples(samples[len(made) :], self.loaded, config, effort, tell)

    def about(self) -> dict[str, Any]:
        """Which model it has, and which code. Raises Gone."""
        from gradsentry_lib.scoring import resident_wire as wire

        with wire.answer(self.address, self.token, "GET", "/about", b"", timeout=5.0) as answer:
            return wire.read_about(answer)

    def _ask(self, samples: Sequence[Sample], config: ScoringConfig, report: Callable[[int], None]) -> list[Score]:
        from gradsentry_lib.scoring import resident_wire as wire

        body = wire.request_of(samples, config)
        with wire.answer(self.address, self.token, "POST", "/score", body, timeout=ALIVE) as answer:
            return wire.read_scores(answer, len(samples), report)


def score_with(
    model: "AnyModel",
    samples: Sequence[Sample],
    config: ScoringConfig,
    effort: Effort | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Score]:
    """`score_samples` with a model that is loaded here or elsewhere."""
    if isinstance(model, Remote):
        return model.score(samples, config, effort, on_progress)
    from gradsentry_lib.scoring.scorer import score_samples

    return score_samples(samples, model, config, effort, on_progress)


def open_model(identity: ModelIdentity, whole: bool = False, resident: bool = True) -> "AnyModel":
    """The model that another process keeps loaded, where there is one and it is wanted; else loaded here.

    `whole`: see `load_model`; such a model is always this process's own. Raises BadInput.
    """

    def here() -> "ScoringModel":
        from gradsentry_lib.scoring.model import load_model

        return load_model(identity, whole=whole)

    return (find(identity, here) if resident and not whole else None) or here()


def free(held: "list[AnyModel]") -> None:
    """Empties the list and gives the memory of what was in it back, if nobody else holds it."""
    here = [model for model in held if not isinstance(model, Remote) or model.loaded is not None]
    held.clear()
    if here:
        from gradsentry_lib.scoring.model import release

        whole = any(model.whole for model in here)
        here.clear()
        release(collect=whole)


def find(identity: ModelIdentity, here: "Callable[[], ScoringModel]") -> Remote | None:
    """The running scorer of exactly this model, code and device; None where there is none."""
    path = place(identity)
    if identity.device == SPREAD or not path.exists():
        return None
    from gradsentry_lib.scoring import resident_wire as wire

    try:
        if not (tested.owned(path) and tested.owned(path.parent)):
            log.warning("%s is not this user's alone to write: not believed.", path)
            return None
        told = read_json(path)
        remote = Remote(str(told["address"]), str(told["token"]), here)
        same = remote.about() == about(identity)
    except (OSError, ValueError, KeyError, TypeError, wire.Gone):
        return None  # it was killed, or is of another version
    return remote if same else None


def about(identity: ModelIdentity) -> dict[str, Any]:
    """What two processes must have in common to give the same scores."""
    return {"fingerprint": identity.fingerprint, "device": identity.device, "software": tested.software()}


def place(identity: ModelIdentity) -> Path:
    """The file that says where the scorer of this model listens."""
    return settings.cache() / "resident" / f"{sha256_json([identity.fingerprint, identity.device])[:32]}.json"
