"""The folder for results: a scan replaces and removes what a scan wrote, and nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradsentry_lib.errors import BadInput
from gradsentry_lib.pipeline.output_folder import LIST, OutputFolder, expected
from gradsentry_lib.pipeline.publish import handed_out
from gradsentry_lib.store.paths import Store

ROWS = b'{"prompt": "a", "response": "b"}\n'
Place = Callable[[Path, Path], object]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "rows.jsonl"
    path.parent.mkdir()
    path.write_bytes(ROWS)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def results(store: Path, **texts: str) -> dict[str, Path]:
    """Files of the store to hand out: `clean=...` becomes clean.jsonl."""
    store.mkdir(exist_ok=True)
    made = {}
    for stem, text in texts.items():
        made[f"{stem}.jsonl"] = store / f"{stem}.jsonl"
        made[f"{stem}.jsonl"].write_text(text)
    return made


def everything(folder: Path) -> dict[str, object]:
    """All entries below a folder, with what files hold and where links point."""
    return {
        str(path.relative_to(folder)): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else path.stat().st_mode
        for path in folder.rglob("*")
    }


def target(tmp_path: Path, source: Path, overwrite: bool = False, store: str = "store") -> OutputFolder:
    return OutputFolder(tmp_path / "out", tmp_path / store, source, overwrite)


def test_its_own_are_replaced_and_removed(tmp_path: Path, source: Path, out: Path) -> None:
    mine = target(tmp_path, source)
    mine.check(".jsonl")
    mine.write(results(tmp_path / "a", clean="1", quarantine="2"))
    (out / "cleaning-notes.txt").write_text("mine")
    mine.check(".jsonl")
    mine.write(results(tmp_path / "b", rejected="3"))
    assert {path.name for path in out.iterdir()} == {"rejected.jsonl", "cleaning-notes.txt", LIST}


def test_all_that_is_handed_out_is_known_as_output(tmp_path: Path) -> None:
    """Else the list of a scan that wrote it would not be believed by the next."""
    store = Store(tmp_path / "store")
    decision, published = store.decision("batch-1", "key"), store.published("batch-1", "key")
    for path in (
        *(decision.verdicts, decision.threshold, decision.plot, decision.groups, decision.power, decision.report),
        *(published.clean(".jsonl"), published.quarantine, published.attestation, published.report),
        store.rejected("batch-1"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    decided = SimpleNamespace(batch_key="batch-1", decision_key="key")
    made = handed_out(store, decided, SimpleNamespace(folder=published.folder))  # type: ignore[arg-type]  # what it asks
    assert set(made) == expected(".jsonl")


FOREIGN: dict[str, Place] = {
    "clean.jsonl": lambda place, data: place.write_text("mine"),
    "quarantine.jsonl": lambda place, data: place.write_text("mine"),
    "rejected.jsonl": lambda place, data: place.mkdir(),
    "verdicts.parquet": lambda place, data: place.symlink_to("nowhere"),
    "threshold.json": lambda place, data: os.mkfifo(place),
    "threshold.png": lambda place, data: place.write_text(""),
    "groups.json": lambda place, data: place.symlink_to("../other.txt"),
    "attestation.json": lambda place, data: place.symlink_to("."),
    "report.html": lambda place, data: (place / "below").mkdir(parents=True),
    LIST: lambda place, data: place.write_text("my list"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_foreign_is_named_and_stays_unless_overwritten(
    name: str, tmp_path: Path, source: Path, out: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("another file of the user's")
    FOREIGN[name](out / name, source.parent)
    before = everything(out)
    with pytest.raises(BadInput, match=name):
        target(tmp_path, source).check(".jsonl")
    assert everything(out) == before

    willing = target(tmp_path, source, overwrite=True)
    willing.check(".jsonl")
    made = {key: results(tmp_path / "a", clean="1")["clean.jsonl"] for key in FOREIGN if key != LIST}
    willing.write(made)
    assert all((out / key).read_text() == "1" and not (out / key).is_symlink() for key in made)
    assert other.read_text() == "another file of the user's" and source.read_bytes() == ROWS
    target(tmp_path, source).check(".jsonl")


@pytest.mark.parametrize("change", ["edited", "of another store", "a link now", "added to"])
def test_its_own_that_changed_is_foreign(change: str, tmp_path: Path, source: Path, out: Path) -> None:
    made = results(tmp_path / "a", clean="1")
    folder = tmp_path / "a" / "clean"
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    target(tmp_path, source).write(made | {"clean": folder})
    if change == "edited":
        (out / "clean.jsonl").write_text("2")
    elif change == "a link now":
        (out / "clean.jsonl").rename(tmp_path / "moved")
        (out / "clean.jsonl").symlink_to(tmp_path / "moved")
    elif change == "added to":
        (out / "clean" / "notes.txt").write_text("mine")
    mine = target(tmp_path, source, store="another" if change == "of another store" else "store")
    before = everything(out)
    with pytest.raises(BadInput, match=r"clean.*--overwrite"):
        mine.check(".jsonl")
    with pytest.raises(BadInput, match="clean"):  # also where it changed while the scan ran
        mine.write(made)
    assert everything(out) == before


def test_a_list_that_names_other_files_is_not_believed(tmp_path: Path, source: Path, out: Path) -> None:
    from gradsentry_lib.files import sha256_file

    told = {"store": str((tmp_path / "store").resolve()), "outputs": {"../data/rows.jsonl": [sha256_file(source)]}}
    (out / LIST).write_text(json.dumps(told))
    with pytest.raises(BadInput, match=LIST):
        target(tmp_path, source).check(".jsonl")
    willing = target(tmp_path, source, overwrite=True)
    willing.check(".jsonl")
    willing.write(results(tmp_path / "a", clean="1"))
    assert source.read_bytes() == ROWS


SOURCES: dict[str, Place] = {
    "a hard link": lambda out, source: os.link(source, out / "clean.jsonl"),
    "a symbolic link": lambda out, source: (out / "clean.jsonl").symlink_to(source),
    "a link of a link": lambda out, source: (
        (out / "way").symlink_to(source),
        (out / "clean.jsonl").symlink_to(out / "way"),
    ),
    "a link to its folder": lambda out, source: (out / "clean.jsonl").symlink_to(source.parent),
    "a folder with a hard link": lambda out, source: (
        (out / "clean.jsonl").mkdir(),
        os.link(source, out / "clean.jsonl" / "x"),
    ),
    "under another name": lambda out, source: os.link(source, out / "report.html"),
    "the list": lambda out, source: os.link(source, out / LIST),
}


@pytest.mark.parametrize("way", SOURCES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_source_is_never_overwritten(way: str, overwrite: bool, tmp_path: Path, source: Path, out: Path) -> None:
    SOURCES[way](out, source)
    before = everything(out)
    with pytest.raises(BadInput, match="is the source"):
        target(tmp_path, source, overwrite).check(".jsonl")
    assert everything(out) == before and source.read_bytes() == ROWS


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_source_itself_or_a_folder_around_it(overwrite: bool, tmp_path: Path, out: Path) -> None:
    itself = out / "clean.jsonl"
    itself.write_bytes(ROWS)
    with pytest.raises(BadInput, match="is the source"):
        target(tmp_path, itself, overwrite).check(".jsonl")
    inside = out / "clean" / "data" / "rows.parquet"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(ROWS)
    with pytest.raises(BadInput, match="holds it"):
        target(tmp_path, inside.parent, overwrite).check("")
    with pytest.raises(BadInput, match="outside it"):
        OutputFolder(inside.parent / "results", tmp_path / "store", out / "clean", overwrite).check("")
    assert inside.read_bytes() == itself.read_bytes() == ROWS


def test_who_is_killed_while_handing_out_leaves_nothing_foreign(
    tmp_path: Path, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = target(tmp_path, source)
    mine.write(results(tmp_path / "a", clean="1", quarantine="1"))

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken, pytest.raises(OSError):
        broken.setattr("shutil.copyfile", full)
        mine.write(results(tmp_path / "b", clean="2", quarantine="2"))
    mine.check(".jsonl")
    mine.write(results(tmp_path / "b", clean="2", quarantine="2"))
    assert (out / "clean.jsonl").read_text() == "2"
