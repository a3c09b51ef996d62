"""`gradsentry scan` as a user runs it: files, words, exit code; in the first test as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pipeline.builder import lines, write
from tests.typed import gradsentry

OPEN = ("--max-flagged", "1", "--warn-flagged", "1", "--by", "Ada", "--reason", "small batch")


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command; the store is the one that the environment of the test names."""
    program = "from gradsentry_lib.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.slow
def test_from_file_to_files(tmp_path: Path, model: Path) -> None:
    """Three scans: one whole, the same again into the same folder, and one that the gate refuses."""
    source = write(tmp_path / "rows.jsonl", [*lines(range(60)), "{broken"])
    out = tmp_path / "out"
    told = ("scan", source, "--out", out, "--model", model, "--dtype", "float32", "--policy", "paper")
    first = process(*told, *OPEN)
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "verdicts.parquet",
        "clean.jsonl",
        "quarantine.jsonl",
        "rejected.jsonl",
        "threshold.json",
        "threshold.png",
        "attestation.json",
        "report.html",
    }
    assert [name for name in names if name.startswith(".")] == [".gradsentry-outputs.json"]
    table = pq.read_table(out / "verdicts.parquet")
    kept = (out / "clean.jsonl").read_bytes().splitlines()
    quarantined = (out / "quarantine.jsonl").read_text().splitlines()
    assert table["verdict"].to_pylist().count("clean") == len(kept)
    assert len(kept) + len(quarantined) + 1 == 61
    assert [json.loads(line)["row"] for line in (out / "rejected.jsonl").read_text().splitlines()] == [60]
    assert set(kept) <= set(source.read_bytes().splitlines())
    assert 0 <= json.loads((out / "threshold.json").read_text())["tau"] <= 1

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = process(*told, *OPEN)
    assert again.returncode == 0 and "all found in the store" in again.stdout
    same = {"verdicts.parquet", "clean.jsonl", "quarantine.jsonl", "threshold.json", "threshold.png"}
    assert {name: (out / name).read_bytes() for name in same} == {name: before[name] for name in same}

    refused = process(*told, "--threshold", "0.1")
    assert refused.returncode == 3
    assert "gate refused" in refused.stderr and "Traceback" not in refused.stderr
    assert not (out / "clean.jsonl").exists() and not (out / "quarantine.jsonl").exists()
    assert (out / "verdicts.parquet").exists()


def test_the_readable_tenth_of_a_file_is_not_published(tmp_path: Path, model: Path) -> None:
    source = write(tmp_path / "rows.jsonl", [*lines(range(6)), *["{broken"] * 54])
    told = ("scan", source, "--out", tmp_path / "out", "--model", model, "--policy", "paper", *OPEN)
    refused = gradsentry(*told)
    assert refused.code == 3
    assert "90.0% of the rows read are no readable samples, limit 5.0%" in " ".join(refused.err.split())
    assert not list((tmp_path / "out").glob("clean*"))


BAD = {
    "no such file": (("missing.jsonl",), "missing.jsonl"),
    "empty file": (("empty.jsonl",), "nothing to scan"),
    "only rejects": (("broken.jsonl",), "can be read"),
    "unknown model": (("good.jsonl", "--model", "./nowhere"), "no such folder"),
    "no GPU": (("good.jsonl", "--device", "cuda"), "cuda"),
    "odd dtype": (("good.jsonl", "--dtype", "int3"), "int3"),
    "odd engine": (("good.jsonl", "--engine", "spark"), "spark"),
    "workers without Ray": (("good.jsonl", "--workers", "2"), "engine ray"),
    "unknown policy": (("good.jsonl", "--policy", "paprika"), "unknown policy 'paprika'"),
    "odd column": (("good.jsonl", "--column", "prompt"), "ROLE=NAME"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it loads a model."""
    if case == "no GPU" and Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    write(tmp_path / "good.jsonl", lines(range(3)))
    write(tmp_path / "empty.jsonl", [])
    write(tmp_path / "broken.jsonl", ["{broken", "[]"])
    (name, *options), words = BAD[case]
    monkeypatch.setenv("GRADSENTRY_MODEL", str(model))
    done = gradsentry("scan", tmp_path / name, "--out", tmp_path / "out", *options)
    assert done.code == 2
    assert words in done.err and "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list((tmp_path / "out").glob("clean*"))


def test_an_unwritable_folder_is_told_before_the_work(tmp_path: Path, model: Path) -> None:
    source = write(tmp_path / "good.jsonl", lines(range(3)))
    (tmp_path / "file").write_text("in the way")
    done = gradsentry("scan", source, "--out", tmp_path / "file" / "out", "--model", model)
    assert done.code == 2 and "can't write to" in done.err and "Traceback" not in done.err
    assert not (tmp_path / "store").exists()


def test_limit_and_columns(tmp_path: Path, model: Path) -> None:
    rows = [json.dumps({"ask": f"What is {n}?", "reply": f"It is {n}."}) for n in range(40)]
    source = write(tmp_path / "odd.jsonl", rows)
    told = ("--column", "prompt=ask", "--column", "response=reply", "--limit", 12)
    done = gradsentry("scan", source, "--out", tmp_path / "out", "--model", model, *told, *OPEN)
    assert done.code == 0, done.err
    assert pq.read_metadata(tmp_path / "out" / "verdicts.parquet").num_rows == 12
    kept = (tmp_path / "out" / "clean.jsonl").read_text().splitlines()
    removed = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    assert len(kept) + len(removed) == 12 and set(kept) <= set(rows[:12])


def test_a_scan_into_the_folder_of_the_source_takes_nothing_away(tmp_path: Path, model: Path) -> None:
    """The source and other files named `clean*` stay; a foreign clean file is named before anything is scored."""
    folder = tmp_path / "data"
    folder.mkdir()
    source = write(folder / "clean_rows.jsonl", lines(range(8)))
    (folder / "cleanup.sh").write_text("mine")
    (folder / "clean.jsonl").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    told = ("scan", source, "--out", folder, "--model", model, "--dtype", "float32", "--policy", "paper", *OPEN)
    refused = gradsentry(*told)
    assert refused.code == 2 and "clean.jsonl" in refused.err and len(refused.err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "store").exists()

    assert gradsentry(*told, "--overwrite").code == 0
    assert (folder / "clean.jsonl").read_text() != "mine"
    assert {name: (folder / name).read_bytes() for name in (source.name, "cleanup.sh")} == {
        name: before[name] for name in (source.name, "cleanup.sh")
    }
    assert gradsentry(*told).code == 0  # its own by now
