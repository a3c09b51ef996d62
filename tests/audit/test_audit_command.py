"""`gradsentry audit`, `gate`, `release`, `flag`, `unset`, `attest`, as typed."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.pipeline.decide import DecisionConfig, decide
from gradsentry_lib.store import Override, open_ledger
from gradsentry_lib.store.paths import Store
from tests.store import builder
from tests.store.made import Made
from tests.typed import Done, gradsentry


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs the command in a store, through its entry point."""

    def run(home: Path, *arguments: object) -> Done:
        monkeypatch.setenv("GRADSENTRY_HOME", str(home))
        monkeypatch.setenv("COLUMNS", "200")
        return gradsentry(*arguments)

    return run


def clean_of(home: Path, batch: str = "beta") -> Path:
    return next(home.glob(f"batches/{batch}-*/clean/*/clean.jsonl"))


def test_a_clean_file_answers_with_everything(made: Made, typed: Callable[..., Done], tmp_path: Path) -> None:
    elsewhere = shutil.copy(clean_of(made.store.home), tmp_path / "handed_on.jsonl")
    shown = typed(made.store.home, "audit", elsewhere)
    assert shown.code == 0
    for words in ("unaltered", made.beta.batch_key, "f" * 12, "looked at every row", "accepted", "rows kept out of it"):
        assert words in shown.out
    told = typed(made.store.home, "audit", elsewhere, "--json").json
    assert (told["role"], told["state"]) == ("clean", "unaltered")
    assert len(told["removed"]) == 12 and told["removed"][0]["turns"][0]["text"].startswith("question")
    (decision,) = told["batch"]["decisions"]
    assert decision["acceptances"][0]["made_by"] == "ben"
    assert decision["runs"][0]["packages"]["duckdb"]
    assert {fact["output"]["kind"]: fact["state"] for fact in decision["outputs"]} == dict.fromkeys(
        ("threshold", "plot", "groups", "listed", "clean", "quarantine", "report", "attestation", "signature"),
        "unaltered",
    )


@pytest.mark.parametrize("beside", [True, False], ids=["with its statement", "alone"])
def test_a_flipped_byte_in_a_copy_of_a_clean_set_is_named_by_its_row(
    beside: bool, made: Made, typed: Callable[..., Done], tmp_path: Path
) -> None:
    """Carried away, renamed, and one byte of one row is another: the row is named as the verdicts number it."""
    clean = clean_of(made.store.home)
    data = clean.read_bytes()
    at = data.index(b"answer 40")  # row 10 of beta, whose rows begin with 30
    flipped = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
    copy = tmp_path / ("clean.jsonl" if beside else "handed_on.jsonl")
    copy.write_bytes(flipped)
    if beside:
        shutil.copy(clean.with_name("attestation.json"), tmp_path)
    line = data[:at].count(b"\n") + 1
    shown = typed(made.store.home, "audit", copy)
    assert shown.code == 4
    assert f"altered: row 10 (line {line}) of the clean set of batch {made.beta.batch_key}" in shown.out
    told = typed(made.store.home, "audit", copy, "--json").json
    assert (told["state"], told["role"]) == ("altered", "clean") and "row 10" in told["details"]

    copy.write_bytes(b"".join(data.splitlines(keepends=True)[1:]))
    assert "lacks 1 line" in typed(made.store.home, "audit", copy).out


def test_an_older_statement_beside_a_newer_set_is_named_as_older(
    made: Made, typed: Callable[..., Done], tmp_path: Path
) -> None:
    folder = made.store.batch(made.alpha.batch_key) / "clean"
    old, new = (folder / decided.decision_key for decided in (made.first, made.second))
    shutil.copy(new / "clean.jsonl", tmp_path)
    shutil.copy(old / "attestation.json", tmp_path)
    for name in ("clean.jsonl", "attestation.json"):
        shown = typed(made.store.home, "audit", tmp_path / name)
        assert shown.code == 4
        words = f"older statement, of decision {made.first.number}; the set beside it, clean.jsonl, is of decision "
        assert words + str(made.second.number) in " ".join(shown.out.split())
    shutil.copy(new / "attestation.json", tmp_path)
    assert typed(made.store.home, "audit", tmp_path / "clean.jsonl").code == 0
    both_old = typed(made.store.home, "audit", old / "clean.jsonl")
    assert both_old.code == 0 and f"older: decision {made.second.number} on this batch was published" in both_old.out


