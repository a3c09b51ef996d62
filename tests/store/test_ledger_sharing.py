"""Many processes on one ledger: nobody is refused, nothing is lost, the dead hold nothing up."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from gradsentry_lib.errors import BadInput, BusyStore
from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.journal import check_chain

WRITER = """
import sys
from pathlib import Path
from gradsentry_lib.store import Batch, FileRef, open_ledger
path, name, samples, count = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
for number in range(count):
    with open_ledger(path) as ledger:
        ledger.record_batch(
            Batch(batch_key=f"{name}-{number}", name=name, kind="jsonl", source=FileRef(samples, "0" * 64),
                  samples=FileRef(samples, "0" * 64), rows_read=2, readable=2, rejected_rows=0)
        )
"""

READER = """
import json, sys, time
from pathlib import Path
from gradsentry_lib.store import open_ledger
seen = []
while not Path(sys.argv[2]).exists():
    with open_ledger(Path(sys.argv[1]), read_only=True) as ledger:
        seen.append(len(ledger.batch_keys()))
    time.sleep(0.02)
print(json.dumps(seen))
"""

HOLDER = """
import sys, time
from pathlib import Path
from gradsentry_lib.store import Override, open_ledger
with open_ledger(Path(sys.argv[1])) as ledger:
    ledger.record_overrides([Override(sample_id="a" * 64, action="flag", made_by="half", reason="done")])
    print("holding", flush=True)
    time.sleep(600)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"row": [0, 1], "sample_id": ["a" * 64, "b" * 64]}), tmp_path / "samples.parquet")
    return tmp_path / "samples.parquet"


@pytest.mark.slow  # nine processes
def test_eight_writers_and_a_reader_lose_nothing(empty: Path, samples: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    reader = start(READER, empty, done)
    writers = [start(WRITER, empty, f"w{i}", samples, 10) for i in range(8)]
    assert [writer.wait(timeout=300) for writer in writers] == [0] * 8
    done.touch()
    seen = json.loads(reader.communicate(timeout=60)[0])
    assert reader.returncode == 0
    assert seen == sorted(seen)  # what was once seen stays
    with open_ledger(empty, read_only=True) as ledger:
        keys = ledger.batch_keys()
        assert list(check_chain(ledger.connection)) == []
        assert ledger.head().seq == 80
    assert sorted(keys) == sorted(f"w{i}-{number}" for i in range(8) for number in range(10))


@pytest.mark.slow
def test_a_killed_writer_holds_nobody_up_and_leaves_nothing_half_done(empty: Path) -> None:
    holder = start(HOLDER, empty)
    assert holder.stdout and holder.stdout.readline() == "holding\n"
    heard: list[int] = []

    def wait() -> None:
        with open_ledger(empty) as ledger:
            heard.append(ledger.head().seq)
            ledger.record_overrides([Override(sample_id="b" * 64, action="flag", made_by="me", reason="r")])

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    assert heard == []  # it queues
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    waiting.join(timeout=60)
    assert heard == [0]
    with open_ledger(empty, read_only=True) as ledger:
        assert [word.made_by for word in ledger.find(Override)] == ["me"]


@pytest.mark.slow
@pytest.mark.parametrize("read_only", [True, False])
def test_waiting_in_vain_names_the_holder(empty: Path, read_only: bool) -> None:
    holder = start(HOLDER, empty)
    assert holder.stdout and holder.stdout.readline() == "holding\n"
    try:
        with (
            pytest.raises(BusyStore, match=rf"busy for 0.3 s; the last to write was process {holder.pid} "),
            open_ledger(empty, read_only=read_only, patience=0.3) as ledger,
        ):
            ledger.head()
    finally:
        holder.kill()
        holder.wait()


def test_a_foreign_duckdb_is_waited_for_and_named(empty: Path) -> None:
    """A SQL shell knows nothing of our queue."""
    with open_ledger(empty) as ledger:
        ledger.head()
    script = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('up', flush=True); time.sleep(600)"
    shell = start(script, empty)
    assert shell.stdout and shell.stdout.readline() == "up\n"
    try:
        with pytest.raises(BusyStore, match=rf"PID {shell.pid}"), open_ledger(empty, patience=0.3) as ledger:
            ledger.head()
    finally:
        shell.kill()
        shell.wait()
    with open_ledger(empty) as ledger:
        assert ledger.head().seq == 0


def test_readers_do_not_starve_a_writer(empty: Path) -> None:
    with open_ledger(empty) as ledger:
        ledger.head()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with open_ledger(empty, read_only=True) as ledger:
                ledger.head()
                time.sleep(0.05)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(5):
            with open_ledger(empty, patience=30) as ledger:
                ledger.record_overrides([Override(sample_id="c" * 64, action="flag", made_by="me", reason="r")])
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    with open_ledger(empty, read_only=True) as ledger:
        assert ledger.head().seq == 5


def test_opening_it_twice_in_a_thread_is_an_error_at_once(empty: Path) -> None:
    with open_ledger(empty) as outer:
        outer.head()
        with pytest.raises(RuntimeError, match="already open in this thread"), open_ledger(empty) as inner:
            inner.head()


def test_it_is_not_held_before_the_first_question_nor_after_the_block(empty: Path) -> None:
    with open_ledger(empty) as early:
        duckdb.connect(empty.with_name("other.duckdb")).close() if empty.parent.exists() else None
        assert not empty.exists()
        early.head()
    duckdb.connect(empty).close()


def test_an_error_rolls_all_of_a_block_back_and_lets_go(empty: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_ledger(empty) as ledger:
        ledger.record_overrides([Override(sample_id="d" * 64, action="flag", made_by="me", reason="r")])
        _ = 1 / 0
    with open_ledger(empty) as ledger:
        assert ledger.head().seq == 0


def test_a_store_that_cannot_be_written_to_can_be_read(empty: Path) -> None:
    with open_ledger(empty) as ledger:
        ledger.record_overrides([Override(sample_id="e" * 64, action="flag", made_by="me", reason="r")])
    for lock in empty.parent.glob("ledger.duckdb.*"):
        lock.unlink()
        lock.mkdir()  # stands for a read-only disk: root, too, can't open this for writing
    with open_ledger(empty, read_only=True) as ledger:
        assert ledger.head().seq == 1
    with pytest.raises(BadInput, match="can't write to"), open_ledger(empty) as ledger:
        ledger.head()


def test_who_reads_while_reading_shares_the_connection(empty: Path) -> None:
    with open_ledger(empty) as ledger:
        ledger.record_overrides([Override(sample_id="a" * 64, action="flag", made_by="me", reason="r")])
    with open_ledger(empty, read_only=True) as outer:
        outer.head()
        with open_ledger(empty, read_only=True) as inner:
            assert inner.connection is outer.connection
        assert outer.head().seq == 1  # the inner block closed nothing
        with pytest.raises(RuntimeError, match="already open in this thread"), open_ledger(empty) as writer:
            writer.head()
    duckdb.connect(empty).close()
