"""What a trainer's own configuration says of a file: LLaMA-Factory's dataset_info.json, Axolotl's YAML.

The result is options as `open_as_told` takes them: `columns`, `roles`, `marker`, `turns`, `split`. A column that the
trainer is told not to use (LLaMA-Factory reads only those that are named) is mapped to "".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradsentry_lib.errors import UnusableFile
from gradsentry_lib.samples.reasons import quote, quote_all

Options = dict[str, Any]


def read_mapping(path: Path, source: str) -> Options:
    """The options for `source` from a configuration file. `path` may end in #NAME: the entry of that name. Raises
    `BadInput` where the file, the entry or a setting of it can't be used."""
    place, _, name = str(path).partition("#")
    text = _text(Path(place))
    if Path(place).suffix.lower() in (".yaml", ".yml"):
        import yaml

        try:
            told = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise UnusableFile(f"{place} is no YAML: {' '.join(str(error).split())[:200]}") from None
        return _axolotl(told, place, source, name)
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"{place} is no JSON: {error}") from None
    return _llama_factory(told, place, source, name)


def reading_options(
    source: str,
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    marker: str | None = None,
    mapping: str | Path | None = None,
    split: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    max_bytes: int | None = None,
) -> Options:
    """What the reader is told, by the names that `open_as_told` knows; what a person says goes over a mapping file."""
    told = read_mapping(Path(mapping), source) if mapping else {}
    told["columns"] = {**told.get("columns", {}), **(columns or {})}
    told["roles"] = {**told.get("roles", {}), **(roles or {})}
    told |= {"marker": marker, "split": split, "separator": separator, "encoding": encoding, "max_bytes": max_bytes}
    return {name: value for name, value in told.items() if value}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > 8 << 20:
            raise UnusableFile(f"{path} is too long for a trainer's configuration")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFile(
            f"cannot read the mapping file {path}: {getattr(error, 'strerror', None) or error}"
        ) from None


def _matches(source: str, named: object) -> bool:
    """Whether a configuration's file or repository is this source: the same name at the end."""
    return isinstance(named, str) and bool(named) and (source == named or Path(source).name == Path(named).name)


def _pick(entries: Mapping[str, Mapping[str, Any]], keys: tuple[str, ...], place: str, source: str, name: str) -> Any:
    """The entry that was named, or that names the source, or the only one."""
    if name:
        if name not in entries:
            raise UnusableFile(f"{place} has no entry {quote(name)}; it has: {quote_all(list(entries))}")
        return entries[name]
    found = [entry for entry in entries.values() if any(_matches(source, entry.get(key)) for key in keys)]
    if not found and len(entries) == 1:
        found = list(entries.values())
    if len(found) != 1:
        many = "several entries" if found else "no entry"
        raise UnusableFile(
            f"{place} has {many} for {source}; say which: --mapping {place}#NAME, of {quote_all(list(entries))}"
        )
    return found[0]


# LLaMA-Factory's names of columns, as roles of ours, for instruction rows and for chats.
LLAMA_FACTORY = {"prompt": "instruction", "query": "input", "response": "response", "history": "history"}
LLAMA_FACTORY_BOTH = {name: name for name in ("system", "tools", "chosen", "rejected")} | {"kto_tag": "label"}
LLAMA_FACTORY_TAGS = {
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call", "call"),
    "system_tag": ("system", "system"),
}


def _llama_factory(told: Any, place: str, source: str, name: str) -> Options:
    if not isinstance(told, dict) or not told or not all(isinstance(entry, dict) for entry in told.values()):
        raise UnusableFile(f"{place} is no dataset_info.json: an object of data sets, each an object")
    entry = _pick(told, ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "cloud_file_name"), place, source, name)
    chat = entry.get("formatting", "alpaca") in ("sharegpt", "openai")
    names = {"messages": "messages"} if chat else LLAMA_FACTORY
    given = entry.get("columns")
    columns: dict[str, str] = {}
    if isinstance(given, dict):
        both = {**names, **LLAMA_FACTORY_BOTH}
        columns = {role: given.get(theirs) or "" for theirs, role in both.items()}
        if entry.get("ranking"):
            columns["label"] = ""
            if not chat:
                columns["response"] = ""
        if not chat and not columns["response"] and not columns["chosen"]:
            columns = {"text": columns["instruction"]}  # a corpus: the prompt column is the text
    else:  # what it reads where nothing is said
        columns = dict.fromkeys(("system", "tools"), "") | ({} if chat else {"history": ""})
    options: Options = {"columns": columns, "turns": {"as_chat": True}}
    tags = entry.get("tags") or {}
    if chat and isinstance(tags, dict):
        usual = ("role", "content") if entry.get("formatting") == "openai" else ("from", "value")
        options["turns"] |= {
            "speaker_key": tags.get("role_tag", usual[0]),
            "content_key": tags.get("content_tag", usual[1]),
        }
        options["roles"] = {tags.get(tag, usual): role for tag, (usual, role) in LLAMA_FACTORY_TAGS.items()}
    if columns.get("text"):
        options.pop("turns")
    if entry.get("split") and not Path(source).is_file():
        options["split"] = entry["split"]
    return options