def test_the_head_is_one_line_that_a_verification_takes(copied: Path, typed: Callable[..., Done]) -> None:
    line = typed(copied, "audit", "head").out
    assert line.count("\n") == 1
    assert re.fullmatch(
        r"gradsentry-head 1 version=\S+ store=[0-9a-f]{32} seq=\d+ sha256=[0-9a-f]{64} time=\S+Z", line.strip()
    )
    held = typed(copied, "audit", "verify", "--head", line.strip(), "--head", line.strip())
    assert held.code == 0 and "continues from the head of record" in held.out
    assert "only against a head kept elsewhere" in typed(copied, "audit", "verify").out
    refused = typed(copied, "audit", "verify", "--head", "12")
    assert refused.code == 2 and len(refused.err.strip().splitlines()) == 1


def test_an_altered_clean_file_and_an_altered_source(copied: Path, typed: Callable[..., Done], tmp_path: Path) -> None:
    clean = clean_of(copied)
    clean.write_bytes(clean.read_bytes() + b"{}\n")
    shown = typed(copied, "audit", clean)
    assert shown.code == 4 and "altered" in shown.out and "recorded was" in shown.out
    source = copied / "landing" / "beta.jsonl"
    source.write_bytes(source.read_bytes() + b"{}\n")
    assert typed(copied, "audit", source, "--json").json["state"] == "altered"
    assert typed(copied, "audit", "beta").code == 4
    (tmp_path / "foreign.txt").write_text("x")
    foreign = typed(copied, "audit", tmp_path / "foreign.txt")
    assert foreign.code == 4 and "unknown" in foreign.out


def test_a_batch_by_the_beginning_of_its_key(made: Made, typed: Callable[..., Done]) -> None:
    told = typed(made.store.home, "audit", "alpha", "--json").json
    assert [item["decision"]["clean"] for item in told["decisions"]] == [48, 49]
    assert [word["action"] for word in told["overrides"]] == ["release"]
    assert told["source"] == "unaltered"
    assert "released" not in typed(made.store.home, "audit", made.beta.batch_key).out


def test_a_sample_by_the_beginning_of_its_id(made: Made, typed: Callable[..., Done]) -> None:
    told = typed(made.store.home, "audit", made.released[:10], "--json").json
    assert told["sample_id"] == made.released
    in_alpha = [line for line in told["history"] if line["batch_key"] == made.alpha.batch_key]
    assert [line["verdict"] for line in in_alpha] == ["flagged", "clean"]
    assert in_alpha[1]["reasons"][0] == "released by ana: a false alarm"
    assert told["overrides"][0]["made_by"] == "ana"
    assert "flagged" in typed(made.store.home, "audit", made.released).out


def test_a_sample_whose_verdict_file_is_gone_is_told_with_the_rest(
    copied: Path, made: Made, typed: Callable[..., Done]
) -> None:
    (copied / "batches" / made.alpha.batch_key / "decisions" / made.first.decision_key / "verdicts.parquet").unlink()
    shown = typed(copied, "audit", made.released)
    assert shown.code == 0 and "missing" in shown.out and "released by ana" in shown.out


def test_an_index_that_is_gone_is_made_again(copied: Path, made: Made, typed: Callable[..., Done]) -> None:
    for path in copied.glob("batches/*/sample_ids.u64"):
        path.unlink()
    assert typed(copied, "audit", made.released[:10], "--json").json["sample_id"] == made.released


def test_a_text_and_a_whole_row(made: Made, typed: Callable[..., Done]) -> None:
    found = typed(made.store.home, "audit", "question 45", "--json").json["rows"]
    assert [(row["batch_key"], row["row"]) for row in found] == [(made.alpha.batch_key, 45), (made.beta.batch_key, 15)]
    row = json.dumps({"prompt": "question 45", "response": "answer 45"})
    told = typed(made.store.home, "audit", row, "--json").json
    assert told["sample_id"] == found[0]["sample_id"] and len(told["history"]) == 3
    assert "no sample in the store" in typed(made.store.home, "audit", "Question 45").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["abcdef012345"], "no batch in the ledger has a sample abcdef012345"),
        (["lost.jsonl"], "there is no file lost.jsonl"),
        (["--as", "batch", "gamma"], "has no batch 'gamma'; it has alpha-"),
        (["diff", "1", "2"], "has no decision 1"),
    ],
)
def test_what_is_not_there_is_one_clear_line(
    arguments: list[str], said: str, made: Made, typed: Callable[..., Done]
) -> None:
    shown = typed(made.store.home, "audit", *arguments)
    assert shown.code == 2 and said in shown.err and "Traceback" not in shown.err


def test_no_ledger_at_all(tmp_path: Path, typed: Callable[..., Done]) -> None:
    shown = typed(tmp_path / "nothing", "audit", "verify")
    assert shown.code == 2 and "there is no ledger" in shown.err
    assert not (tmp_path / "nothing").exists()


