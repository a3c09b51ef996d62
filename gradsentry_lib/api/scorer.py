"""A scoring model that stays loaded from call to call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradsentry_lib.pipeline.run import ModelChoice
from gradsentry_lib.scoring.identity import ModelIdentity
from gradsentry_lib.scoring.resident import free, open_model
from gradsentry_lib.settings import read

if TYPE_CHECKING:
    from gradsentry_lib.api.result import Result
    from gradsentry_lib.scoring.resident import AnyModel


class Scorer:
    """A model for many scans: loaded when the first row needs it, freed by `close`, or at the end of a `with` block.

    Not for several threads at once: rows are scored one pass after the other.
    """

    def __init__(self, choice: ModelChoice) -> None:
        self.choice = choice
        self._identity: ModelIdentity | None = None
        self._model: AnyModel | None = None
        self._whole = False

    def scan(self, data: Any, **options: Any) -> "Result":
        """`gradsentry_lib.scan` with this model."""
        from gradsentry_lib.api.scan import scan

        return scan(data, model=self, **options)

    def identify(self) -> ModelIdentity:
        """Which weights and tokenizer these are; their files are hashed once."""
        if self._identity is None:
            self._identity = self.choice.identify()
        return self._identity

    @contextmanager
    def lease(self, identity: ModelIdentity, whole: bool = False) -> Iterator[Callable[[], "AnyModel"]]:
        """As `ModelChoice.lease`, but the model stays."""
        yield lambda: self._load(identity, whole)

    def _load(self, identity: ModelIdentity, whole: bool) -> "AnyModel":
        if self._model is None or (whole and not self._whole):
            self._model, self._whole = open_model(identity, whole, self.choice.resident == "auto"), whole
        return self._model

    @property
    def loaded(self) -> bool:
        return self._model is not None

    def close(self) -> None:
        """Frees the model. The next scan loads it again."""
        held = [] if self._model is None else [self._model]
        self._model = None
        free(held)

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Scorer {self.choice.name!r}, {'loaded' if self.loaded else 'not loaded yet'}>"


def scorer(
    model: str | None = None,
    *,
    revision: str | None = None,
    base_model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    resident: str | None = None,
) -> Scorer:
    """A model that stays loaded across calls, for a notebook or a loop over many files.

    Args:
        model: A folder, a `.gguf` file, a hub name, or `embedded`; `GRADSENTRY_MODEL` if left out.
        revision: Branch, tag or commit of a hub model.
        base_model: An adapter's base, if not where the adapter says.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `spread`; `GRADSENTRY_DEVICE` if left out.
        dtype: `auto`, `float32`, `bfloat16` or `float16`; `GRADSENTRY_DTYPE` if left out.
        resident: `auto` to score with the model that `gradsentry serve` keeps loaded, where one is; `off` not to.

    Examples:
        >>> import gradsentry_lib as gs
        >>> with gs.scorer() as model:
        ...     for part in ("red", "blue"):
        ...         rows = [{"prompt": f"What is {part} {i}?", "response": f"thing {i}"} for i in range(3)]
        ...         print(model.scan(rows, progress=False).counts["clean"], model.loaded)
        3 True
        3 True
    """
    said = read(model=model, revision=revision, base_model=base_model, device=device, dtype=dtype, resident=resident)
    return Scorer(ModelChoice.of(said))
