"""A trainer's own configuration says how its file is read."""

import json
from pathlib import Path

import pytest
import yaml

from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.mapping import read_mapping
from gradsentry_lib.samples.preview import standing
from gradsentry_lib.samples.read import open_as_told


def read(folder: Path, told: object, row: dict, name: str = "dataset_info.json", entry: str = ""):
    source = folder / "rows.jsonl"
    source.write_text(json.dumps(row) + "\n")
    path = folder / name
    path.write_text(json.dumps(told) if name.endswith(".json") else yaml.safe_dump(told))
    options = read_mapping(Path(f"{path}#{entry}") if entry else path, str(source))
    (sample,) = open_as_told(str(source), json.loads(json.dumps(options))).rows()  # as a batch keeps them
    return sample.format, [(turn.role, turn.text, standing(turn)) for turn in sample.turns]


CHAT = [("user", "Hi", "read"), ("assistant", "Yo", "learnt")]


def test_llama_factory_alpaca(tmp_path):
    columns = {"prompt": "q", "query": "extra", "response": "a", "system": "sys", "history": "before"}
    told = {"mine": {"file_name": "rows.jsonl", "columns": columns}, "other": {"file_name": "x.json"}}
    row = {"q": "Hi", "extra": "there", "a": "Yo", "sys": "S", "before": [["p", "r"]], "output": "not this"}
    assert read(tmp_path, told, row) == (
        "chat",
        [
            ("system", "S", "read"),
            ("user", "p", "read"),
            ("assistant", "r", "learnt"),
            ("user", "Hi\nthere", "read"),
            ("assistant", "Yo", "learnt"),
        ],
    )


def test_llama_factory_reads_only_what_is_named(tmp_path):
    told = {"mine": {"file_name": "rows.jsonl", "columns": {"prompt": "instruction", "response": "output"}}}
    row = {"instruction": "Hi", "input": "unseen", "system": "unseen", "output": "Yo"}
    assert read(tmp_path, told, row) == ("chat", CHAT)


def test_llama_factory_sharegpt(tmp_path):
    tags = {"role_tag": "who", "content_tag": "what", "user_tag": "you", "assistant_tag": "me"}
    told = {"mine": {"formatting": "sharegpt", "columns": {"messages": "talk"}, "tags": tags}}
    row = {"talk": [{"who": "you", "what": "Hi"}, {"who": "me", "what": "Yo"}], "messages": "other"}
    assert read(tmp_path, told, row) == ("chat", CHAT)


def test_llama_factory_pairs_and_verdicts(tmp_path):
    columns = {"prompt": "instruction", "query": "input", "chosen": "good", "rejected": "bad"}
    told = {"mine": {"file_name": "rows.jsonl", "ranking": True, "columns": columns}}
    row = {"instruction": "Hi", "input": "", "good": "Yo", "bad": "no"}
    assert read(tmp_path, told, row) == ("chat", [*CHAT, ("rejected", "no", "turned down")])
    told = {"mine": {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "liked"}}}
    row = {"instruction": "Hi", "output": "Yo", "liked": False}
    assert read(tmp_path, told, row)[1][-1] == ("rejected", "Yo", "turned down")


def test_llama_factory_corpus(tmp_path):
    told = {"mine": {"columns": {"prompt": "body"}}}
    assert read(tmp_path, told, {"body": "All of it.", "text": "no"}) == ("text", [("text", "All of it.", "learnt")])


def test_an_entry_by_name(tmp_path):
    told = {"a": {"columns": {"prompt": "x", "response": "y"}}, "b": {"columns": {"prompt": "q", "response": "r"}}}
    assert read(tmp_path, told, {"q": "Hi", "r": "Yo"}, entry="b") == ("chat", CHAT)
    with pytest.raises(BadInput, match=r"no entry for .*; say which: --mapping .*#NAME, of 'a', 'b'"):
        read(tmp_path, told, {"q": "Hi", "r": "Yo"})
    with pytest.raises(BadInput, match="no entry 'c'; it has: 'a', 'b'"):
        read(tmp_path, told, {"q": "Hi", "r": "Yo"}, entry="c")


def axolotl(entry: dict, **more: object) -> dict:
    return {"base_model": "x", "datasets": [{"path": "rows.jsonl", **entry}], **more}


