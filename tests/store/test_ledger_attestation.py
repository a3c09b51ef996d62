"""Attestations against the published specifications, signatures against another implementation."""

import base64
import copy
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.errors import BadInput
from gradsentry_lib.files import sha256_file, sha256_json
from gradsentry_lib.store import Output, attestation, attestation_repair, open_ledger, signing
from gradsentry_lib.store.attestation import attestations, broken_rules, dependency, schema, sign_attestation
from gradsentry_lib.store.paths import Store
from tests.store import builder
from tests.store.made import Made


@pytest.fixture
def statement(made: Made) -> dict[str, Any]:
    """Of alpha, after the release."""
    with open_ledger(made.store.ledger, read_only=True) as ledger:
        return json.loads(attestations(ledger, made.alpha.batch_key)[-1].file.read_bytes())


def test_it_says_what_the_clean_file_is_and_where_it_comes_from(made: Made, statement: dict[str, Any]) -> None:
    clean = made.store.batch(made.alpha.batch_key) / "clean" / made.second.decision_key / "clean.jsonl"
    assert statement["subject"] == [{"name": "clean.jsonl", "digest": {"sha256": sha256_file(clean)}}]
    assert dependency(statement, "source")["digest"] == {"sha256": made.alpha.source_sha256}  # type: ignore[index]
    assert dependency(statement, "model")["digest"] == {"gradsentryFiles": "f" * 64}  # type: ignore[index]
    build = statement["predicate"]["buildDefinition"]
    assert dependency(statement, "settings")["digest"]["sha256"] == sha256_json(build["externalParameters"])  # type: ignore[index]
    assert build["externalParameters"]["policy"] == "paper"
    assert build["internalParameters"]["rows"] == {
        "read": 61, "rejected": 1, "clean": 49, "flagged": 10, "unscored": 1,
    }  # fmt: skip
    (word,) = build["internalParameters"]["overrides"]
    assert (word["sample_id"], word["action"], word["made_by"]) == (made.released, "release", "ana")
    assert statement["predicate"]["runDetails"]["builder"]["version"]["gradsentry"]


def test_an_accepted_gate_stands_in_it_by_name(made: Made) -> None:
    with open_ledger(made.store.ledger, read_only=True) as ledger:
        (only,) = attestations(ledger, made.beta.batch_key)
    gate = json.loads(only.file.read_bytes())["predicate"]["buildDefinition"]["internalParameters"]["gate"]
    assert (gate["status"], gate["acceptedBy"], gate["reason"]) == ("accepted", "ben", "looked at every row")


def test_each_names_the_one_before_it(made: Made, statement: dict[str, Any]) -> None:
    with open_ledger(made.store.ledger, read_only=True) as ledger:
        first, _ = attestations(ledger, made.alpha.batch_key)
    assert dependency(statement, "previous")["digest"] == {"sha256": sha256_file(first.file)}  # type: ignore[index]
    assert dependency(json.loads(first.file.read_bytes()), "previous") is None


def test_the_same_file_again_is_attested_once(made: Made, copied: Path) -> None:
    store = Store(copied)
    with open_ledger(store.ledger, read_only=True) as ledger:
        before = ledger.find(Output, kind="attestation")
    batch = replace(made.alpha, source=str(copied / "landing" / "alpha.jsonl"))
    builder.publish(batch, made.second, store, builder.RUN)
    with open_ledger(store.ledger, read_only=True) as ledger:
        assert ledger.find(Output, kind="attestation") == before


def test_the_in_toto_library_accepts_it(statement: dict[str, Any]) -> None:
    """Protocol buffers of the specification itself, an independent way."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    pb = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    library = pytest.importorskip("in_toto_attestation.v1.statement")
    library.Statement.copy_from_pb(json_format.ParseDict(statement, pb.Statement())).validate()


def broken(statement: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The statement with one rule of the specifications broken."""

    def change(path: str, value: Any = None) -> tuple[str, dict[str, Any]]:
        changed = copy.deepcopy(statement)
        *above, last = path.split(".")
        place: Any = changed
        for step in above:
            place = place[int(step) if step.isdigit() else step]
        key = int(last) if last.isdigit() else last
        if value is None:
            del place[key]
        else:
            place[key] = value
        return f"{path}={value}", changed

    yield change("_type")
    yield change("_type", "https://in-toto.io/Statement/v0.1")
    yield change("subject", [])
    yield change("subject.0.digest")
    yield change("subject.0.digest", {})
    yield change("subject.0.digest.sha256", "no hex")
    yield change("predicateType", "https://example.com")
    for field in ("buildDefinition", "runDetails"):
        yield change(f"predicate.{field}")
    yield change("predicate.buildDefinition.buildType")
    yield change("predicate.buildDefinition.buildType", "no URI")
    yield change("predicate.buildDefinition.externalParameters")
    yield change("predicate.buildDefinition.resolvedDependencies.0.digest")
    yield change("predicate.runDetails.builder")
    yield change("predicate.runDetails.builder.id")
    yield change("predicate.runDetails.metadata.startedOn", "yesterday")


