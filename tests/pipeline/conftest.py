from collections.abc import Callable
from pathlib import Path

import pytest

from gradsentry_lib.store.paths import Store


@pytest.fixture(scope="session")
def model(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model()


@pytest.fixture
def store() -> Store:
    return Store.default()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that are loaded."""
    from gradsentry_lib.scoring import model

    names: list[str] = []
    load = model.load_model

    def counted(identity, **how):
        names.append(identity.name)
        return load(identity, **how)

    monkeypatch.setattr(model, "load_model", counted)
    return names


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rows whose response is in this list (at first "ODD") cannot be encoded: they stay unscored."""
    from gradsentry_lib.scoring import scorer

    refused = ["ODD"]
    encode = scorer.encode

    def refusing(sample, *args):
        if sample.turns[-1].text in refused:
            raise scorer.EncodingError("this one is odd")
        return encode(sample, *args)

    monkeypatch.setattr(scorer, "encode", refusing)
    return refused