def test_hostile_text_is_shown_as_text(copied: Path, typed: Callable[..., Done]) -> None:
    evil = "[bold red]x[/] \x1b[2J\u202eabc"
    store = Store(copied)
    path = copied / "landing" / "evil.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"{evil} {i}", "response": evil}) for i in range(30)) + "\n")
    from gradsentry_lib.pipeline.ingest import ingest
    from gradsentry_lib.samples.read import open_source

    batch = ingest(open_source(str(path)), store, builder.RUN)
    decided, _ = builder.decide_and_publish(store, batch, builder.score(store, batch, seed=3))
    flagged = builder.sample_ids(store, batch, "flagged", decided)[0]
    for subject in (flagged, clean_of(copied, "evil"), "x[/]"):
        shown = typed(copied, "audit", subject).out
        assert "[bold red]x[/] \\x1b[2J\\u202eabc" in shown
        assert "\x1b" not in shown and "\u202e" not in shown


def test_the_difference_of_two_decisions(made: Made, copied: Path, typed: Callable[..., Done]) -> None:
    first, second = made.first.number, made.second.number
    told = typed(made.store.home, "audit", "diff", first, second, "--json").json
    (row,) = told["rows"]
    assert (row["sample_id"], row["verdict_before"], row["verdict_after"]) == (made.released, "flagged", "clean")
    assert row["cause"] == "override: none -> release"
    assert [change["name"] for change in told["changes"]] == [f"overrides.{made.released}"]

    store = Store(copied)
    fixed = decide(made.alpha, made.scored, store, builder.RUN, DecisionConfig("paper", ThresholdConfig(fixed=0.35)))
    told = typed(copied, "audit", "diff", second, fixed.number, "--json").json
    assert {row["cause"] for row in told["rows"]} == {"threshold: 0.6377 -> 0.3500"}
    other = builder.score(store, made.alpha, seed=9, model="other")
    decide(made.alpha, other, store, builder.RUN, DecisionConfig("paper"))
    told = typed(copied, "audit", "diff", second, "alpha", "--json").json
    assert {row["cause"].split(":")[0] for row in told["rows"]} == {"score"}
    assert {"model", "scores"} <= {change["name"] for change in told["changes"]}
    shown = typed(copied, "audit", "diff", first, made.strict.number)
    assert shown.code == 2 and "only decisions on one batch" in shown.err


def test_verify_speaks_and_ends_as_it_should(made: Made, copied: Path, typed: Callable[..., Done]) -> None:
    fine = typed(made.store.home, "audit", "verify", "--key", made.public)
    assert fine.code == 0 and "everything holds" in fine.out and "3 attestations" in fine.out
    clean_of(copied).unlink()
    broken = typed(copied, "audit", "verify")
    assert broken.code == 4 and "is missing" in broken.out and "1 thing does not hold" in broken.out
    told = typed(copied, "audit", "verify", "--json")
    assert told.code == 4 and told.json["holds"] is False and len(told.json["findings"]) == 1


def actions(home: Path) -> list[tuple[str, str, str | None]]:
    with open_ledger(home / "ledger.duckdb", read_only=True) as ledger:
        return [(word.sample_id, word.action, word.batch_key) for word in ledger.find(Override)][1:]


def test_release_flag_unset(made: Made, copied: Path, typed: Callable[..., Done]) -> None:
    ids = builder.sample_ids(made.store, made.beta, "flagged", made.strict)
    by = ("--by", "eve", "--reason", "looked")
    assert "1 sample released in all batches" in typed(copied, "release", ids[0][:12], *by).out
    assert typed(copied, "flag", ids[1], "--batch", "beta", *by).code == 0
    assert typed(copied, "unset", ids[1], "--batch", "beta", *by).code == 0
    key = made.beta.batch_key
    assert actions(copied) == [(ids[0], "release", None), (ids[1], "flag", key), (ids[1], "unset", key)]
    shown = typed(copied, "unset", ids[0], "--batch", "beta", *by)
    assert shown.code == 2 and "nothing is set" in shown.err and "all batches" in shown.err
    shown = typed(copied, "release", ids[0], "--by", "eve", "--reason", " ")
    assert shown.code == 2 and "give a name and a reason" in shown.err
    shown = typed(copied, "flag", "9" * 64, *by)
    assert shown.code == 0 and "not seen in any batch yet" in shown.out
    for wrong in ("12345", "xyzxyzxyz", "../../etc"):
        assert typed(copied, "release", wrong, *by).code == 2
    assert len(actions(copied)) == 4


