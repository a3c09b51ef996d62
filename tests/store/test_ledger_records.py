"""Records, gates and overrides, on real ledgers."""

import errno
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry_lib.detection.entropy_threshold import find_threshold
from gradsentry_lib.errors import BadInput, DamagedStore
from gradsentry_lib.store import (
    Batch,
    Decision,
    FileRef,
    GateAcceptance,
    GateResult,
    Override,
    Run,
    Scan,
    ScoreFile,
    ThresholdRecord,
    current_run,
    gate_inputs_sha256,
    open_ledger,
    overrides_digest,
)
from gradsentry_lib.store import connection as connections
from gradsentry_lib.store import (
    sample_index as index,
)
from gradsentry_lib.store.journal import check_chain
from tests.store.made import Made

A, B, C = "a" * 64, "b" * 64, "c" * 64


def word(sample_id: str, action: str, batch_key: str | None = None, by: str = "ana") -> Override:
    return Override(sample_id=sample_id, action=action, made_by=by, reason="because", batch_key=batch_key)  # type: ignore[arg-type]


def say(path: Path, *words: Override) -> None:
    with open_ledger(path) as ledger:
        ledger.record_overrides(words)


def active(path: Path, batch_key: str) -> dict[str, str]:
    with open_ledger(path, read_only=True) as ledger:
        return {found.sample_id: found.action for found in ledger.active_overrides(batch_key)}


def add_batch(path: Path, key: str, ids: list[str]) -> None:
    samples = path.with_name(f"{Path(key).name}.parquet")
    samples.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"row": range(len(ids)), "sample_id": ids}), samples)
    with open_ledger(path) as ledger:
        ledger.record_batch(
            Batch(
                batch_key=key, name=key, kind="jsonl", source=FileRef(samples, A), samples=FileRef(samples, A),
                rows_read=len(ids), readable=len(ids), rejected_rows=0,
            )
        )  # fmt: skip


def test_what_is_written_comes_back(empty: Path) -> None:
    run = current_run("dagster", "run-1")
    entropies = np.random.default_rng(0).normal(0.4, 0.05, 100)
    threshold = ThresholdRecord.of(
        7, "b", {"fixed": None}, find_threshold(entropies).to_dict(), {"trust": "x"}, "run-1"
    )
    odd = Scan(
        batch_key="b", source_sha256=A, samples_sha256=B, model="a\nmodel\u202e\0 'x'", model_fingerprint=C,
        tokenizer_fingerprint=A, scoring={"k": 16, "nested": {"a": [1, 2.5, None]}}, score_key="k",
        scores=FileRef(empty.parent / "elsewhere.parquet", A), scored=1, unscored=2,
        started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=9))), finished_at=datetime.now(UTC),
    )  # fmt: skip
    empty.parent.mkdir()
    (empty.parent / "elsewhere.parquet").touch()
    with open_ledger(empty) as ledger:
        assert [ledger.record_run(run), ledger.record_run(run)] == [1, 1]  # once a run
        ledger.record_threshold(threshold)
        ledger.record_scan(odd)
    with open_ledger(empty, read_only=True) as ledger:
        (got_run,), (got,), (scan,) = ledger.find(Run), ledger.find(ThresholdRecord), ledger.find(Scan)
        assert replace(got_run, seq=0, recorded_at=None) == run
        assert replace(got, seq=0, recorded_at=None) == threshold
        assert len(got.grid) == len(got.density) == 1000 and got.details["trust"] == "x"
        kept = FileRef(empty.parent / "batches/b/scores/k/scores.parquet", A)  # copied into the store
        assert replace(scan, seq=0, recorded_at=None) == replace(odd, scores=kept)
        assert scan.started_at == odd.started_at and kept.file.exists()
        assert list(check_chain(ledger.connection)) == []


