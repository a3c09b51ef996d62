"""Wrong arguments, wrong stores, damaged files: one line and an exit code, never a traceback."""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from gradsentry_lib.store import open_ledger
from tests.audit.test_audit_command import clean_of, typed  # noqa: F401
from tests.store.made import Made
from tests.typed import Done

SIGNED = ("--by", "ana", "--reason", "tried")
COMMANDS: list[tuple[str, ...]] = [
    ("audit", "{odd}"),
    ("audit", "--as", "file", "{odd}"),
    ("audit", "--as", "batch", "{odd}"),
    ("audit", "--as", "sample", "{odd}"),
    ("audit", "--as", "text", "{odd}"),
    ("audit", "diff", "{odd}", "{odd}"),
    ("audit", "verify", "--head", "{odd}"),
    ("gate", "show", "{odd}"),
    ("gate", "accept", "{odd}", *SIGNED),
    ("gate", "limits", "--set", "{odd}", *SIGNED),
    ("attest", "sign", "{odd}", "--key", "{odd}"),
    ("attest", "keygen", "/proc/{odd}"),
    ("release", "{odd}", *SIGNED),
    ("flag", "0123456789ab", "--batch", "{odd}", *SIGNED),
    ("unset", "{odd}", *SIGNED),
    ("release", "--from", "{odd}", *SIGNED),
]
ODD = {
    "empty": "",
    "spaces": "  ",
    "no UTF-8": "\udcff",
    "long": "x" * 5000,
    "NUL": "a\x00b",
    "markup": "[/red]",
    "number": "9" * 30,
    "folder": ".",
    "endless": "/dev/null",
    "JSON": '{"prompt": 1}',
    "deep": "[" * 5000,
}


def one_line(done: Done) -> None:
    assert done.code in (0, 2, 4), done
    assert "Traceback" not in done.err
    if done.code == 2 and "Usage" not in done.err:
        assert len(done.err.strip().splitlines()) == 1, done.err


@pytest.mark.parametrize("odd", ODD)
def test_odd_arguments(odd: str, copied: Path, typed: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(copied)
    for command in COMMANDS:
        one_line(typed(copied, *(word.replace("{odd}", ODD[odd]) for word in command)))


def foreign(home: Path) -> None:
    (home / "ledger.duckdb").unlink()
    with duckdb.connect(home / "ledger.duckdb") as connection:
        connection.execute("CREATE TABLE journal (a INTEGER)")


def other_versions(home: Path) -> None:
    (home / "ledger.duckdb").unlink()
    with duckdb.connect(home / "ledger.duckdb") as connection:
        connection.execute("CREATE TABLE schema_versions (version VARCHAR); INSERT INTO schema_versions VALUES ('x')")


def from_the_future(home: Path) -> None:
    with duckdb.connect(home / "ledger.duckdb") as connection:
        connection.execute("INSERT INTO schema_versions VALUES (99, '9.0')")


def no_database(home: Path) -> None:
    (home / "ledger.duckdb").write_bytes(b"junk" * 5000)


def a_folder(home: Path) -> None:
    (home / "ledger.duckdb").unlink()
    (home / "ledger.duckdb").mkdir()


def damaged_evidence(home: Path) -> None:
    for pattern in ("*.parquet", "*.u64"):
        for path in home.rglob(pattern):
            path.write_bytes(b"PAR1junk!")


def missing_evidence(home: Path) -> None:
    for pattern in ("samples.parquet", "*.u64"):
        for path in home.rglob(pattern):
            path.unlink()


def a_file_for_a_store(home: Path) -> None:
    shutil.rmtree(home)
    home.write_text("x")


@pytest.mark.parametrize(
    "spoil",
    [foreign, other_versions, from_the_future, no_database, a_folder, damaged_evidence, missing_evidence,
     a_file_for_a_store],
)  # fmt: skip
def test_odd_stores(spoil: Callable[[Path], None], made: Made, copied: Path, typed: Callable[..., Done]) -> None:  # noqa: F811
    spoil(copied)
    sample, file = made.released, clean_of(made.store.home)
    for command in (
        ("audit", "alpha"), ("audit", file), ("audit", sample), ("audit", "some text"), ("audit", "head"),
        ("audit", "verify"), ("audit", "diff", 1, 2), ("gate", "show", "alpha"), ("gate", "accept", "alpha", *SIGNED),
        ("gate", "limits", "--set", "max_flagged=0.2", *SIGNED), ("release", sample, *SIGNED),
        ("flag", sample, *SIGNED), ("unset", sample, *SIGNED),
    ):  # fmt: skip
        one_line(typed(copied, *command))


def test_a_database_of_something_else_is_left_as_it_is(copied: Path, typed: Callable[..., Done]) -> None:  # noqa: F811
    foreign(copied)
    for command in (("gate", "show", "x"), ("flag", "a" * 64, *SIGNED)):
        refused = typed(copied, *command)
        assert refused.code == 2 and "is no ledger" in refused.err
    with duckdb.connect(copied / "ledger.duckdb", read_only=True) as connection:
        assert connection.execute("SHOW TABLES").fetchall() == [("journal",)]


def test_a_store_in_a_place_that_is_no_text(tmp_path: Path, typed: Callable[..., Done]) -> None:  # noqa: F811
    for name in ("a\udcffb", "x" * 300):
        refused = typed(tmp_path / name, "gate", "limits")
        assert refused.code == 2 and len(refused.err.strip().splitlines()) == 1
    with open_ledger(tmp_path / "ü" / "ledger.duckdb") as ledger:
        assert ledger.head().seq == 0