def test_axolotl_fields(tmp_path):
    told = axolotl({"type": {"field_instruction": "q", "field_output": "a", "field_system": "s", "format": "{}"}})
    found = read(tmp_path, told, {"q": "Hi", "a": "Yo", "s": "S", "output": "no"}, "c.yml")
    assert found == (
        "alpaca",
        [("system", "S", "read"), ("instruction", "Hi", "read"), ("input", "", "read"), ("response", "Yo", "learnt")],
    )


def test_axolotl_chat(tmp_path):
    entry = {
        "type": "chat_template",
        "field_messages": "talk",
        "message_property_mappings": {"role": "who", "content": "what"},
        "roles": {"user": ["you"], "assistant": ["me", "it"]},
        "message_field_training": "teach",
    }
    turns = [{"who": "you", "what": "Hi"}, {"who": "it", "what": "no", "teach": False}, {"who": "me", "what": "Yo"}]
    assert read(tmp_path, axolotl(entry), {"talk": turns}, "c.yaml")[1] == [
        CHAT[0],
        ("assistant", "no", "read"),
        CHAT[1],
    ]
    every = axolotl({**entry, "roles_to_train": ["user", "assistant"]})
    assert [does for *_, does in read(tmp_path, every, {"talk": turns}, "c.yaml")[1]] == ["learnt", "read", "learnt"]


@pytest.mark.parametrize(
    ("entry", "row", "expected"),
    [
        ({"type": "completion", "field": "body"}, {"body": "All."}, [("text", "All.", "learnt")]),
        ({"type": "alpaca"}, {"instruction": "Hi", "output": "Yo"}, None),
        (
            {"type": "sharegpt"},
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
            CHAT,
        ),
        (
            {"type": "input_output"},
            {"segments": [{"label": False, "text": "Hi"}, {"label": True, "text": "Yo"}]},
            [("context", "Hi", "read"), ("text", "Yo", "learnt")],
        ),
    ],
)
def test_axolotl_types(tmp_path, entry, row, expected):
    found = read(tmp_path, axolotl(entry), row, "c.yml")[1]
    assert found == expected if expected else found[-1] == ("response", "Yo", "learnt")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", "[1]", "is no dataset_info.json"),
        ("a.yml", "a: [", "is no YAML"),
        ("a.yml", "a: 1", "it has no list of datasets"),
        ("a.yml", "datasets: [{path: rows.jsonl, type: strange}]", "the type 'strange' is not known here"),
        ("a.yml", "train_on_inputs: true\ndatasets: [{path: rows.jsonl, type: alpaca}]", "train_on_inputs"),
        ("a.yml", "!!python/object/apply:os.system ['true']", "is no YAML"),
        ("none.json", None, "cannot read the mapping file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message):
        read_mapping(tmp_path / name, "rows.jsonl")


def test_llama_factory_reads_its_usual_columns_where_none_is_named(tmp_path):
    row = {"instruction": "Hi", "input": "", "output": "Yo", "system": "unseen", "history": [["p", "r"]]}
    assert read(tmp_path, {"mine": {"file_name": "rows.jsonl"}}, row) == ("chat", CHAT)


DOWN = ("rejected", "no", "turned down")
TURN = {"role": "user", "content": "Hi"}
SAYS_NO = {"role": "assistant", "content": "no"}


@pytest.mark.parametrize(
    ("sort", "row", "expected"),
    [
        (
            {"field_prompt": "q", "field_chosen": "good", "field_rejected": "bad"},
            {"q": "Hi", "good": "Yo", "bad": "no"},
            [("prompt", "Hi", "read"), ("response", "Yo", "learnt"), DOWN],
        ),
        (
            {"field_prompt": "q", "field_completion": "a", "field_label": "wanted"},
            {"q": "Hi", "a": "no", "wanted": False},
            [("prompt", "Hi", "read"), DOWN],
        ),
        (
            "chat_template.argilla_chat",
            {"chosen": [TURN, {"role": "assistant", "content": "Yo"}], "rejected": [TURN, SAYS_NO]},
            [*CHAT, DOWN],
        ),
        (
            "chat_template.default",
            {"messages": [TURN], "chosen": {"role": "assistant", "content": "Yo"}, "rejected": "no"},
            [*CHAT, DOWN],
        ),
    ],
)  # fmt: skip
def test_axolotl_pairs_and_verdicts(tmp_path, sort, row, expected):
    told = {"datasets": [{"path": "rows.jsonl", "type": sort}]}
    assert read(tmp_path, told, row, "axolotl.yaml")[1] == expected
