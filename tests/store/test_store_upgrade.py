"""A store that version 0.3.0 made, brought over to this version's layout; killed meanwhile, and started again.

store-0.3.0.tar.xz was written by that version's own code: a batch of 60 rows and a broken one, whose source lies in the
store and whose decision has groups, and a batch that was published, whose source is gone.
"""

import json
import multiprocessing
import os
import signal
import sys
import tarfile
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from gradsentry_lib import cli
from gradsentry_lib.audit.verify import verify
from gradsentry_lib.pipeline.decided import load_decided, load_evidence
from gradsentry_lib.pipeline.ingest import READER, load
from gradsentry_lib.pipeline.upgrade import upgrade
from gradsentry_lib.store import Findings, open_ledger
from gradsentry_lib.store.paths import LAYOUT, Store

MADE = Path(__file__).with_name("store-0.3.0.tar.xz")
FILE_EVENTS = ("open", "os.rename", "os.chmod", "os.remove", "os.mkdir")


@pytest.fixture
def old(tmp_path: Path) -> Store:
    with tarfile.open(MADE) as archive:
        archive.extractall(tmp_path / "store", filter="data")
    return Store(tmp_path / "store")


def upgrade_and_die(home: Path, last_event: int | None = None) -> None:
    """An upgrade that is killed by SIGKILL at its `last_event`-th touch of a file in the store."""
    count = 0

    def watch(event: str, told: tuple[Any, ...]) -> None:
        nonlocal count
        if event in FILE_EVENTS and told and str(told[0]).startswith(str(home)):
            count += 1
            if count == last_event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    list(upgrade(Store(home)))


def keys(store: Store) -> tuple[str, str]:
    with open_ledger(store.ledger, read_only=True) as ledger:
        rows, gone = ledger.batch_keys()
    return rows, gone


def only_the_source_is_gone(store: Store) -> bool:
    return [problem.message for problem in verify(store.ledger).problems] == ["source/gone.jsonl is missing"]


def is_brought_over(store: Store) -> None:
    rows, gone = keys(store)
    read, left = load(store, rows), load(store, gone)
    assert read is not None and (read.read, read.rejected, read.reader) == (61, 1, READER)
    assert read.layout.startswith("prompt ")
    assert left is not None and (left.read, left.reader, left.truncated) == (20, 1, None)
    assert [store.step_files(key) for key in (rows, gone)] == [[], []]
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert ledger.layout == LAYOUT
        assert len(ledger.find(Findings)) == 2  # one a decision, however often it was begun
        decided = ledger.decision(rows)
    old = load_decided(store, rows, decided.decision_key)
    assert old is not None and (old.flagged, old.policy, old.gate_passed) == (60, "auto", False)
    groups = load_evidence(store, old).groups
    said = json.loads(store.decision(rows, decided.decision_key).groups.read_text())
    assert [(list(one.rows), one.trigger) for one in groups] == [(one["rows"], one["trigger"]) for one in said] != []
    assert only_the_source_is_gone(store)


def test_an_old_store_is_brought_over(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADSENTRY_HOME", str(old.home))
    assert len([path for key in keys(old) for path in old.step_files(key)]) == 6
    done = CliRunner().invoke(cli.app, ["store", "upgrade"])
    told = " ".join(done.output.split())
    assert done.exit_code == 0, told
    assert "61 rows, 1 rejected" in told and "left as it is gone-" in told and "1 batches read again, 1 left" in told
    is_brought_over(old)


def test_an_old_store_opens_as_it_is(old: Store) -> None:
    rows, gone = keys(old)
    with open_ledger(old.ledger) as ledger:
        assert ledger.layout == 1
        decision = ledger.decision(gone)
    read, decided = load(old, rows), load_decided(old, gone, decision.decision_key)
    assert read is not None and decided is not None and (read.rejected, decided.clean) == (1, 20)
    assert only_the_source_is_gone(old)


@pytest.mark.slow
def test_killed_anywhere_and_started_again(old: Store, tmp_path: Path) -> None:
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.store.test_store_upgrade"])
    kills = 0
    for last_event in (3, 8, 14, 20, 26, 32):
        process = context.Process(target=upgrade_and_die, args=(old.home, last_event))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0
    assert kills >= 4
    assert [outcome for _, outcome in upgrade(old) if outcome is not None]
    is_brought_over(old)


def test_what_somebody_edited_is_not_taken_into_the_ledger(old: Store) -> None:
    rows, _ = keys(old)
    with open_ledger(old.ledger, read_only=True) as ledger:
        files = old.decision(rows, ledger.decision(rows).decision_key)
    files.groups.write_text(files.groups.read_text().replace('"payload": "', '"payload": "another '))
    files.said.write_bytes(files.said.read_bytes()[:99])
    list(upgrade(old))
    with open_ledger(old.ledger, read_only=True) as ledger:
        assert ledger.find(Findings, batch_key=rows) == []
    assert any("groups.json" in problem.message for problem in verify(old.ledger).problems)


def test_a_store_of_a_newer_version_is_refused_in_one_line(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    list(upgrade(old))
    with duckdb.connect(str(old.ledger)) as ledger:
        ledger.execute("UPDATE store_layout SET version = ?", [LAYOUT + 1])
    monkeypatch.setenv("GRADSENTRY_HOME", str(old.home))
    for command in (["store", "upgrade"], ["audit", "head"], ["gate", "limits"]):
        done = CliRunner().invoke(cli.app, command)
        said = str(done.exception or "") + done.output
        assert f"has layout {LAYOUT + 1}, made by a newer GradSentry" in said and "upgrade it" in said
        assert getattr(done.exception, "exit_code", done.exit_code) == 2
