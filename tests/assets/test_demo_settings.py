"""`make demo` heeds the environment, and says so."""

from pathlib import Path

import dagster as dg
import pytest

from gradsentry_assets import demo
from gradsentry_assets.demo import said_of_settings
from gradsentry_lib.store.paths import Store


def test_what_is_said() -> None:
    assert said_of_settings({"PATH": "/bin"}) == []
    assert said_of_settings(
        {
            "GRADSENTRY_MODEL": "/m",
            "DAGSTER_HOME": "/d",
            "GRADSENTRY_KEY_PASSWORD": "secret",
            "GRADSENTRY_WEBHOOK": "https://secret",
            "GRADSENTRY_LANDING_PATTERN": "*",
            "GRADSENTRY_MDOEL": "x",
            "GRADSENTRY_POLICY": "",
        }
    ) == [
        "From the environment: DAGSTER_HOME=/d, GRADSENTRY_KEY_PASSWORD=***, GRADSENTRY_MODEL=/m.",
        "Not used by the demo: GRADSENTRY_LANDING_PATTERN, GRADSENTRY_WEBHOOK.",
        "Of no meaning: GRADSENTRY_MDOEL.",
    ]


class Begun(Exception):
    """The demo has found its places."""


@pytest.mark.parametrize("named", [True, False])
def test_store_and_history_are_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name, place in (("GRADSENTRY_HOME", "my store"), ("DAGSTER_HOME", "my history")):
        if named:
            monkeypatch.setenv(name, str(tmp_path / place))
        else:
            monkeypatch.setenv(name, "")

    take_in = demo.take_in

    def begin(store: Store, instance: dg.DagsterInstance) -> str:
        take_in(store, instance)
        instance.dispose()
        raise Begun

    monkeypatch.setattr(demo, "take_in", begin)
    with pytest.raises(Begun):
        demo.main()
    store, history = ("my store", "my history") if named else ("here/.gradsentry", "here/.dagster_home")
    assert list((tmp_path / store).glob("batches/*/arrival.json"))
    assert (tmp_path / history / "dagster.yaml").exists()
    assert sorted(path.name for path in here.iterdir()) == ([] if named else [".dagster_home", ".gradsentry"])