def test_numbers_of_every_kind_keep_the_chain_whole(empty: Path) -> None:
    """1 becomes 1.0 in a DOUBLE column, NaN and half a surrogate are no JSON and no UTF-8."""
    record = ThresholdRecord(
        scan=1, batch_key="\ud800", config={}, tau=1, method="fixed", reason="", n=0, suspects=0, bandwidth=math.nan,
        valley_ratio=math.inf, grid=(0, 0.1, math.nan), density=(1e-320, 5e300, -0.0),
    )  # fmt: skip
    with open_ledger(empty) as ledger:
        ledger.record_threshold(record)
    with open_ledger(empty, read_only=True) as ledger:
        assert list(check_chain(ledger.connection)) == []
        got = ledger.find(ThresholdRecord)[0]
    assert (got.tau, got.batch_key) == (1.0, "\\ud800")
    assert math.isnan(got.grid[2]) and got.density == record.density


def test_gate_never_run_failed_accepted_passed(empty: Path) -> None:
    add_batch(empty, "b", [A])
    limits = {"max_flagged": 0.5}
    inputs = gate_inputs_sha256(A, limits)

    def state(key: str = inputs) -> tuple[str, bool]:
        with open_ledger(empty, read_only=True) as ledger:
            found = ledger.gate_state(key, "b")
            return found.status, found.open

    def accept(by: str = "ana") -> GateAcceptance:
        with open_ledger(empty) as ledger:
            return ledger.accept_gate("b", by, "looked at it")

    decision = Decision(
        scan=1, threshold=1, batch_key="b", decision_key="d", policy="paper", verdicts=FileRef(empty, A),
        clean=0, flagged=1, unscored=0,
    )  # fmt: skip
    with open_ledger(empty) as ledger:
        number = ledger._append(decision)
    checks = ({"name": "flagged_fraction", "passed": False, "severity": "error", "observed": 1.0, "limit": 0.5},)
    result = GateResult(
        batch_key="b", decision=number, verdicts_sha256=A, limits=limits, inputs_sha256=inputs, passed=False,
        checks=checks,
    )  # fmt: skip
    assert state() == ("never run", False)
    with pytest.raises(BadInput, match="never ran"):
        accept()
    with open_ledger(empty) as ledger:
        ledger.record_gate(result)
    assert state() == ("failed", False)
    with pytest.raises(BadInput, match="a name and a reason"):
        accept(by=" ")
    assert accept().made_by == "ana"
    assert state() == ("accepted", True)
    other = gate_inputs_sha256(B, limits)  # other verdicts, and the same verdicts under another limit
    assert state(other) == state(gate_inputs_sha256(A, {"max_flagged": 0.4})) == ("never run", False)
    with open_ledger(empty) as ledger:
        ledger.record_gate(replace(result, verdicts_sha256=B, inputs_sha256=other))
    assert state(other) == ("failed", False)  # void: the acceptance was for the first
    with open_ledger(empty) as ledger:
        ledger.record_gate(replace(result, verdicts_sha256=B, inputs_sha256=other, passed=True))
    assert state(other) == ("passed", True)
    with pytest.raises(BadInput, match="passed: there is nothing to accept"):
        accept()


def test_a_word_on_one_batch_goes_before_a_word_on_all(empty: Path) -> None:
    say(empty, word(A, "release"))
    assert active(empty, "x") == active(empty, "y") == {A: "release"}
    say(empty, word(A, "flag", "x"), word(B, "release", "x"))
    assert active(empty, "x") == {A: "flag", B: "release"}
    assert active(empty, "y") == {A: "release"}
    say(empty, word(A, "flag"))
    assert active(empty, "y") == {A: "flag"}
    say(empty, word(A, "unset", "x"), word(A, "release"))
    assert active(empty, "x") == {A: "release", B: "release"}
    say(empty, word(A, "unset"), word(B, "unset", "x"))
    assert active(empty, "x") == active(empty, "y") == {}
    with open_ledger(empty, read_only=True) as ledger:
        assert len(ledger.find(Override)) == 8  # nothing was taken out


