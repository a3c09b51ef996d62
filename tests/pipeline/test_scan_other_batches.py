"""A row that somebody released in one batch comes back in another: the scan says so wherever it says something."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gradsentry_lib.api.result import Result
from gradsentry_lib.cli.scan import _tell
from gradsentry_lib.pipeline.other_batches import ReleasedInOthers, released_in_others
from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines, run, verdicts, write

pytestmark = pytest.mark.slow

REASON = "<b>fine</b> [red]x[/] \x1b[2J{{ 7 }}"


def say(store: Store, *words: Override) -> None:
    with open_ledger(store.ledger) as ledger:
        ledger.record_overrides(words)


def test_it_is_said_in_result_terminal_and_report(
    tmp_path: Path, model: Path, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(write(tmp_path / "first.jsonl", lines(range(40))), model, store)
    assert first.released_in_others == ()
    ids = verdicts(first, store)["sample_id"].to_pylist()
    word = Override(sample_id=ids[3], action="release", made_by="ana", reason=REASON, batch_key=first.batch.batch_key)
    say(store, word, replace(word, sample_id=ids[5]), replace(word, sample_id=ids[6], action="flag"))

    source = write(tmp_path / "second.jsonl", ["{broken", *lines([3, 4, 5, 6, 3, *range(50, 80)])])
    second = run(source, model, store)
    expected = ReleasedInOthers((1, 3, 5), "ana", first.batch.batch_key, REASON)
    assert second.released_in_others == (expected,)
    words = f"3 rows here were released by ana in batch {first.batch.batch_key}: "
    assert str(expected).startswith(words)

    monkeypatch.setenv("COLUMNS", "500")
    _tell(Console(width=500), Result(second, store), str(tmp_path))
    shown = capsys.readouterr().out
    assert words + "<b>fine</b> [red]x[/] \\x1b[2J{{ 7 }} (does not count here; rows 1, 3, 5)" in shown
    assert "\x1b[2J" not in shown

    assert second.published is not None
    page = second.published.report.read_text()
    assert words + "&lt;b&gt;fine&lt;/b&gt; [red]x[/] \\x1b[2J{{ 7 }}" in page and "<b>fine" not in page

    assert run(tmp_path / "first.jsonl", model, store).released_in_others == ()
    say(store, replace(word, batch_key=second.batch.batch_key))  # now it counts here, too
    assert [told.rows for told in run(source, model, store).released_in_others] == [(3,)]


def test_a_word_that_is_taken_back_is_not_repeated(tmp_path: Path, model: Path, store: Store) -> None:
    first = run(write(tmp_path / "first.jsonl", lines(range(40))), model, store)
    second = run(write(tmp_path / "second.jsonl", lines(range(30, 70))), model, store)
    sample = verdicts(first, store)["sample_id"].to_pylist()[35]
    word = Override(sample_id=sample, action="release", made_by="ana", reason="r", batch_key=first.batch.batch_key)
    say(store, word)
    (told,) = released_in_others(store, second.batch.batch_key)
    assert str(told).startswith("1 row here was released by ana") and told.rows == (5,)
    say(store, replace(word, action="unset"))
    assert released_in_others(store, second.batch.batch_key) == ()