# The fields of a type of one's own, for instructions, for pairs and for verdicts.
AXOLOTL_FIELDS = {
    **{"instruction": "field_instruction", "input": "field_input", "response": "field_output"},
    **{"prompt": "field_prompt", "chosen": "field_chosen", "rejected": "field_rejected", "label": "field_label"},
    "system": "field_system",
}
# Axolotl's types whose columns are found by themselves.
KNOWN_TYPES = ("alpaca", "gpteacher", "context_qa", "user_defined", "chatml.", "llama3.", "zephyr.", "pygmalion")


def _axolotl(told: Any, place: str, source: str, name: str) -> Options:
    listed = told.get("datasets") if isinstance(told, dict) else None
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, dict) for entry in listed):
        raise UnusableFile(f"{place} is no Axolotl configuration: it has no list of datasets")
    entries = {str(entry.get("path")): {**entry, "file": _file(entry)} for entry in listed}
    entry = _pick(entries, ("path", "file"), place, source, name)
    sort = entry.get("type") or "chat_template"
    options: Options = {}
    if isinstance(sort, dict):
        options["columns"] = {role: sort[key] for role, key in AXOLOTL_FIELDS.items() if sort.get(key)}
        options["columns"] |= {"response": sort["field_completion"]} if sort.get("field_completion") else {}
        if not options["columns"].keys() & {"response", "chosen"}:
            options["columns"]["response"] = "output"
    elif sort.startswith("completion"):
        options["columns"] = {"text": entry.get("field") or "text"}
    elif sort.startswith("input_output"):
        options["columns"] = {"segments": "segments"}
    elif "chat_template" in sort or sort.startswith("sharegpt"):
        options = _axolotl_chat(entry, sort)
    elif not sort.startswith(KNOWN_TYPES):
        raise UnusableFile(f"{place}: the type {quote(sort)} is not known here; name the columns with --column")
    if told.get("train_on_inputs"):
        if "turns" not in options:
            raise UnusableFile(
                f"{place} has train_on_inputs: prompts would be learnt too, which is only read for chats"
            )
        options["turns"]["trained"] = ["system", "user", "assistant", "tool"]
    if entry.get("split") and not Path(source).is_file():
        options["split"] = entry["split"]
    return options


def _file(entry: Mapping[str, Any]) -> Any:
    files = entry.get("data_files")
    return files[0] if isinstance(files, list) and files else files


def _axolotl_chat(entry: Mapping[str, Any], sort: str) -> Options:
    keys = entry.get("message_property_mappings") or {}
    share = sort.startswith("sharegpt")
    turns: Options = {
        "speaker_key": keys.get("role") or entry.get("message_field_role") or ("from" if share else "role"),
        "content_key": keys.get("content") or entry.get("message_field_content") or ("value" if share else "content"),
    }
    if training := entry.get("message_field_training"):
        turns["train_key"] = training
    options: Options = {"turns": turns, "columns": {}}
    whole = "argilla" in sort or sort.startswith(("orpo", "bradley_terry"))  # conversations on both sides of a pair
    pair = whole or "field_chosen" in entry or sort.startswith("chat_template.default")
    if not whole:
        options["columns"]["messages"] = entry.get("field_messages") or ("conversations" if share else "messages")
    if pair:
        options["columns"] |= {"chosen": "chosen", "rejected": "rejected"}
    for role, key in (("chosen", "field_chosen"), ("rejected", "field_rejected"), ("tools", "field_tools")):
        if entry.get(key):
            options["columns"][role] = entry[key]
    if entry.get("field_system"):
        options["columns"]["system"] = entry["field_system"]
    if isinstance(entry.get("roles"), dict):
        options["roles"] = {
            speaker: role
            for role, speakers in entry["roles"].items()
            for speaker in speakers
            if isinstance(speaker, str)
        }
    trained = entry.get("roles_to_train")
    if trained and not pair:
        from gradsentry_lib.samples.columns import ROLES

        turns["trained"] = sorted(
            {(options.get("roles") or {}).get(r) or ROLES.get(str(r).lower(), str(r)) for r in trained}
        )
    return options
