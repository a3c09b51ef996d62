"""The score cache: found by content, never a wrong score, damage noticed."""

import math
from pathlib import Path

import pyarrow as pa
import pytest

from gradsentry_lib.scoring.cache import Book, ScoreCache
from gradsentry_lib.scoring.score import Score, to_table


def scores(*names: str, failure: str = "") -> pa.Table:
    entropy = math.nan if failure else 0.5
    return to_table([Score(name, entropy, (entropy,), 3, 1.25, False, name.encode(), failure) for name in names])


def sample_id(number: int) -> str:
    return f"{number:064x}"[::-1]


def test_found_again_in_another_process(tmp_path: Path) -> None:
    ids = [sample_id(i) for i in range(100)]
    cache = ScoreCache(tmp_path)
    cache.add(scores(*ids[:60]))
    cache.add(scores(*ids[60:]))
    for known in (cache, ScoreCache(tmp_path)):
        assert len(known) == 100
        found = known.lookup([ids[70], ids[3], "f" * 64])
        assert sorted(found["sample_id"].to_pylist()) == sorted([ids[70], ids[3]])
        assert found["sketch"].to_pylist() == [i.encode() for i in found["sample_id"].to_pylist()]
    assert ScoreCache(tmp_path / "nothing").lookup(ids).num_rows == 0


def test_failures_are_not_kept(tmp_path: Path) -> None:
    ScoreCache(tmp_path).add(scores("a" * 64, failure="does not fit"))
    assert len(ScoreCache(tmp_path)) == 0


def test_ids_that_begin_alike_are_not_confused(tmp_path: Path) -> None:
    """Ids with the same first half can be made with effort; each must get its own score or none."""
    first, second = "a" * 16 + "1" * 48, "a" * 16 + "2" * 48
    ScoreCache(tmp_path).add(scores(first))
    assert second not in ScoreCache(tmp_path).lookup([second])["sample_id"].to_pylist()


@pytest.mark.parametrize("harm", ["torn", "flipped", "empty"])
def test_damaged_shards_are_set_aside(harm: str, tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.add(scores(*map(sample_id, range(10))))
    cache.add(scores(*map(sample_id, range(10, 20))))
    path = sorted(tmp_path.glob("*.parquet"))[0]
    data = path.read_bytes()
    flipped = data[:50] + bytes([data[50] ^ 1]) + data[51:]
    path.write_bytes({"torn": data[: len(data) // 2], "flipped": flipped, "empty": b""}[harm])
    again = ScoreCache(tmp_path)
    assert len(again) == 10
    assert path.with_suffix(".damaged").exists()


class Written:
    """A book in memory, which looks at the folder when an entry is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: set[str] = set()
        self.early = True

    def enter(self, path: Path, sha256: str, rows: int) -> None:
        self.early = self.early and not path.exists()
        self.entries.add(sha256)

    def open(self) -> ScoreCache:
        return ScoreCache(self.folder, Book(lambda: self.entries, self.enter))


def test_a_shard_that_the_book_does_not_have_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Made elsewhere, whole and rightly named: it is set aside, with one line; the cache's own shards stay."""
    book = Written(tmp_path / "own")
    book.open().add(scores(sample_id(1)))
    assert book.early  # entered before it had its name
    ScoreCache(tmp_path / "elsewhere").add(scores(sample_id(2)))
    (laid,) = (tmp_path / "elsewhere").glob("*.parquet")
    placed = laid.rename(tmp_path / "own" / laid.name)
    again = book.open()
    assert len(again) == 1 and again.lookup([sample_id(2)]).num_rows == 0
    assert placed.with_suffix(".unknown").exists() and not placed.exists()
    assert "1 of 2 files of scores" in caplog.text and "scored again" in caplog.text
    again.add(scores(sample_id(2)))
    assert len(book.open()) == 2
