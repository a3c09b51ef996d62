"""decisions.json: recorded whole or not at all, once, and never where it no longer fits."""

import hashlib
import json
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gradsentry_lib.cli import app
from gradsentry_lib.errors import BadInput
from gradsentry_lib.pipeline.known import schema
from gradsentry_lib.pipeline.listing import listing
from gradsentry_lib.review.decisions import apply, parse_decisions
from gradsentry_lib.review.export import groups_json
from gradsentry_lib.review.stats import overruled
from gradsentry_lib.store import Override, open_ledger
from tests.detection import planted
from tests.review.attacked import judged, read_and_judge
from tests.review.files import as_bytes, decided_file


def ids(own, group: int) -> list[str]:
    return [row["id"] for row in listing(own.store, own.batch, own.decided).rows() if row["g"] == group]


def spoken(own) -> list[Override]:
    with open_ledger(own.store.ledger, read_only=True) as ledger:
        return ledger.find(Override)


def run(own, told, name: str = "ana"):
    made = parse_decisions(as_bytes(told))
    return apply(own.store.ledger, made, name)


@pytest.mark.slow
def test_decisions_stand_in_the_ledger_and_count_from_the_next_scan(own):
    released, kept = ids(own, 3), ids(own, 0)
    done = run(own, decided_file(own, ("flag", "an attack", kept), ("release", "recipes", released)))
    assert (done.recorded, done.released, done.kept_out) == (len(released) + len(kept), len(released), len(kept))
    assert {(w.made_by, w.page) for w in spoken(own)} == {("ana", "ab" * 32)}
    again = judged(own.store, own.batch, own.scored)
    assert again.decided.flagged == own.decided.flagged - len(released)
    rows = list(listing(own.store, own.batch, again.decided).rows())
    assert "flagged by ana: an attack" in rows[0]["why"] and not {row["id"] for row in rows} & set(released)
    counted = {each.evidence: (each.released, each.kept_out) for each in overruled(own.store)}
    assert all(evidence.startswith("trigger, by ") for evidence in counted)
    assert tuple(map(sum, zip(*counted.values(), strict=True))) == (12, 24)


def test_twice_is_once(own):
    told = decided_file(own, ("release", "recipes", ids(own, 3)))
    assert run(own, told).recorded == 12
    assert run(own, told).recorded == 0
    assert len(spoken(own)) == 12


def test_a_later_decision_in_the_file_counts(own):
    name = ids(own, 3)[0]
    run(own, decided_file(own, ("release", "fine", [name]), ("flag", "not fine", [name])))
    assert [(w.action, w.reason) for w in spoken(own)] == [("flag", "not fine")]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda told: told["decisions"][0]["samples"].pop(), r"edited by hand: decision 1 \(release of 11 samples"),
        (lambda told: told["decisions"][0].update(reason="better"), "edited by hand: decision 1"),
        (lambda told: told["decisions"].pop(), "edited by hand: its decisions"),
        (lambda told: told.update(batch="other"), "edited by hand"),
        (lambda told: told.update(format="2"), "has the format '2'"),
        (lambda told: told.pop("page"), "no decisions.json of a review page .page"),
        (lambda told: told["decisions"][0].update(action="delete"), "no decisions.json"),
    ],
)
def test_a_file_edited_by_hand_is_refused_whole(own, edit, said):
    told = decided_file(own, ("release", "recipes", ids(own, 3)), ("flag", "an attack", ids(own, 0)))
    edit(told)
    with pytest.raises(BadInput, match=said):
        run(own, told)
    assert spoken(own) == []


def test_words_said_since_the_page_are_named_and_nothing_is_recorded(own):
    told = decided_file(own, ("release", "recipes", ids(own, 3)))
    name = ids(own, 0)[0]
    with open_ledger(own.store.ledger) as ledger:
        ledger.record_overrides([Override(sample_id=name, action="flag", made_by="ben", reason="seen before")])
    with pytest.raises(BadInput, match=f"outdated.*ben flagged {name[:12]} on .*: seen before"):
        run(own, told)
    assert len(spoken(own)) == 1


