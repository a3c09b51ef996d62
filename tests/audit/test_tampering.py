"""Whatever is changed behind the ledger's back, `verify` finds it and names it."""

# ruff: noqa: S608  (SQL as an intruder types it)

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.audit import heads
from gradsentry_lib.audit.heads import read_heads
from gradsentry_lib.audit.verify import Verified, verify
from gradsentry_lib.errors import BadInput
from gradsentry_lib.store import Override, current_run, open_ledger
from gradsentry_lib.store.journal import line_digest, row_digest, rows
from gradsentry_lib.store.records import TABLES
from gradsentry_lib.store.signing import make_keys, sign_file
from tests.store.made import Made


def check(home: Path, made: Made, *told: str) -> Verified:
    return verify(home / "ledger.duckdb", key=made.public, noted=read_heads(told))


def test_an_untouched_store_holds(made: Made) -> None:
    found = check(made.store.home, made)
    assert found.problems == ()
    assert (found.decisions, found.rows, found.attestations) == (3, 180, 3)
    assert found.records == found.head.seq > 30


def test_a_store_that_was_moved_holds(made: Made, copied: Path) -> None:
    assert check(copied, made).findings == ()


KEPT = "?" * 16 + ".json"  # the name of an attestation in the store, not of its signature

# Each of these edits a copy of the store; `named` must stand in what verify says.


def only(home: Path, pattern: str) -> Path:
    found = sorted(home.glob(pattern))
    assert found, pattern
    return found[0]


def edit_bytes(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new, 1))


def set_value(path: Path, column: str, row: int, value: object) -> None:
    """Rewrites one cell of a Parquet file."""
    table = pq.read_table(path)
    values = table[column].to_pylist()
    assert values[row] != value
    values[row] = value
    position = table.schema.get_field_index(column)
    pq.write_table(
        table.set_column(position, table.schema.field(column), pa.array(values, table.schema.field(column).type)), path
    )


def sql(home: Path, *statements: str) -> None:
    """What somebody with a DuckDB shell would do. Each statement must hit something."""
    with duckdb.connect(home / "ledger.duckdb") as connection:
        for statement in statements:
            assert connection.execute(statement).fetchone() != (0,), statement


def rebuild_journal(home: Path) -> None:
    """Makes the whole chain anew over the rows as they are now."""
    with duckdb.connect(home / "ledger.duckdb") as connection:
        records = [(row["seq"], table, row) for table in TABLES.values() for row in rows(connection, table)]
        connection.execute("DELETE FROM journal")
        previous = "0" * 64
        for seq, table, row in sorted(records, key=lambda record: record[0]):
            digest = row_digest(table, row)
            line = line_digest(seq, table, digest, previous)
            connection.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", [seq, table, digest, previous, line])
            previous = line


def source_byte(home: Path) -> None:
    edit_bytes(home / "landing/alpha.jsonl", b"question 7", b"question 8")


def sample_text(home: Path) -> None:
    path = only(home, "batches/alpha-*/samples.parquet")
    turns = pq.read_table(path)["turns"].to_pylist()[5]
    set_value(path, "turns", 5, [{**turns[0], "text": "another question"}, turns[1]])


def rejected_row(home: Path) -> None:
    edit_bytes(only(home, "batches/alpha-*/rejected.jsonl"), b"not a row", b"not a cow")


def score_value(home: Path) -> None:
    set_value(only(home, "batches/alpha-*/scores/*/scores.parquet"), "entropy", 8, 0.99)


def score_byte(home: Path) -> None:
    path = only(home, "batches/alpha-*/scores/*/scores.parquet")
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)


def second_verdicts(home: Path) -> Path:
    with open_ledger(home / "ledger.duckdb", read_only=True) as ledger:
        key = next(key for key in ledger.batch_keys() if key.startswith("alpha"))
        return ledger.decision(key).verdicts.file


def flagged_row(path: Path) -> int:
    return pq.read_table(path)["verdict"].to_pylist().index("flagged")


def verdict_flipped(home: Path) -> None:
    path = second_verdicts(home)
    set_value(path, "verdict", flagged_row(path), "clean")