def test_words_on_samples_of_other_batches_do_not_make_a_batch_stale(empty: Path) -> None:
    add_batch(empty, "x", [A])
    add_batch(empty, "y", [B])

    def digests() -> list[str]:
        with open_ledger(empty, read_only=True) as ledger:
            return [overrides_digest(ledger.active_overrides(key)) for key in ("x", "y")]

    assert digests() == ["", ""]
    say(empty, word(A, "flag"))
    before = digests()
    assert before[0] and before[1] == ""
    say(empty, word(A, "unset"), word(A, "flag"))
    assert digests() == before  # said again: nothing has changed


def test_a_released_sample_that_comes_back_in_another_batch(empty: Path) -> None:
    for key, ids in (("x", [A]), ("y", [A, B]), ("z", [C])):
        add_batch(empty, key, ids)
    say(empty, word(A, "release", "x"), word(B, "flag", "x"))
    with open_ledger(empty, read_only=True) as ledger:
        found = {key: [(w.sample_id, w.batch_key) for w in ledger.released_in_others(key)] for key in "xyz"}
    assert found == {"x": [], "y": [(A, "x")], "z": []}


def test_verdicts_must_add_up(empty: Path) -> None:
    add_batch(empty, "b", [A, B])
    verdicts = empty.with_name("verdicts.parquet")
    verdicts.touch()
    record = Decision(
        scan=1, threshold=1, batch_key="b", decision_key="k", policy="paper", verdicts=FileRef(verdicts, A),
        clean=1, flagged=0, unscored=0,
    )  # fmt: skip
    with pytest.raises(BadInput, match="1 verdicts for 2 readable rows"), open_ledger(empty) as ledger:
        ledger.record_verdicts(record)


def test_a_batch_key_cannot_leave_the_store(empty: Path) -> None:
    with pytest.raises(BadInput, match="can't be a batch's key"):
        add_batch(empty.parent / "in" / "ledger.duckdb", "../out", [A])


def test_views_read_a_store_and_still_do_after_it_moved(made: Made, copied: Path) -> None:
    for home in (made.store.home, copied):
        with open_ledger(home / "ledger.duckdb", read_only=True) as ledger:
            ask = ledger.connection.execute
            assert ask("SELECT count(*) FROM verdicts").fetchone() == (180,)
            assert ask("SELECT count(*) FROM removed_rows WHERE latest").fetchone() == (23,)
            history = ask(
                "SELECT verdict FROM sample_history WHERE sample_id = ? ORDER BY decision", [made.released]
            ).fetchall()
            assert history == [("flagged",), ("clean",)]
            gates = ask("SELECT gate, overrides, clean_rows FROM batch_history ORDER BY decision").fetchall()
            assert gates == [("passed", 0, 48), ("passed", 1, 49), ("accepted", 0, 48)]
            assert ask("SELECT count(*) FROM threshold_history WHERE method = 'valley'").fetchone() == (3,)
    with open_ledger(copied / "ledger.duckdb") as ledger:
        ledger.head()  # opening it for writing points the views to where the store is now
    with duckdb.connect(copied / "ledger.duckdb", read_only=True) as shell:
        found = shell.execute("SELECT DISTINCT split_part(batch_key, '-', 1) FROM removed_rows ORDER BY 1").fetchall()
    assert found == [("alpha",), ("beta",)]


def test_a_missing_verdict_file_leaves_the_others_readable(copied: Path) -> None:
    next(copied.glob("batches/beta-*/decisions/*/verdicts.parquet")).unlink()
    with open_ledger(copied / "ledger.duckdb", read_only=True) as ledger:
        assert ledger.connection.execute("SELECT count(*) FROM verdicts").fetchone() == (120,)


