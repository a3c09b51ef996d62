"""Results at a URL: against an S3 server on this machine's loopback, and against fsspec's file systems in memory."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner
from upath import UPath

import gradsentry_lib as gs
from gradsentry_lib.cli import load_command
from gradsentry_lib.errors import BadInput, InTheWay
from gradsentry_lib.pipeline.deliver import outputs_at
from gradsentry_lib.pipeline.output_folder import LIST
from tests.pipeline.builder import lines, write


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> str:
    return f"memory://{request.node.name.partition('[')[0]}"


@pytest.fixture(params=["s3", "memory"])
def place(request: pytest.FixtureRequest) -> str:
    """A prefix of this test's own."""
    name = request.node.name.partition("[")[0]
    return f"{request.getfixturevalue('s3')}/{name}" if request.param == "s3" else f"memory://{name}"


def names(place: str) -> set[str]:
    root = UPath(place)
    root.fs.invalidate_cache()
    return {path.removeprefix(root.path).strip("/") for path in root.fs.find(root.path)}


def files(folder: Path, **texts: str) -> dict[str, Path]:
    """`clean=...` becomes clean.jsonl."""
    folder.mkdir(exist_ok=True)
    for stem, text in texts.items():
        (folder / f"{stem}.jsonl").write_text(text)
    return {f"{stem}.jsonl": folder / f"{stem}.jsonl" for stem in texts}


def read(place: str, name: str) -> str:
    return (UPath(place) / name).read_text()


def test_its_own_are_replaced_and_removed(place: str, tmp_path: Path) -> None:
    mine = outputs_at(place, tmp_path, None)
    mine.check(".jsonl")
    mine.write(files(tmp_path / "a", clean="1", quarantine="2"))
    (UPath(place) / "notes.txt").write_text("mine")
    mine.check(".jsonl")
    folder = tmp_path / "clean"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "part.parquet").write_text("p")
    mine.write(files(tmp_path / "b", rejected="3") | {"clean": folder})
    assert names(place) == {"rejected.jsonl", "clean/data/part.parquet", "notes.txt", LIST}
    mine.check("")
    assert mine.clean_names() == ["clean"]
    mine.withdraw()
    assert names(place) == {"notes.txt", LIST}


@pytest.mark.parametrize("name", ["clean.jsonl", "report.html", LIST])
def test_what_is_foreign_is_named_and_stays_unless_overwritten(name: str, place: str, tmp_path: Path) -> None:
    place = f"{place}/{name.strip('.').partition('.')[0]}"
    (UPath(place) / name).write_text("somebody's")
    with pytest.raises(InTheWay, match=name):
        outputs_at(place, tmp_path, None).check(".jsonl")
    assert read(place, name) == "somebody's"
    willing = outputs_at(place, tmp_path, None, overwrite=True)
    willing.check(".jsonl")
    willing.write(files(tmp_path / "a", clean="1"))
    assert read(place, "clean.jsonl") == "1"
    outputs_at(place, tmp_path, None).check(".jsonl") if name != "report.html" else None


@pytest.mark.parametrize("change", ["edited", "of another store"])
def test_its_own_that_changed_is_foreign(change: str, place: str, tmp_path: Path) -> None:
    place = f"{place}/{change.partition(' ')[0]}"
    outputs_at(place, tmp_path, None).write(files(tmp_path / "a", clean="1"))
    if change == "edited":
        (UPath(place) / "clean.jsonl").write_text("22")
    other = outputs_at(place, tmp_path / "another" if change != "edited" else tmp_path, None)
    with pytest.raises(InTheWay, match=r"clean.*--overwrite"):
        other.check(".jsonl")
    with pytest.raises(InTheWay, match="clean"):
        other.write(files(tmp_path / "a", clean="1"))


def test_a_list_that_names_other_files_is_not_believed(place: str, tmp_path: Path) -> None:
    (UPath(place) / "data.txt").write_text("x")
    for name in ("../data.txt", "data.txt", "clean/../data.txt"):
        told = {"store": str(tmp_path.resolve()), "outputs": {name: ["being written"]}}
        (UPath(place) / LIST).write_text(json.dumps(told))
        with pytest.raises(InTheWay, match=LIST):
            outputs_at(place, tmp_path, None).check(".jsonl")
    assert read(place, "data.txt") == "x"