def reason_edited(home: Path) -> None:
    path = second_verdicts(home)
    set_value(path, "reasons", flagged_row(path), ["entropy 0.701 above threshold 0.700"])


def verdict_flipped_and_recorded(home: Path) -> None:
    """Flipped, and its new digest and counts written into the ledger, chain and all."""
    from gradsentry_lib.files import sha256_file

    verdict_flipped(home)
    path = second_verdicts(home)
    old = pq.read_metadata(path).num_rows
    assert old == 60
    name = path.relative_to(home).as_posix()
    sql(
        home,
        f"UPDATE decisions SET verdicts_sha256 = '{sha256_file(path)}', clean = clean + 1, flagged = flagged - 1 "
        f"WHERE verdicts_path = '{name}'",
    )
    rebuild_journal(home)


def tau_in_ledger(home: Path) -> None:
    sql(home, "UPDATE thresholds SET tau = 0.99")


def tau_in_ledger_and_chain(home: Path) -> None:
    tau_in_ledger(home)
    rebuild_journal(home)


def curve_in_ledger(home: Path) -> None:
    sql(home, "UPDATE thresholds SET density = list_transform(density, lambda x: x * 2)")


def what_the_batch_says(home: Path) -> None:
    sql(home, "UPDATE batches SET reading = replace(reading, '\"reader\"', '\"Reader\"') WHERE name = 'alpha'")


def what_the_decision_says(home: Path) -> None:
    sql(home, "UPDATE findings SET remarks = '[]', groups = '[{}]' WHERE batch_key LIKE 'beta-%'")


def threshold_in_its_file(home: Path) -> None:
    edit_bytes(only(home, "batches/beta-*/decisions/*/threshold.json"), b'"tau": 0.', b'"tau": 1.')