def test_the_next_decision_honours_a_release_and_says_who_made_it(
    made: Made, copied: Path, typed: Callable[..., Done]
) -> None:
    store = Store(copied)
    in_beta = pq.read_table(store.batch(made.beta.batch_key) / "samples.parquet")["sample_id"].to_pylist()
    again = next(i for i in builder.sample_ids(store, made.alpha, "flagged", made.second) if i in in_beta)
    typed(copied, "release", again, "--by", "eve", "--reason", "seen by [hand]", "--batch", "alpha")
    decided = decide(made.alpha, made.scored, store, builder.RUN, DecisionConfig("paper"))
    path = store.batch(made.alpha.batch_key) / "decisions" / decided.decision_key / "verdicts.parquet"
    (row,) = pq.read_table(path, filters=[("sample_id", "=", again)]).to_pylist()
    assert row["verdict"] == "clean" and row["reasons"][0] == "released by eve: seen by [hand]"
    assert "released for other batches" not in typed(copied, "audit", "alpha").out
    assert "released for other batches" in typed(copied, "audit", "beta").out


@pytest.mark.parametrize("form", ["ids", "csv", "quarantine"])
def test_in_bulk_from_a_file(form: str, made: Made, copied: Path, typed: Callable[..., Done], tmp_path: Path) -> None:
    ids = builder.sample_ids(made.store, made.beta, "flagged", made.strict)
    quarantine = clean_of(copied).with_name("quarantine.jsonl")
    path = quarantine if form == "quarantine" else tmp_path / "list"
    if form == "ids":
        path.write_text("\n".join(i[:12] for i in ids) + "\n\n")
    elif form == "csv":
        path.write_text("\ufeffnote,sample_id\n" + "".join(f'"a, b",{i}\n' for i in ids))
    shown = typed(copied, "release", "--from", path, "--by", "eve", "--reason", "all fine")
    expected = set(ids) | (
        set(builder.sample_ids(made.store, made.beta, "unscored", made.strict)) if form == "quarantine" else set()
    )
    assert shown.code == 0, shown.err
    assert {sample_id for sample_id, _, _ in actions(copied)} == expected


def test_a_bulk_file_with_a_bad_line_records_nothing(copied: Path, typed: Callable[..., Done], tmp_path: Path) -> None:
    for text in ("a" * 64 + "\nnonsense\n", '{"sample_id": 1}\n{"x": 2}\n', "", "row,sample_id\n1\n"):
        (tmp_path / "list").write_text(text)
        assert typed(copied, "release", "--from", tmp_path / "list", "--by", "e", "--reason", "r").code == 2
    assert actions(copied) == []


def test_gate_show_and_accept(made: Made, copied: Path, typed: Callable[..., Done]) -> None:
    shown = typed(copied, "gate", "show", "beta")
    assert "accepted" in shown.out and "ben" in shown.out and "flagged_fraction" in shown.out
    assert typed(copied, "gate", "show", "beta", "--json").json["open"] is True
    assert typed(copied, "gate", "accept", "alpha", "--by", "eve", "--reason", "r").code == 2  # it passed
    earlier = decide(made.alpha, made.scored, Store(copied), builder.RUN, builder.STRICT)
    decide(
        made.alpha,
        builder.score(Store(copied), made.alpha, seed=7),
        Store(copied),
        builder.RUN,
        DecisionConfig("paper"),
    )
    chosen = ("--decision", earlier.number)  # though a later one passed
    assert typed(copied, "gate", "accept", "alpha", "--by", "eve", "--reason", "r", *chosen).code == 0
    store = Store(copied)
    gamma = builder.read_in(store, "gamma", start=900)
    decide(gamma, builder.score(store, gamma, seed=5), store, builder.RUN, builder.STRICT)
    assert "failed" in typed(copied, "gate", "show", "gamma").out
    assert "accepted by eve" in typed(copied, "gate", "accept", "gamma", "--by", "eve", "--reason", "small batch").out
    assert "accepted" in typed(copied, "gate", "show", "gamma").out


def test_keys_and_signatures(copied: Path, typed: Callable[..., Done], tmp_path: Path) -> None:
    assert "public key" in typed(copied, "attest", "keygen", tmp_path / "new").out
    attestation = clean_of(copied).with_name("attestation.json")
    assert typed(copied, "attest", "sign", attestation, "--key", tmp_path / "new").code == 0
    told = typed(copied, "audit", "verify", "--key", tmp_path / "new.pub", "--json").json
    assert {finding["subject"].split("(")[1] for finding in told["findings"]} == {f"batch {_alpha(copied)})"}


def _alpha(home: Path) -> str:
    return next(home.glob("batches/alpha-*")).name


@pytest.mark.slow
def test_the_installed_command_runs(made: Made) -> None:
    environment = os.environ | {"GRADSENTRY_HOME": str(made.store.home)}
    command = [sys.executable, "-c", "from gradsentry_lib.cli import main; main()", "audit", "verify", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["holds"] is True, done.stderr
