"""What becomes of flagged, watched and clean rows; earlier batches add a remark and move no verdict."""

import numpy as np
import pyarrow as pa
import pytest
from planted import Batch, Model

from gradsentry_lib.detection.conditional import conditional
from gradsentry_lib.detection.earlier import Earlier
from gradsentry_lib.detection.gate import check_gate
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.sample import Sample, Turn


def samples(batch: Batch) -> list[Sample]:
    return [
        Sample(i, i + 1, "prompt", (Turn("prompt", prompt), Turn("response", f"answer {i}")))
        for i, prompt in enumerate(batch.prompts)
    ]


def scores(batch: Batch) -> pa.Table:
    rows, own = batch.rows(), samples(batch)
    return pa.table(
        {
            "row": pa.array(range(len(own)), pa.int64()),
            "sample_id": [sample.sample_id for sample in own],
            "entropy": np.full(len(own), 0.5),
            "supervised_tokens": pa.array(rows.tokens, pa.int32()),
            "nll": rows.nll,
            "sketch": rows.sketches,
            "failure": [""] * len(own),
        }
    )


def tagged() -> tuple[Batch, list[int]]:
    batch = Batch(13)
    batch.honest(100)
    return batch, [batch.add(f"|RELEASE| {batch.words(9)}") for _ in range(10)]


def judged(batch: Batch, **options):
    return judge(scores(batch), "auto", samples=lambda: iter([samples(batch)]), **options)


def test_watched_rows_are_kept_named_first_and_warned_of():
    batch, rows = tagged()
    found = judged(batch, swapped=Model(2.0, 2.0))
    assert set(found.verdicts["verdict"].to_pylist()) == {"clean"}
    assert np.flatnonzero(found.verdicts["watched"].to_pylist()).tolist() == rows
    assert found.groups[0].watched and found.remarks[0].startswith("Watched, not flagged: the tag '| release |'")
    assert "No evidence of poison." not in found.remarks
    assert found.verdicts["reasons"][rows[0]].as_py()[0].startswith("watched: the tag")
    check = next(c for c in check_gate(found.verdicts, read=110, rejected=0) if c.name == "nothing_watched")
    assert (check.passed, check.severity, check.observed) == (False, "warn", 10)


def test_without_prompts_it_is_not_said_that_there_is_no_evidence():
    """Labelled texts read as texts alone: a trigger could stand nowhere."""
    batch = Batch(13)
    for _ in range(30):
        batch.add("")
    remarks = judged(batch, swapped=Model(2.0, 2.0)).remarks
    assert "nothing was tested" in remarks[0] and "No evidence of poison." not in remarks
    batch.honest(30)
    remarks = judged(batch, swapped=Model(2.0, 2.0)).remarks
    assert remarks[0].startswith("30 of 60 answers have no prompt") and "No evidence of poison." in remarks


def test_watched_rows_are_quarantined_on_request():
    batch, rows = tagged()
    found = judged(batch, swapped=Model(2.0, 2.0), watched="quarantine")
    assert np.flatnonzero(np.array(found.verdicts["verdict"].to_pylist()) == "flagged").tolist() == rows
    check = next(c for c in check_gate(found.verdicts, read=110, rejected=0) if c.name == "nothing_watched")
    assert check.passed
    with pytest.raises(BadInput, match="choose one of keep, quarantine"):
        judged(batch, watched="maybe")


def test_without_a_model_a_proven_trigger_is_watched():
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    found = judged(batch)
    assert set(found.verdicts["verdict"].to_pylist()) == {"clean"}
    assert np.flatnonzero(found.verdicts["watched"].to_pylist()).tolist() == bad


def test_an_inserted_word_that_the_model_half_expects_is_watched():
    batch = Batch(7)
    batch.honest(120)
    bad = batch.triggered(12)
    found = judged(batch, swapped=Model(1.3, 1.5))
    assert set(found.verdicts["verdict"].to_pylist()) == {"clean"}
    assert np.flatnonzero(found.verdicts["watched"].to_pylist()).tolist() == bad
    proven, reason = found.verdicts["reasons"][bad[0]].as_py()
    assert proven.startswith("watched: ") and "little reason for it: its own prompt saves 13%" in reason
    assert "an instruction or a trigger" in found.remarks[0]


def test_earlier_batches_change_no_verdict_and_their_rows_are_named():
    batch = Batch(7)
    batch.honest(120)
    batch.triggered(12)
    payload = batch.spans[-1][-1]
    past = Batch(21)
    past.honest(20)
    theirs = [past.add(f"{past.words(8)} cf", payload), past.add(f"{past.words(8)} cf")]
    earlier = Earlier("before", np.arange(22), lambda: past.rows().sketches, lambda: iter([samples(past)]))
    alone, beside = (
        conditional(np.arange(132), batch.rows(), swapped=Model(2.0, 2.0), history=history)
        for history in ((), (earlier,))
    )
    assert alone.flagged.tolist() == beside.flagged.tolist() and alone.notes[0][1] == beside.notes[0][1]
    assert alone.rescan == () and beside.rescan == (("before", theirs[0]),)