def picture_byte(home: Path) -> None:
    path = only(home, "batches/beta-*/decisions/*/threshold.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def picture_deleted(home: Path) -> None:
    only(home, "batches/beta-*/decisions/*/threshold.png").unlink()


def groups_edited(home: Path) -> None:
    edit_bytes(only(home, "batches/beta-*/decisions/*/groups.json"), b"[]", b"[ ]")


def listed_row_hidden(home: Path) -> None:
    """A flagged row that no reviewer is to see."""
    path = only(home, "batches/beta-*/decisions/*/listed.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def listed_deleted(home: Path) -> None:
    only(home, "batches/beta-*/decisions/*/listed.jsonl").unlink()


def page_edited(home: Path) -> None:
    edit_bytes(only(home, "batches/beta-*/clean/*/report.html"), b"flagged", b"honest!")


def clean_file(home: Path, batch: str = "beta") -> Path:
    return only(home, f"batches/{batch}-*/clean/*/clean.jsonl")


def clean_row_added(home: Path) -> None:
    with clean_file(home).open("a") as file:
        file.write('{"prompt": "p", "response": "click here"}\n')


def clean_row_removed(home: Path) -> None:
    lines = clean_file(home).read_bytes().splitlines(keepends=True)
    clean_file(home).write_bytes(b"".join(lines[:4] + lines[5:]))


def clean_row_edited(home: Path) -> None:
    edit_bytes(clean_file(home), b"answer 40", b"answer 4O")


def clean_rows_reordered(home: Path) -> None:
    lines = clean_file(home).read_bytes().splitlines(keepends=True)
    clean_file(home).write_bytes(b"".join(lines[::-1]))


def clean_file_deleted(home: Path) -> None:
    clean_file(home).unlink()


def clean_file_older(home: Path) -> None:
    """The set of the first decision, and its statement, in the place of the second's: a row is missing again."""
    first, second = sorted(home.glob("batches/alpha-*/clean/*"), key=lambda folder: folder.stat().st_mtime_ns)
    for name in ("clean.jsonl", "attestation.json"):
        shutil.copyfile(first / name, second / name)


def quarantine_edited(home: Path) -> None:
    edit_bytes(only(home, "batches/beta-*/clean/*/quarantine.jsonl"), b'"flagged"', b'"unclear"')


def clean_files_swapped(home: Path) -> None:
    swap(clean_file(home, "alpha"), clean_file(home, "beta"))


def verdicts_swapped(home: Path) -> None:
    swap(
        only(home, "batches/alpha-*/decisions/*/verdicts.parquet"),
        only(home, "batches/beta-*/decisions/*/verdicts.parquet"),
    )


def swap(left: Path, right: Path) -> None:
    shutil.move(left, left.with_suffix(".swap"))
    shutil.move(right, left)
    shutil.move(left.with_suffix(".swap"), right)


def scan_edited(home: Path) -> None:
    sql(home, f"UPDATE scans SET model_fingerprint = '{'0' * 64}' WHERE batch_key LIKE 'beta%'")


def override_deleted(home: Path) -> None:
    sql(home, "DELETE FROM overrides")


def override_deleted_with_its_line(home: Path) -> None:
    sql(home, "DELETE FROM journal WHERE table_name = 'overrides'", "DELETE FROM overrides")


def override_inserted(home: Path) -> None:
    sql(
        home,
        "INSERT INTO overrides VALUES "
        f"(9999, now()::TIMESTAMP, '{'a' * 64}', 'release', 'mallory', 'trust me', NULL, NULL)",
    )


def override_backdated(home: Path) -> None:
    sql(home, "UPDATE overrides SET recorded_at = recorded_at - INTERVAL 30 DAY")


def override_renamed(home: Path) -> None:
    sql(home, "UPDATE overrides SET made_by = 'somebody else'")


def records_reordered(home: Path) -> None:
    first, second = "(SELECT min(seq) FROM outputs)", "(SELECT min(seq) + 1 FROM outputs)"
    sql(
        home,
        f"UPDATE outputs SET seq = 5000 WHERE seq = {first}",
        "UPDATE outputs SET seq = (SELECT min(seq) - 1 FROM outputs) WHERE seq = (SELECT min(seq) FROM outputs)",
        f"UPDATE outputs SET seq = {second} WHERE seq = 5000",
    )


def gate_edited(home: Path) -> None:
    sql(home, "UPDATE gate_results SET passed = true WHERE NOT passed")


def gate_edited_and_chain(home: Path) -> None:
    gate_edited(home)
    rebuild_journal(home)


def acceptance_forged(home: Path) -> None:
    """In due form, but for a gate that never failed."""
    sql(
        home,
        "INSERT INTO gate_acceptances SELECT (SELECT max(seq) + 1 FROM journal), now()::TIMESTAMP, batch_key, "
        "inputs_sha256, 'mallory', 'fine', NULL FROM gate_results WHERE passed LIMIT 1",
    )
    rebuild_journal(home)


def published_past_the_gate(home: Path) -> None:
    """The acceptance taken out, as if nobody had ever given it, and the chain made anew."""
    sql(home, "DELETE FROM gate_acceptances")
    rebuild_journal(home)


def acceptance_renamed(home: Path) -> None:
    sql(home, "UPDATE gate_acceptances SET made_by = 'the boss'")


def attestation_edited(home: Path) -> None:
    edit_bytes(only(home, f"batches/alpha-*/attestations/{KEPT}"), b'"toy"', b'"big"')


def handed_out_attestation_edited(home: Path) -> None:
    edit_bytes(only(home, "batches/beta-*/clean/*/attestation.json"), b'"toy"', b'"big"')


def attestation_chain_broken(home: Path) -> None:
    """The first attestation taken out of files and ledger, the chain of records made anew."""
    with open_ledger(home / "ledger.duckdb", read_only=True) as ledger:
        found = ledger.connection.execute(
            "SELECT file_path, file_sha256 FROM outputs "
            "WHERE kind = 'attestation' AND batch_key LIKE 'alpha%' ORDER BY seq"
        ).fetchall()
    digest = found[0][1]
    for path, sha256 in found:
        if sha256 == digest:
            (home / path).unlink()
    sql(home, f"DELETE FROM outputs WHERE file_sha256 = '{digest}'")
    rebuild_journal(home)


def attestations_deleted(home: Path) -> None:
    for path in [*home.glob("batches/*/attestations/*"), *home.glob("batches/*/clean/*/attestation*")]:
        path.unlink()


def attestations_deleted_and_forgotten(home: Path) -> None:
    """Nothing left of them: not the files, not the records, not the heads; a chain that is whole."""
    attestations_deleted(home)
    sql(home, "DELETE FROM outputs WHERE kind IN ('attestation', 'signature')")
    rebuild_journal(home)
    (home / "ledger.heads").write_text("")


def log_of_heads_deleted(home: Path) -> None:
    (home / "ledger.heads").unlink()


def attestation_unknown(home: Path) -> None:
    path = only(home, f"batches/alpha-*/attestations/{KEPT}")
    made = json.loads(path.read_text())
    made["subject"][0]["digest"]["sha256"] = "0" * 64
    path.with_name("0123456789abcdef.json").write_text(json.dumps(made))


def signed_by_a_wrong_key(home: Path) -> None:
    make_keys(home / "wrong", home / "wrong.pub")
    for path in [
        *home.glob(f"batches/beta-*/attestations/{KEPT}"),
        *home.glob("batches/beta-*/clean/*/attestation.json"),
    ]:
        sign_file(path, home / "wrong")


def signatures_removed(home: Path) -> None:
    for path in home.glob("batches/beta-*/**/*.dsse.json"):
        path.unlink()


def index_edited(home: Path) -> None:
    path = only(home, "batches/alpha-*/sample_ids.u64")
    path.write_bytes(path.read_bytes()[8:])


def history_rewritten(home: Path) -> None:
    """An override taken out and the chain made anew from there on: what was signed and noted down contradicts it."""
    sql(home, "DELETE FROM overrides")
    rebuild_journal(home)


def end_cut_off(home: Path) -> None:
    """The newest records taken out together with their journal lines."""
    sql(home, "DELETE FROM journal WHERE seq > 20")
    with duckdb.connect(home / "ledger.duckdb") as connection:
        for table in TABLES.values():
            connection.execute(f"DELETE FROM {table} WHERE seq > 20")


def ledger_bytes(home: Path) -> None:
    data = bytearray((home / "ledger.duckdb").read_bytes())
    for at in range(4096 * 4, len(data), 997):
        data[at] ^= 0xFF
    (home / "ledger.duckdb").write_bytes(data)


def ledger_replaced(home: Path) -> None:
    (home / "ledger.duckdb").write_bytes(b"not a database" * 1000)


KINDS: list[tuple[Callable[[Path], None], list[str]]] = [
    (source_byte, ["source of batch alpha"]),
    (sample_text, ["samples of batch alpha"]),
    (rejected_row, ["rejected rows of batch alpha"]),
    (score_value, ["scores of scan", "entropies that differ from the scores: row 8"]),
    (score_byte, ["scores of scan"]),
    (verdict_flipped, ["verdicts of decision", "verdicts that do not follow from the scores: row"]),
    (reason_edited, ["verdicts of decision", "reasons that do not follow from the scores: row"]),
    (verdict_flipped_and_recorded, ["verdicts that do not follow from the scores: row", "ledger journal"]),
    (tau_in_ledger, ["ledger thresholds", "altered", "tau 0.99 was recorded"]),
    (tau_in_ledger_and_chain, ["tau 0.99 was recorded"]),
    (curve_in_ledger, ["ledger thresholds"]),
    (what_the_batch_says, ["ledger batches", "altered"]),
    (what_the_decision_says, ["ledger findings", "altered"]),
    (threshold_in_its_file, ["threshold file of decision", "threshold.json is not what was recorded"]),
    (listed_row_hidden, ["listed file of decision", "listed.jsonl is not what was recorded"]),
    (listed_deleted, ["listed file of decision", "listed.jsonl is missing"]),
    (page_edited, ["report file of decision", "report.html is not what was recorded"]),
    (picture_byte, ["plot file of decision", "threshold.png is not what was recorded"]),
    (picture_deleted, ["plot file of decision", "threshold.png is missing"]),
    (groups_edited, ["groups file of decision", "groups.json is not what was recorded"]),
    (clean_row_added, ["clean file", "that does not belong"]),
    (clean_row_removed, ["clean file", "lacks 1 line of the source"]),
    (clean_row_edited, ["clean file", "altered: row 10 (line ", "of the clean set of batch beta"]),
    (clean_rows_reordered, ["clean file", "in another order"]),
    (clean_file_deleted, ["clean file", "is missing"]),
    (clean_file_older, ["it is an older clean file, of decision", "it is an older attestation file, of decision"]),
    (quarantine_edited, ["quarantine file"]),
    (clean_files_swapped, ["clean file of decision", "(batch alpha", "(batch beta"]),
    (verdicts_swapped, ["verdicts of decision", "(batch alpha", "(batch beta"]),
    (scan_edited, ["ledger scans", "its model is not what the ledger has"]),
    (override_deleted, ["ledger overrides", "deleted"]),
    (override_deleted_with_its_line, ["ledger journal", "1 line from here on missing"]),
    (override_inserted, ["ledger overrides 9999", "inserted"]),
    (override_backdated, ["ledger overrides", "altered"]),
    (override_renamed, ["ledger overrides", "altered"]),
    (records_reordered, ["ledger outputs", "altered"]),
    (gate_edited, ["ledger gate_results", "its checks say otherwise"]),
    (gate_edited_and_chain, ["its checks say otherwise"]),
    (acceptance_forged, ["gate acceptance", "'mallory'"]),
    (published_past_the_gate, ["clean file of decision", "neither passed nor was accepted"]),
    (acceptance_renamed, ["ledger gate_acceptances"]),
    (attestation_edited, ["attestation file of decision"]),
    (handed_out_attestation_edited, ["attestation file of decision", "attestation.json"]),
    (attestation_chain_broken, ["its chain is broken"]),
    (attestations_deleted, ["attestation file of decision", "attestation.json is missing"]),
    (attestations_deleted_and_forgotten, ["was published without an attestation"]),
    (log_of_heads_deleted, ["ledger.heads: is missing"]),
    (attestation_unknown, ["0123456789abcdef.json", "the ledger does not know it"]),
    (signed_by_a_wrong_key, ["attestation batches/beta", "no valid signature"]),
    (signatures_removed, ["attestation batches/beta", "is not signed"]),
    (index_edited, ["sample index of batch alpha"]),
    (history_rewritten, ["ledger journal", "once had"]),
    (end_cut_off, ["ledger journal", "ends before record"]),
    (ledger_bytes, ["ledger.duckdb"]),
    (ledger_replaced, ["ledger.duckdb", "can't be"]),
]


@pytest.mark.parametrize(("tamper", "named"), KINDS, ids=[tamper.__name__ for tamper, _ in KINDS])
def test_tampering_is_found_and_named(
    tamper: Callable[[Path], None], named: list[str], made: Made, copied: Path
) -> None:
    tamper(copied)
    said = "\n".join(f"{finding.subject}: {finding.message}" for finding in check(copied, made).problems)
    for words in named:
        assert words in said


def test_a_rebuilt_ledger_is_found_without_the_log_of_heads(made: Made, copied: Path) -> None:
    """The attestations alone pin the chain."""
    history_rewritten(copied)
    (copied / "ledger.heads").unlink()
    assert any("as attestation" in finding.message for finding in check(copied, made).problems)


def cut_off(home: Path, after: int) -> None:
    """As if the newest records had never been, in the chain and in the store's own list of heads."""
    with duckdb.connect(home / "ledger.duckdb") as connection:
        for table in ("journal", *TABLES.values()):
            connection.execute(f"DELETE FROM {table} WHERE seq > {after}")
    log = home / "ledger.heads"
    kept = [line for line in log.read_text().splitlines() if int(line.partition(":")[0]) <= after]
    log.write_text("".join(f"{line}\n" for line in kept))


def noted(home: Path) -> str:
    """As `gradsentry audit head` prints it."""
    with open_ledger(home / "ledger.duckdb", read_only=True) as ledger:
        lines = dict(ledger.connection.execute("SELECT seq, sha256 FROM journal").fetchall())
        return heads.line(ledger.head(), heads.store_id(lines))


def messages(found: Verified) -> str:
    return "\n".join(f"{finding.subject}: {finding.message}" for finding in found.problems)


def test_an_older_store_shows_only_against_a_head_kept_elsewhere(made: Made, copied: Path) -> None:
    """The store as it was, put back whole: it agrees with itself, and not with the line that was kept."""
    older, before = copied, noted(copied)
    newer = shutil.copytree(copied, copied.with_name("newer"))
    with open_ledger(newer / "ledger.duckdb") as ledger:
        ledger.record_overrides([Override(sample_id="0" * 64, action="flag", made_by="ana", reason="seen")])
    after = noted(newer)
    assert check(newer, made, before, after).problems == ()
    assert len(check(newer, made, before, after).continues) == 2
    assert check(older, made, before).problems == ()
    last = made_head(older)
    assert messages(check(older, made, after)) == (
        f"ledger journal: ends before record {last + 1} of {after.rpartition('time=')[2]}, at record {last}: record "
        f"{last + 1} is missing. They were cut off, or an older copy of the store was put back"
    )


def made_head(home: Path) -> int:
    with open_ledger(home / "ledger.duckdb", read_only=True) as ledger:
        return ledger.head().seq


def test_a_head_noted_down_elsewhere_is_asked_for(made: Made, copied: Path, tmp_path: Path) -> None:
    """In every form that it is kept in: the line, a log with the line in it, an attestation that was handed out."""
    line, last = noted(copied), made_head(copied)
    (tmp_path / "log").write_text(f"Jan 1 host audit: {line}\n\n{(copied / 'ledger.heads').read_text()}")
    handed_out = shutil.copy(only(copied, "batches/beta-*/clean/*/attestation.json"), tmp_path / "handed_out.json")
    forms = (line, str(tmp_path / "log"), str(handed_out), f"{last}:{line.partition('sha256=')[2][:64]}")
    for form in forms:
        assert check(copied, made, form).problems == ()
    cut_off(copied, last - 20)
    for form in forms:
        assert "ends before record" in messages(check(copied, made, form)), form
    assert "missing" in messages(check(copied, made, line))


def test_a_head_of_a_chain_that_was_made_anew(made: Made, copied: Path) -> None:
    with open_ledger(copied / "ledger.duckdb", read_only=True) as ledger:
        early = f"5:{ledger.connection.execute('SELECT sha256 FROM journal WHERE seq = 5').fetchone()[0]}"
    late = noted(copied)
    sql(copied, "UPDATE overrides SET made_by = 'nobody'")
    rebuild_journal(copied)
    (copied / "ledger.heads").write_text("")
    said = messages(check(copied, made, early, late))
    assert "does not contain the head of record" in said and "from some record after 5 on" in said


def test_a_head_of_another_store_is_named_as_such(made: Made, copied: Path, tmp_path: Path) -> None:
    with open_ledger(tmp_path / "other" / "ledger.duckdb") as ledger:
        ledger.record_run(current_run("test"))
    assert "is another store's" in messages(check(copied, made, noted(tmp_path / "other")))


@pytest.mark.parametrize("told", ["", "x", "12", "12:abc", "no/such/file", "a\x00b", "x" * 5000, "."])
def test_what_is_no_head_is_refused(told: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        read_heads([told])


@pytest.mark.parametrize("content", [b"", b"\n", b"no head\n", b"{}", b'{"predicate": 1}', b"\xff\xfe"])
def test_a_file_that_holds_no_head_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(BadInput, match="log"):
        read_heads([str(tmp_path / "log")])


def test_with_a_key_configured_every_published_set_is_signed(
    made: Made, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures_removed(copied)
    monkeypatch.setenv("GRADSENTRY_SIGNING_KEY", str(made.key))  # the private one, as the publishing process has it
    assert verify(made.store.ledger).problems == ()
    assert "is not signed by" in messages(verify(copied / "ledger.duckdb"))
