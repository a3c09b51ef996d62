"""What libraries do not promise is used in one file a library, and read here from the installed version."""

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = ("dagster", "scipy", "transformers", "datasets", "huggingface_hub", "duckdb", "great_expectations")
ALLOWED = {"gradsentry_assets/dagster_private.py", "gradsentry_lib/scoring/transformers_private.py"}
OF_TORCH = {"_modules", "_parameters"}  # of nn.Module, unchanged since its first version
OWN = {"_replace"}  # of named tuples: public in spite of its name


def test_private_names_are_used_in_one_file_a_library() -> None:
    found = []
    for path in [*ROOT.glob("gradsentry_lib/**/*.py"), *ROOT.glob("gradsentry_assets/**/*.py")]:
        name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        if name in ALLOWED:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in LIBRARIES:
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                found += [f"{name}:{node.lineno} {part}" for part in names if part.startswith("_")]
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and not node.attr.startswith("__"):
                owner = node.value
                own = isinstance(owner, ast.Name) and owner.id in ("self", "cls", "os")
                if not own and node.attr not in OF_TORCH | OWN:
                    found.append(f"{name}:{node.lineno} {node.attr}")
    assert not found


def moved(library: str, what: str) -> str:
    return f"{library} {version(library)} moved {what}: see the file that imports it"


def test_dagster_still_has_what_is_taken_of_it() -> None:
    try:
        from gradsentry_assets import dagster_private as taken
    except ImportError as error:
        pytest.fail(moved("dagster", str(error)))
    tags = (taken.PARTITION_NAME_TAG, taken.ASSET_PARTITION_RANGE_START_TAG, taken.ASSET_PARTITION_RANGE_END_TAG)
    wanted = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    assert tags == wanted, moved("dagster", "its tags")
    assert taken.AssetKeyPartitionKey._fields == ("asset_key", "partition_key"), moved("dagster", "its keys")


def test_transformers_still_has_what_is_read_of_it() -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    from gradsentry_lib.scoring.transformers_private import attention_of, loads, never_split

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=8, **sizes)
    try:
        model = LlamaForCausalLM(config)
        assert attention_of(model) == "sdpa" and never_split(model) == ["LlamaDecoderLayer"]
        assert loads(AutoModelForCausalLM, config) and not loads(AutoModelForCausalLM, object())
    except AttributeError as error:
        pytest.fail(moved("transformers", str(error)))
