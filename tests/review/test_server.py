"""The review server: who may ask, what it answers, what it records."""

import json
import urllib.request
from urllib.error import HTTPError

import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.detection.gate import GateLimits
from gradsentry_lib.pipeline.listing import listing
from gradsentry_lib.review.batches import all_batches
from gradsentry_lib.review.server import Desk
from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.paths import Store
from tests.review.attacked import attack
from tests.review.files import as_bytes, decided_file
from tests.review.serving import served


def ask(desk: Desk, path: str, data: bytes | None = None, **headers: str):
    """(status, text, headers). The cookie is sent unless another is given."""
    told = {
        "Cookie": f"{desk.cookie}={desk.token}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    request = urllib.request.Request(desk.origins[0] + path, data, told)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except HTTPError as error:
        return error.code, error.read().decode(), error.headers


@pytest.fixture(scope="module")
def reading(attacked):
    with served(attacked.store) as desk:
        yield desk


def test_only_who_has_the_link_is_answered(reading):
    assert ask(reading, "/")[0] == 200
    assert ask(reading, "/", Cookie="")[0] == 403
    assert ask(reading, "/?token=wrong")[0] == 403
    assert ask(reading, "/", Cookie=f"{reading.cookie}={'x' * len(reading.token)}")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1:1", "evil.example:{port}"])
def test_no_other_host_name_is_answered(reading, host):
    assert ask(reading, "/", Host=host.format(port=reading.port))[0] == 421


def test_no_other_origin_is_answered(reading):
    assert ask(reading, "/", Origin="https://evil.example")[0] == 403
    assert ask(reading, "/", Origin="null")[0] == 403
    assert ask(reading, "/", Origin=reading.origins[0])[0] == 200


def test_nothing_is_recorded_without_a_name_a_header_and_an_origin(reading, attacked):
    path = f"/batches/{attacked.batch.batch_key}/decide"
    right = {"Origin": reading.origins[0], "X_Gradsentry": reading.token}
    assert "read-only" in ask(reading, path, b"{}", **right)[1]
    assert ask(reading, path, b"{}", X_Gradsentry=reading.token)[0] == 403
    assert ask(reading, path, b"{}", Origin=reading.origins[0])[0] == 403


def test_answers_are_not_kept_nor_framed(reading):
    headers = ask(reading, "/")[2]
    assert headers["Cache-Control"] == "no-store" and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_rows_come_in_parts_and_a_text_whole(reading, attacked):
    rows = list(listing(attacked.store, attacked.batch, attacked.decided).rows())
    path = f"/batches/{attacked.batch.batch_key}"
    assert json.loads(ask(reading, f"{path}/rows?from=3&count=5")[1]) == rows[3:8]
    assert json.loads(ask(reading, f"{path}/text?row={rows[0]['r']}")[1]) == rows[0]["turns"]
    assert ask(reading, f"{path}/rows?from=-1&count=5")[0] == 409
    for other in ("/batches/nothing", "/batches/..%2f..%2fetc", "/batches/%2e%2e"):
        assert ask(reading, other)[0] == 404


def test_decisions_are_recorded_at_once_and_an_outdated_page_is_told(own):
    names = [row["id"] for row in listing(own.store, own.batch, own.decided).rows() if row["g"] == 3]
    with served(own.store, "ana") as desk:
        path = f"/batches/{own.batch.batch_key}/decide"
        right = {"Origin": desk.origins[0], "X_Gradsentry": desk.token}
        first, second = decided_file(own, ("release", "fine", names)), decided_file(own, ("flag", "no", names[:1]))
        status, text, _ = ask(desk, path, as_bytes(first), **right)
        assert status == 200 and json.loads(text)["recorded"] == 12
        status, text, _ = ask(desk, path, as_bytes(second), **right)
        assert status == 409 and "people decided on batch" in json.loads(text)["error"]
        taken = decided_file(own, ("unset", "undone", names[:2]))
        assert ask(desk, path, as_bytes(taken), **right)[0] == 200
        assert ask(desk, path, b"[]", **right)[0] == 409
        assert "ana</bdi> 10" in ask(desk, "/")[1]
    with open_ledger(own.store.ledger, read_only=True) as ledger:
        assert len(ledger.active_overrides(own.batch.batch_key)) == 10
        assert {word.made_by for word in ledger.find(Override)} == {"ana"}


def test_undoing_brings_back_what_was_said_before(own):
    name = next(listing(own.store, own.batch, own.decided).rows())["id"]
    with open_ledger(own.store.ledger) as ledger:
        for action in ("flag", "release"):
            ledger.record_overrides([Override(sample_id=name, action=action, made_by="ben", reason="looked")])
    with served(own.store, "ana") as desk:
        right = {"Origin": desk.origins[0], "X_Gradsentry": desk.token}
        told = decided_file(own, ("unset", "undone", [name]))
        assert ask(desk, f"/batches/{own.batch.batch_key}/decide", as_bytes(told), **right)[0] == 200
    with open_ledger(own.store.ledger, read_only=True) as ledger:
        (word,) = ledger.active_overrides(own.batch.batch_key)
    assert (word.action, word.made_by) == ("flag", "ana")


def test_the_index_says_where_each_batch_stands(own):
    (state,) = all_batches(own.store.ledger)
    assert (state.state, state.gate, state.flagged, state.waiting) == ("published", "passed", 72, 72)
    name = next(listing(own.store, own.batch, own.decided).rows())["id"]
    with open_ledger(own.store.ledger) as ledger:
        ledger.record_overrides([Override(sample_id=name, action="flag", made_by="ben", reason="looked")])
    (state,) = all_batches(own.store.ledger)
    assert (state.state, state.waiting, state.deciders) == ("stale", 71, {"ben": 1})


@pytest.mark.slow
def test_a_row_hidden_from_the_list_is_shown_again_and_an_audit_has_said_so(own):
    """Who may write to the store takes a flagged row out of what reviewers see."""
    made = listing(own.store, own.batch, own.decided)
    rows = list(made.rows())
    lines = made.path.read_bytes().splitlines(keepends=True)
    made.path.write_bytes(b"".join(lines[:1] + lines[2:]))
    (found,) = [each for each in verify(own.store.ledger).problems if "listed" in each.subject]
    assert "listed.jsonl is not what was recorded" in found.message
    with served(own.store) as desk:
        shown = json.loads(ask(desk, f"/batches/{own.batch.batch_key}/rows?from=0&count=1")[1])
    assert shown == rows[:1]
    assert not [each for each in verify(own.store.ledger).problems if "listed" in each.subject]


def test_no_page_is_made_of_verdicts_or_texts_that_were_altered(own):
    path = own.store.decision(own.batch.batch_key, own.decided.decision_key).verdicts
    path.write_bytes(path.read_bytes() + b" ")
    with served(own.store) as desk:
        status, text, _ = ask(desk, f"/batches/{own.batch.batch_key}")
    assert status == 404 and "verdicts.parquet is not what was decided" in text


@pytest.mark.slow
def test_a_refused_batchs_page_is_recorded(tmp_path):
    refused = attack(Store(tmp_path / "store"), limits=GateLimits(max_flagged=0.05))
    page = refused.store.decision(refused.batch.batch_key, refused.decided.decision_key).report
    assert verify(refused.store.ledger).problems == ()
    page.write_text(page.read_text(encoding="utf-8").replace("Refused", "Fine"), encoding="utf-8")
    assert any("report.html is not what was recorded" in each.message for each in verify(refused.store.ledger).problems)