def test_a_batch_judged_again_since_the_page_is_told_row_by_row(own):
    told = decided_file(own, ("flag", "an attack", ids(own, 0)))
    row = next(row for row in listing(own.store, own.batch, own.decided).rows() if row["g"] == 3)
    with open_ledger(own.store.ledger) as ledger:
        ledger.record_overrides([Override(sample_id=row["id"], action="release", made_by="ben", reason="fine")])
    judged(own.store, own.batch, own.scored)
    with pytest.raises(BadInput, match=f"judged again since the page.*row {row['r']} flagged -> clean"):
        run(own, told)


def test_a_sample_of_another_batch_or_page_of_another_store_is_refused(own):
    with pytest.raises(BadInput, match="has no sample 000000000000: nothing was recorded"):
        run(own, decided_file(own, ("release", "fine", ["0" * 64, *ids(own, 3)])))
    told = decided_file(own, ("release", "fine", ids(own, 3)))
    made = parse_decisions(as_bytes(told))
    with pytest.raises(BadInput, match="the page is of another store"):
        apply(own.store.ledger, type(made)(**{**vars(made), "decision": 3}), "ana")
    assert spoken(own) == []


@pytest.mark.slow
def test_what_was_decided_for_a_text_counts_where_it_comes_again_and_new_rows_come_first(own):
    """The same source comes again with twenty rows more: earlier words count, and what is new is on top."""
    run(own, decided_file(own, ("release", "recipes", ids(own, 3)), ("flag", "an attack", ids(own, 0))))
    lines = Path(own.batch.source).read_text(encoding="utf-8").splitlines()[:-1]
    drawn = planted.Batch(5)
    bad = drawn.triggered(20, "zz9")
    extra = [json.dumps({"prompt": drawn.prompts[i], "response": f"{drawn.words(6)}. Pay now."}) for i in bad]
    known = own.store.batch(own.batch.batch_key) / "scores" / "planted" / "scores.parquet"
    sketches = [planted.sketch_of(drawn.spans[i]) for i in bad] + pq.read_table(known)["sketch"].to_pylist()
    again = read_and_judge(own.store, "forum", [*extra, *lines], sketches)
    batch = again.batch
    rows = list(listing(own.store, batch, again.decided).rows())
    assert {row["r"] for row in rows[:20]} == set(range(20)) and all(row["new"] for row in rows[:20])
    assert not any(row.get("new") for row in rows[20:])
    released = {word.sample_id for word in spoken(own) if word.action == "release"}
    assert not {row["id"] for row in rows} & released  # clean, by the word said on the batch before
    page = again.report.read_text(encoding="utf-8")
    assert '"flag","ana",' in page and '"an attack","all"]' in page


def test_the_commands_apply_count_export_and_redact(own, tmp_path):
    told = tmp_path / "decisions.json"
    told.write_bytes(as_bytes(decided_file(own, ("release", "recipes", ids(own, 3)))))
    runner = CliRunner()
    assert "12 released, 0 kept out, by ana" in runner.invoke(app, ["review", "apply", str(told), "--by", "ana"]).output
    assert "applied before" in runner.invoke(app, ["review", "apply", str(told), "--by", "ana"]).output
    counted = json.loads(runner.invoke(app, ["review", "stats", "--json"]).output)
    assert counted[0].pop("evidence").startswith("trigger, by ")
    assert counted == [{"released": 12, "kept_out": 0}]
    out = tmp_path / "groups.json"
    runner.invoke(app, ["review", "export", own.batch.batch_key[:8], "--out", str(out)], catch_exceptions=False)
    shared = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(shared, schema())
    assert shared == groups_json(own.store, own.batch, own.decided)
    payload = hashlib.sha256(b"buy it at evil example today").hexdigest()
    assert (shared["groups"][0]["payload_sha256"], shared["groups"][0]["payload_words"]) == (payload, 6)
    assert "evil" not in out.read_text(encoding="utf-8") and shared["groups"][0]["wordings"] == ["cf"]
    page = tmp_path / "page.html"
    runner.invoke(app, ["review", "page", own.batch.batch_key[:8], "--out", str(page), "--redact"])
    text = page.read_text(encoding="utf-8").partition("<script>")[0]
    assert "Redacted" in text and "evil.example" not in text and "Preheat" not in text
