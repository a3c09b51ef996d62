"""One attacked store to look at, copies of it to decide on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gradsentry_lib.store.paths import Store
from tests.review.attacked import Attacked, attack


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    return attack(Store(tmp_path_factory.mktemp("review") / "store"))


@pytest.fixture
def own(attacked: Attacked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attacked:
    """A copy of the store, which is this test's and the environment's."""
    shutil.copytree(attacked.store.home, tmp_path / "own")
    monkeypatch.setenv("GRADSENTRY_HOME", str(tmp_path / "own"))
    store = Store(tmp_path / "own")
    source = str(store.home / Path(attacked.batch.source).relative_to(attacked.store.home))
    return replace(attacked, store=store, batch=replace(attacked.batch, source=source))