def test_the_source_is_never_overwritten(place: str, tmp_path: Path) -> None:
    (UPath(place) / "clean.jsonl").write_text("{}")
    with pytest.raises(InTheWay, match="is the source"):
        outputs_at(place, tmp_path, f"{place}/clean.jsonl", overwrite=True).check(".jsonl")


def test_who_is_killed_while_handing_out_leaves_nothing_foreign(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = outputs_at(memory, tmp_path, None)
    made = files(tmp_path / "a", clean="1", quarantine="1")
    put = type(UPath(memory).fs).put_file
    with monkeypatch.context() as patch, pytest.raises(BadInput, match="no space"):
        patch.setattr(
            "fsspec.implementations.memory.MemoryFileSystem.put_file",
            lambda self, path, to, **more: put(self, path, to) if "quarantine" in to else fail(),
        )
        mine.write(made)
    assert names(memory) == {"quarantine.jsonl", LIST}  # the clean copy goes last
    mine.check(".jsonl")
    mine.write(made)
    assert names(memory) == {"clean.jsonl", "quarantine.jsonl", LIST}


def fail() -> Any:
    raise OSError("no space left")


@pytest.mark.filterwarnings("ignore:UPath")
def test_elsewhere_files_are_moved_into_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file system that is no object store; fsspec's view of a folder stands for it."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    class Far(DirFileSystem):
        protocol = "far"

        def __init__(self, **more: Any) -> None:
            super().__init__(path=str(tmp_path / "far"), fs=LocalFileSystem())

    fsspec.register_implementation("far", Far, clobber=True)
    mine = outputs_at("far://results", tmp_path, None)
    mine.check(".jsonl")
    mine.write(files(tmp_path / "a", clean="1"))
    mine.check(".jsonl")
    mine.write(files(tmp_path / "a", clean="2"))
    assert (tmp_path / "far" / "results" / "clean.jsonl").read_text() == "2"
    assert {path.name for path in (tmp_path / "far" / "results").iterdir()} == {"clean.jsonl", LIST}


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    mine = outputs_at(f"file://{tmp_path}/out", tmp_path, None)
    mine.write(files(tmp_path / "a", clean="1"))
    assert (tmp_path / "out" / "clean.jsonl").read_text() == "1"


def test_what_can_not_be_reached_says_so_in_a_line(s3: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"can't reach s3://nosuchbucket/x: .*bucket"):
        outputs_at("s3://nosuchbucket/x", tmp_path, None).check(".jsonl")
    with pytest.raises(BadInput, match=r"needs another package: pip install gcsfs"):
        outputs_at("gs://bucket/x", tmp_path, None).check(".jsonl")


@pytest.mark.slow
def test_a_scan_from_s3_to_s3(s3: str, tiny_model: Any, tmp_path: Path) -> None:
    """The command and Python come to the same objects; the source stays what it was."""
    source = write(tmp_path / "rows.jsonl", lines(range(20)))
    (UPath(s3) / "scan" / "in" / "rows.jsonl").write_bytes(source.read_bytes())
    model, there = str(tiny_model()), f"{s3}/scan/in/rows.jsonl"
    done = CliRunner().invoke(
        load_command("scan"), [there, "--out", f"{s3}/scan/out", "--model", model, "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert (UPath(s3) / "scan" / "out" / "clean.jsonl").read_bytes() == source.read_bytes()
    mine = gs.scan(there, model=model, store=tmp_path / "store", progress=False)
    assert mine.made.scored.computed == 0
    mine.save(f"{s3}/scan/out")  # the same store's
    mine.save(f"{s3}/scan/python")
    with pytest.raises(InTheWay):
        outputs_at(f"{s3}/scan/out", tmp_path, None).check(".jsonl")  # another one's
    assert (
        names(f"{s3}/scan/out") == names(f"{s3}/scan/python") > {"clean.jsonl", "verdicts.parquet", "report.html", LIST}
    )