def test_a_ledger_of_version_1_goes_on(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 0.3.0 left it: its records stay true, and what version 2 adds to them reads as absent."""
    accepted = GateAcceptance(batch_key="b", inputs_sha256=A, made_by="Ada", reason="seen")
    old = connections._versions()[:1]
    monkeypatch.setattr(connections, "_versions", lambda: old)
    with open_ledger(empty) as ledger:
        ledger._append(accepted)
    monkeypatch.undo()
    with open_ledger(empty) as ledger:
        assert ledger.score_files("c") == set()
        ledger.record_score_file(ScoreFile(cache="c", file=FileRef(empty.parent / "scores" / "c" / B, B), rows=3))
        ledger._append(replace(accepted, accepted={"flagged": 3}))
    with open_ledger(empty, read_only=True) as ledger:
        assert [known.accepted for known in ledger.find(GateAcceptance)] == [None, {"flagged": 3}]
        assert ledger.score_files("c") == {B}
        assert list(check_chain(ledger.connection)) == []


def test_an_old_ledger_that_cannot_be_written_to_says_what_to_do(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = connections._versions()[:1]
    monkeypatch.setattr(connections, "_versions", lambda: old)
    say(empty, word(A, "flag"))
    monkeypatch.undo()

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(connections, "_make", refuse)
    told = "schema version 1 and can't be brought to 3 here.*gradsentry store upgrade"
    with pytest.raises(BadInput, match=told), open_ledger(empty, read_only=True) as ledger:
        ledger.head()


def test_the_schema_grows_in_versions(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(empty, word(A, "flag"))
    grown = [*connections._versions(), "ALTER TABLE overrides ADD COLUMN ticket VARCHAR"]
    monkeypatch.setattr(connections, "_versions", lambda: grown)
    with open_ledger(empty, read_only=True) as ledger:  # also before reading
        assert ledger.connection.execute("SELECT ticket, action FROM overrides").fetchone() == (None, "flag")
        assert list(check_chain(ledger.connection)) == []  # old records stay true
    monkeypatch.undo()
    with (
        pytest.raises(BadInput, match=f"schema version {len(grown)}, written by a newer GradSentry"),
        open_ledger(empty) as ledger,
    ):
        ledger.head()


def test_a_migration_that_fails_changes_nothing(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(empty, word(A, "flag"))
    broken = [*connections._versions(), "CREATE TABLE half (x INTEGER); SELECT nonsense"]
    with monkeypatch.context() as patch:
        patch.setattr(connections, "_versions", lambda: broken)
        with pytest.raises(duckdb.Error), open_ledger(empty) as ledger:
            ledger.head()
    with open_ledger(empty, read_only=True) as ledger:
        assert ledger.connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'"
        ).fetchone() == (0,)
        assert ledger.head().seq == 1


def test_a_file_that_is_no_ledger(empty: Path) -> None:
    empty.parent.mkdir()
    empty.write_bytes(b"x" * 10_000)
    with pytest.raises(DamagedStore, match="can't be opened"), open_ledger(empty) as ledger:
        ledger.head()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 2**64 - 1), st.integers(1, 16))
def test_the_index_finds_what_a_list_finds(heads: list[int], wanted: int, digits: int) -> None:
    ids = [f"{head:016x}" + "0" * 48 for head in heads]
    made = np.sort(index.ids_of(pa.chunked_array([pa.array(ids, pa.string())])))
    for full in [*ids[:3], f"{wanted:016x}" + "0" * 48]:
        prefix = full[:digits]
        assert index.find(made, prefix).tolist() == sorted({int(i[:16], 16) for i in ids if i.startswith(prefix)})
        assert index.members(made, [full]).tolist() == [full in ids]


def test_the_queries_in_the_documentation_run(made: Made) -> None:
    text = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    queries = [query for block in re.findall(r"```sql\n(.*?)```", text, re.DOTALL) for query in block.split(";")]
    with open_ledger(made.store.ledger, read_only=True) as ledger:
        found = [ledger.connection.execute(query).fetchall() for query in queries if query.strip()]
        views = {
            name
            for (name,) in ledger.connection.execute(
                "SELECT view_name FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        }
    assert len(found) == 3 and all(found)
    assert {"removed_rows", "batch_history", "sample_history", "threshold_history"} <= views
    assert [name for name in views if f"`{name}`" not in text] == []
