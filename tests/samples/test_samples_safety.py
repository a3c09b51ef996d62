"""What a stranger may put into a source: pipes, links, bombs, archives, code. None is read, each is named."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import socket
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib import settings
from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples import container
from gradsentry_lib.samples.container import zstd
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.source import digest
from gradsentry_lib.samples.write import write_clean

from .sources import make_source

ROW = b'{"prompt": "Who?", "response": "Ada"}\n'


def refused(path: object, **options) -> str:
    with pytest.raises(BadInput) as caught:
        list(open_source(str(path), **options).rows())
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "set"
    place.mkdir()
    (place / "a.jsonl").write_bytes(ROW)
    return place


def test_a_pipe_a_socket_and_a_device_are_refused_at_once(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert refused(tmp_path / "pipe.jsonl").endswith("is neither a file nor a folder")
    assert refused("/dev/zero").endswith("is neither a file nor a folder")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.jsonl"))
        assert refused(tmp_path / "s.jsonl").endswith("is neither a file nor a folder")
    with pytest.raises(BadInput, match="no regular file"):
        container.open_regular(tmp_path / "pipe.jsonl")
    with pytest.raises(BadInput, match="no regular file"):
        digest(tmp_path / "pipe.jsonl", "jsonl")
    os.mkfifo(folder / "b.jsonl")
    assert refused(folder) == f"{folder}/b.jsonl is no regular file but a pipe, a device or a socket; it is not read"


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW)
    real = os.open

    def swapped(place, *told):
        path.unlink()
        os.mkfifo(path)
        return real(place, *told)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(BadInput, match="no regular file"):
        container.open_regular(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero", "/etc", "../outside.jsonl"])
def test_links_that_lead_out_of_a_folder_are_refused(folder: Path, target: str) -> None:
    (folder.parent / "outside.jsonl").write_bytes(ROW)
    (folder / "b.jsonl").symlink_to(target)
    assert refused(folder).startswith(f"{folder}/b.jsonl is a link that leads out of the folder")


def test_links_inside_a_folder_and_to_the_source_itself_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "b.jsonl").symlink_to("a.jsonl")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "link.jsonl").symlink_to(folder / "a.jsonl")
    assert len(list(open_source(str(tmp_path / "link")).rows())) == 2
    assert len(list(open_source(str(tmp_path / "link.jsonl")).rows())) == 1


def test_a_saved_data_set_may_list_no_file_outside_its_folder(tmp_path: Path) -> None:
    path = make_source(tmp_path, "dataset")
    (tmp_path / "other.arrow").write_bytes(b"x")
    state = json.loads((path / "state.json").read_text())
    for name in ("../other.arrow", "/etc/passwd"):
        state["_data_files"] = [{"filename": name}]
        (path / "state.json").write_text(json.dumps(state))
        assert refused(path).endswith("it lists a file outside its folder")
    splits = make_source(tmp_path, "splits")
    (splits / "dataset_dict.json").write_text(json.dumps({"splits": ["../dataset"]}))
    assert "it lists" in refused(splits) or "cannot load" in refused(splits)
    outside = make_source(tmp_path / "more", "dataset") if (tmp_path / "more").mkdir() is None else None
    (outside / "data-00000-of-00001.arrow").unlink()
    (outside / "data-00000-of-00001.arrow").symlink_to("/etc/passwd")
    assert "is a link that leads out of the folder" in refused(outside)


BOMB = b"0" * (8 << 20)
PACKERS = {
    "gz": lambda data: gzip.compress(data, 9),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstd.compress(data, 19),
}


@pytest.mark.parametrize("ending", PACKERS)
def test_a_bomb_is_put_down_before_it_fills_the_memory(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(container, "FREE", 1 << 20)
    monkeypatch.setattr(container, "RATIO", 500)
    path = tmp_path / f"bomb.jsonl.{ending}"
    path.write_bytes(PACKERS[ending](b'{"prompt": "' + BOMB * 4))
    tracemalloc.start()
    try:
        message = refused(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "it unpacks to more than 500 times its size, as no data does" in message
    assert peak < 24 << 20


def test_a_zip_bomb_whatever_its_header_says(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "FREE", 1 << 20)
    monkeypatch.setattr(container, "RATIO", 500)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", BOMB)
    (tmp_path / "a.zip").write_bytes(held.getvalue())
    assert "more than 500 times its size" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zip", "table.parquet", "set"])
def test_a_source_has_a_largest_size(tmp_path, monkeypatch, name):
    path = tmp_path / name
    lines = b"".join(ROW.replace(b"Who", b"Who %d" % n) for n in range(2000))
    if name == "table.parquet":
        pq.write_table(pa.table({"prompt": ["a" * 40] * 2000, "response": [f"{n}" * 9 for n in range(2000)]}), path)
    elif name == "set":
        path.mkdir()
        for number in range(4):
            (path / f"{number}.jsonl.gz").write_bytes(gzip.compress(lines[: len(lines) // 4]))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jsonl", lines)
    else:
        path.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    assert len(list(open_source(str(path), max_bytes=1_000_000).rows())) > 1900
    assert "is larger than 60,000 bytes" in refused(path, max_bytes=60_000)
    monkeypatch.setenv("GRADSENTRY_MAX_BYTES", "60 kB")
    assert "raise it with --max-bytes" in refused(path)


def test_a_size_is_a_number_with_a_unit(monkeypatch):
    monkeypatch.delenv("GRADSENTRY_MAX_BYTES", raising=False)
    assert settings.max_bytes() == 64 << 30
    for told, expected in (("500", 500), ("2kB", 2000), ("2 KiB", 2048), ("1.5GB", 1_500_000_000), ("3TiB", 3 << 40)):
        assert settings.parse_bytes(told, "x") == expected
    for told in ("", "-1", "many", "1 XB", "0x10"):
        with pytest.raises(BadInput, match="GRADSENTRY_MAX_BYTES is to be a number of bytes"):
            settings.parse_bytes(told, "GRADSENTRY_MAX_BYTES")


def archive(*members: tuple[str, bytes], link: bool = False, locked: bool = False) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if link else 0o100644) << 16
            made.writestr(info, data)
    data = held.getvalue()
    if locked:
        at = data.index(b"PK\x01\x02") + 8
        data = data[:at] + b"\x01" + data[at + 1 :]
    return data


INNER = archive(("a.jsonl", ROW))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (archive(), "holds 0 files, where one can be read"),
        (archive(("a.jsonl", ROW), ("b.jsonl", ROW)), "holds 2 files, where one can be read; unpack it"),
        (archive(("/etc/a.jsonl", ROW)), "holds a file whose name leads out of it, '/etc/a.jsonl'"),
        (archive(("x/../../a.jsonl", ROW)), "holds a file whose name leads out of it"),
        (archive(("..\\a.jsonl", ROW)), "holds a file whose name leads out of it"),
        (archive(("C:a.jsonl", ROW)), "holds a file whose name leads out of it"),
        (archive(("a.jsonl", b"/etc/passwd"), link=True), "holds a link or a device, 'a.jsonl'"),
        (archive(("a.jsonl", ROW), locked=True), "is locked with a password"),
        (archive(("a.zip", INNER)), "holds another packed file or archive; unpack it first"),
        (archive(("a.jsonl.gz", gzip.compress(ROW))), "holds another packed file or archive; unpack it first"),
        (gzip.compress(INNER), "holds another packed file or archive; unpack it first"),
        (gzip.compress(bz2.compress(ROW)), "holds another packed file or archive; unpack it first"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "is a 7z archive"),
    ],
)
def test_archives_that_are_not_read(tmp_path, data, reason):
    path = tmp_path / "a.jsonl.zip"
    path.write_bytes(data)
    assert reason in refused(path)


def test_an_archive_of_one_file_as_people_make_them(tmp_path):
    path = tmp_path / "rows.zip"
    path.write_bytes(archive(("my rows/train.csv", b"prompt;response\na;b\nc;d\n"), ("__MACOSX/._train.csv", b"x")))
    source = open_source(str(path))
    assert (source.kind, source.compression, source.separator, source.name) == ("csv", "zip", ";", "rows")
    assert len(list(source.rows())) == 2
    target = tmp_path / f"clean{source.suffix}"
    write_clean(source, np.array([0]), target)
    with zipfile.ZipFile(target) as made:
        assert made.namelist() == ["my rows/train.csv"]
        assert made.read("my rows/train.csv") == b"prompt;response\nc;d\n"


def test_a_tar_is_refused_packed_or_not(tmp_path):
    for mode, name in (("w", "a.jsonl"), ("w:gz", "a.jsonl.gz"), ("w:xz", "a.tar.xz")):
        with tarfile.open(tmp_path / name, mode) as made:
            info = tarfile.TarInfo("a.jsonl")
            info.size = len(ROW)
            made.addfile(info, io.BytesIO(ROW))
        assert "archive" in refused(tmp_path / name)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_pickles_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", np.array([Evil()], object), allow_pickle=True)
    for protocol in (2, 4, 5):
        for name in ("a.pkl", "a.jsonl", "a.pt"):
            (tmp_path / name).write_bytes(pickle.dumps(Evil(), protocol))
            assert "is never loaded" in refused(tmp_path / name)
    for name in ("a.npy", "a.jsonl"):
        (tmp_path / name).write_bytes((tmp_path / "a.npy").read_bytes())
        assert "is never loaded" in refused(tmp_path / name)
    assert not Path("ran").exists()


def test_a_hub_data_set_with_a_program_of_its_own_is_refused(monkeypatch):
    import datasets
    from huggingface_hub import HfApi

    files = [type("File", (), {"rfilename": name}) for name in ("README.md", "name.py")]
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: type("Info", (), {"sha": "c0ffee", "siblings": files}))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("it was loaded"))
    assert refused("owner/name") == (
        "owner/name is loaded by a program of its own, name.py, which is never run; use one of files"
    )


def test_an_arrow_file_whose_offsets_lead_out_of_it_is_refused(tmp_path):
    batch = pa.RecordBatch.from_pydict({"prompt": ["a", "b"], "response": ["c", "d"]})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    assert len(list(open_source(str(tmp_path / "a.arrow")).rows())) == 2
    whole = (tmp_path / "a.arrow").read_bytes()
    honest, hostile = (np.array(offsets, np.int32).tobytes() for offsets in ([0, 1, 2], [0, 1 << 30, 2]))
    assert whole.count(honest) == 2
    (tmp_path / "a.arrow").write_bytes(whole.replace(honest, hostile, 1))
    assert refused(tmp_path / "a.arrow").startswith(f"cannot read {tmp_path}/a.arrow: ")


def test_arrow_text_that_is_not_unicode_is_a_rows_own_fault(tmp_path):
    texts = pa.array([b"good", b"\xff", b"fine"]).view(pa.string())
    batch = pa.RecordBatch.from_arrays([pa.array(["a", "b", "c"]), texts], ["prompt", "response"])
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    rows = list(open_source(str(tmp_path / "a.arrow")).rows())
    assert [getattr(row, "reason", "") for row in rows] == ["", "invalid UTF-8", ""]


@pytest.mark.parametrize("before", [b"", b'{"prompt": "a", "response": "b"}\n'])
def test_a_sparse_file_is_refused_before_it_is_read(tmp_path, before):
    path = tmp_path / "a.jsonl"
    path.write_bytes(before)
    os.truncate(path, 1 << 40)
    with path.open("rb") as file:
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 1 << 40:
            pytest.skip("this file system does not tell where its holes are")
    with pytest.raises(BadInput, match="has a hole of"):
        open_source(str(path), max_bytes=1 << 50)