def test_the_schema_takes_it_and_nothing_that_breaks_the_specification(statement: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert broken_rules(statement) == ""
    assert [name for name, changed in broken(statement) if not broken_rules(changed)] == []
    assert broken_rules({**statement, "unknown": 1}) == ""  # consumers ignore what they do not know


def test_what_is_signed_is_the_specifications_encoding() -> None:
    """The example of the DSSE specification."""
    assert signing._encode("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_openssl_accepts_the_signature(made: Made, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl on this machine")
    envelope = json.loads(next(made.store.home.glob("batches/alpha-*/clean/*/attestation.dsse.json")).read_bytes())
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    (tmp_path / "signed").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", made.public, "-rawin"]
    files = ["-in", tmp_path / "signed", "-sigfile", tmp_path / "signature"]
    assert b"Verified Successfully" in subprocess.run([*command, *files], capture_output=True).stdout


def test_an_envelope_opens_with_its_key_alone(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        signing.make_keys(tmp_path / name, tmp_path / f"{name}.pub")
    (tmp_path / "statement.json").write_bytes(b'{"a": 1}')
    envelope = signing.sign_file(tmp_path / "statement.json", tmp_path / "mine").file
    assert signing.open_envelope(envelope, tmp_path / "mine.pub") == b'{"a": 1}'
    with pytest.raises(BadInput, match="carries no valid signature"):
        signing.open_envelope(envelope, tmp_path / "other.pub")
    said = json.loads(envelope.read_bytes())
    for change in (
        {"payload": base64.b64encode(b'{"a": 2}').decode()},
        {"payloadType": "text/plain"},
        {"signatures": []},
    ):
        envelope.write_text(json.dumps(said | change))
        with pytest.raises(BadInput, match="carries no valid signature"):
            signing.open_envelope(envelope, tmp_path / "mine.pub")
    for text in ("", "[]", '{"payload": "%", "signatures": [], "payloadType": ""}', '{"payload": 1}'):
        envelope.write_text(text)
        with pytest.raises(BadInput, match="is no DSSE envelope"):
            signing.open_envelope(envelope, tmp_path / "mine.pub")


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = tmp_path / "key", tmp_path / "key.pub"
    monkeypatch.setenv("GRADSENTRY_KEY_PASSWORD", "secret")
    signing.make_keys(private, public)
    assert private.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in private.read_bytes()
    with pytest.raises(BadInput, match="is not overwritten"):
        signing.make_keys(private, public)
    (tmp_path / "file").write_text("x")
    signing.sign_file(tmp_path / "file", private)
    monkeypatch.delenv("GRADSENTRY_KEY_PASSWORD")
    with pytest.raises(BadInput, match="GRADSENTRY_KEY_PASSWORD"):
        signing.sign_file(tmp_path / "file", private)
    with pytest.raises(BadInput, match="no usable private key"):
        signing.sign_file(tmp_path / "file", public)
    with pytest.raises(BadInput, match="can't be read"):
        signing.sign_file(tmp_path / "file", tmp_path / "nowhere")


def test_only_attestations_of_the_ledger_are_signed(copied: Path, made: Made) -> None:
    path = next(copied.glob("batches/beta-*/clean/*/attestation.json"))
    with open_ledger(copied / "ledger.duckdb") as ledger:
        assert len(sign_attestation(ledger, path, made.key)) == 2  # beside the file and beside the store's copy
    path.write_bytes(path.read_bytes() + b" ")
    with (
        pytest.raises(BadInput, match="is no attestation in this ledger"),
        open_ledger(copied / "ledger.duckdb") as ledger,
    ):
        sign_attestation(ledger, path, made.key)


def test_a_key_in_the_environment_signs_by_itself(copied: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADSENTRY_SIGNING_KEY", str(made.key))
    store = Store(copied)
    batch = builder.read_in(store, "gamma", start=500)
    _, published = builder.decide_and_publish(store, batch, builder.score(store, batch))
    signed = signing.open_envelope(published.folder / "attestation.dsse.json", made.public)
    assert signed == (published.folder / "attestation.json").read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from gradsentry_lib.store import attestation
from gradsentry_lib.pipeline.decided import load_decided
from gradsentry_lib.pipeline.ingest import load
from gradsentry_lib.store.paths import Store
from tests.store import builder

store, batch, decision = Store(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
attestation._record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
builder.publish(load(store, batch), load_decided(store, batch, decision), store, builder.RUN)
"""


def said(store: Store) -> list[str]:
    """What a verification finds wrong."""
    return [f"{found.subject}: {found.message}" for found in verify(store.ledger).problems]


@pytest.mark.slow
def test_a_kill_between_file_and_record_heals(tmp_path: Path) -> None:
    """The process is really killed; the same decision published again records what it left behind."""
    store = Store(tmp_path / "store")
    batch = builder.read_in(store, "alpha")
    decided = builder.decide(batch, builder.score(store, batch), store, builder.RUN, builder.DecisionConfig("paper"))
    told = [store.home, batch.batch_key, decided.decision_key]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, told)])
    assert killed.returncode == -signal.SIGKILL
    (left,) = store.batch(batch.batch_key).glob("attestations/*.json")
    unknown, lacking = said(store)  # both ends of the same break
    assert "the ledger does not know it" in unknown and "was published without an attestation" in lacking

    published = builder.publish(batch, decided, store, builder.RUN)
    assert said(store) == []
    assert list(left.parent.iterdir()) == [left]
    assert published.attestation.read_bytes() == left.read_bytes()


@pytest.mark.slow
def test_one_left_behind_is_recorded_though_another_decision_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    batch = builder.read_in(store, "delta", start=700)
    scored = builder.score(store, batch)
    with monkeypatch.context() as patch:
        patch.setattr(attestation, "_record", _fail)
        with pytest.raises(InterruptedError):
            builder.decide_and_publish(store, batch, scored)
    builder.publish(batch, builder.decide(batch, scored, store, builder.RUN, OTHER), store, builder.RUN)
    assert said(store) == []
    with open_ledger(store.ledger, read_only=True) as ledger:
        first, second = attestations(ledger, batch.batch_key)
    previous = dependency(json.loads(second.file.read_bytes()), "previous")
    assert previous is not None and previous["digest"] == {"sha256": sha256_file(first.file)}


OTHER = builder.DecisionConfig("paper", limits=builder.GateLimits(max_flagged=0.4))


def _fail(*_: object) -> None:
    raise InterruptedError


def test_a_record_without_its_file_gets_it_back_from_the_copy(made: Made, copied: Path) -> None:
    store = Store(copied)
    with open_ledger(store.ledger, read_only=True) as ledger:
        kept = attestations(ledger, made.alpha.batch_key)[-1]
    kept.file.unlink()
    assert any("is missing" in line for line in said(store))
    batch = replace(made.alpha, source=str(copied / "landing" / "alpha.jsonl"))
    builder.publish(batch, made.second, store, builder.RUN)
    assert sha256_file(kept.file) == kept.sha256
    assert said(store) == []


@pytest.mark.parametrize("forged", ["nothing", "tau", "overrides", "rows", "previous", "decision", "head", "no JSON"])
def test_a_forged_attestation_is_never_recorded(forged: str, made: Made, copied: Path) -> None:
    """Everything as a killed process could have left it, but for one thing; without that it is recorded."""
    store = Store(copied)
    key = made.alpha.batch_key
    with open_ledger(store.ledger) as ledger:
        clean = ledger.find(Output, decision=made.second.number, kind="clean")[-1].file
        made_up = attestation.statement(ledger, made.second.number, clean)
    internal = made_up["predicate"]["buildDefinition"]["internalParameters"]
    match forged:
        case "tau":
            internal["tau"] = 0.1
        case "overrides":
            internal["overrides"] = []
        case "rows":
            internal["rows"]["flagged"] += 1
        case "previous":
            dependency(made_up, "previous")["digest"] = {"sha256": "0" * 64}  # type: ignore[index]
        case "decision":
            internal["decision"] = "1"
        case "head":
            attestation.byproduct(made_up, "ledger")["digest"] = {"sha256": "0" * 64}  # type: ignore[index]
    path = store.batch(key) / "attestations" / f"{sha256_json(made_up)[:16]}.json"
    path.write_text("{" if forged == "no JSON" else json.dumps(made_up))
    with open_ledger(store.ledger) as ledger:
        before = ledger.head()
        attestation_repair.repair(ledger, key)
        assert (ledger.head() == before) == (forged != "nothing")
    assert any("the ledger does not know it" in line for line in said(store)) == (forged != "nothing")
