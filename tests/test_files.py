"""Files are whole or not there; what a killed writer left is removed, what a living one works on is not."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gradsentry_lib import files

WRITER = """
import sys
from pathlib import Path
from gradsentry_lib.files import atomic_path, workshop
target = Path(sys.argv[1])
with atomic_path(target) as temporary, workshop(target.parent, "room") as room:
    temporary.write_text("whole")
    (room / "big").write_text("half")
    print("at it", flush=True)
    sys.stdin.readline()
"""


def start(target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "at it\n"
    return process


def unfinished(folder: Path) -> int:
    return sum(1 for _ in folder.glob(f".*{files.TEMPORARY}"))


def test_what_the_killed_left_goes_and_what_the_living_work_on_stays(tmp_path: Path) -> None:
    living, killed = start(tmp_path / "a"), start(tmp_path / "b")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    others = tmp_path / ".b.foreign.tmp"
    others.write_text("not ours")
    assert unfinished(tmp_path) == 4
    files.write_text(tmp_path / "c", "new")
    assert unfinished(tmp_path) == 2
    assert not (tmp_path / "b").exists()
    living.communicate("go on\n", timeout=60)
    assert living.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.foreign.tmp", "a", "c"]
    assert (tmp_path / "a").read_text() == "whole"


def test_sweepers_and_writers_do_not_get_in_each_others_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_sweep", files._sweep.__wrapped__)  # at every write, not once a process
    errors: list[Exception] = []

    def work(name: str) -> None:
        try:
            for number in range(60):
                files.write_text(tmp_path / f"{name}-{number}", name)
                with files.workshop(tmp_path) as room:
                    (room / "x").write_text(name)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(tmp_path.iterdir())) == 360  # all that was written, and nothing unfinished


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), files.atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
