"""Code that comes with a model or a data set is never run, and nobody is ever asked whether it should be."""

import ast
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gradsentry_lib
from gradsentry_lib.errors import BadInput
from gradsentry_lib.samples.arrow import load_hub
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.scoring import checkpoint as checkpoint_module
from gradsentry_lib.scoring.identity import identify
from gradsentry_lib.scoring.model import load_model

from .architectures import tiny
from .checkpoints import changed, saved

ROOT = Path(gradsentry_lib.__file__).parents[1]
CODE = "from pathlib import Path\nPath(__file__).with_name('RAN').write_text('x')\n"
CONFIG = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


@pytest.fixture
def model(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    return saved(tmp_path / "model", tiny("llama"), tiny_tokenizer)


def own_code(folder: Path, where: str) -> Path:
    """The folder, with code of its own that one of its files names."""
    for name in ("configuration_own.py", "modeling_own.py", "tokenization_own.py", "processing_own.py"):
        if where != "a name alone":
            (folder / name).write_text(CODE)
    match where:
        case "config.json" | "a name alone":
            changed(folder, model_type="own", architectures=["OwnForCausalLM"], auto_map=CONFIG)
        case "config.json of a known kind":
            changed(folder, auto_map=CONFIG)
        case "another repository":
            changed(folder, auto_map={name: f"someone/code--{value}" for name, value in CONFIG.items()})
        case "tokenizer_config.json":
            changed(folder, where, auto_map={"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]})
        case "processor_config.json" | "preprocessor_config.json":
            changed(folder, where, auto_map={"AutoProcessor": "processing_own.OwnProcessor"})
        case "generation_config.json":
            changed(folder, where, auto_map={"GenerationConfig": "configuration_own.OwnConfig"})
        case "custom_generate":
            (folder / where).mkdir()
            (folder / where / "generate.py").write_text(CODE)
        case "a hub kernel":
            changed(folder, attn_implementation="someone/kernel")
    return folder


PLACES = [
    "config.json",
    "a name alone",
    "config.json of a known kind",
    "another repository",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "custom_generate",
    "files that nothing names",
    "a hub kernel",
]


@pytest.mark.parametrize("where", PLACES)
def test_models_with_code_of_their_own(where: str, model: Path) -> None:
    with pytest.raises(BadInput, match="never run"):
        load_model(identify(str(own_code(model, where)), device="cpu"))
    assert not list(model.rglob("RAN"))


def test_as_an_adapters_base(model: Path, tmp_path: Path) -> None:
    from .checkpoints import adapter

    folder = adapter(tmp_path / "adapter", str(own_code(model, "config.json")))
    with pytest.raises(BadInput, match="never run"):
        identify(str(folder), device="cpu")


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json", "config.json of a known kind"])
def test_the_loader_does_not_ask_either(where: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the folder not refused by what it holds, nothing would be asked or run all the same."""
    asked: list[Any] = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "y")
    monkeypatch.setattr(checkpoint_module, "_refuse_code", lambda *_: None)
    try:
        load_model(identify(str(own_code(model, where)), device="cpu"))
    except BadInput as error:
        assert "trust_remote_code" in str(error) or "contains custom code" in str(error)
    assert not asked and not list(model.rglob("RAN"))


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_at_a_terminal(where: str, model: Path, tmp_path: Path) -> None:
    """A person at a terminal, who says yes to whatever comes: exit 2, one line, at once."""
    own_code(model, where)
    source = tmp_path / "rows.jsonl"
    source.write_text('{"prompt": "a", "response": "b"}\n')
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from gradsentry_lib.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "scan",
        str(source),
        "--out",
        str(tmp_path / "out"),
        "--model",
        str(model),
    ]
    person, terminal = pty.openpty()
    os.write(person, b"y\n" * 20)
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=tmp_path) as running:
        os.close(terminal)
        said = _all(person)
        code = running.wait(60)
    told = [line for line in said.replace("y\r\n", "").splitlines() if line.strip()]
    assert code == 2
    assert len([line for line in told if "gradsentry:" in line]) == 1 and "never run" in " ".join(told)
    assert "[y/N]" not in said and "Traceback" not in said
    assert not list(tmp_path.rglob("RAN"))


def _all(person: int) -> str:
    """What a program writes to a terminal until it ends."""
    said = b""
    while True:
        try:
            part = os.read(person, 65536)
        except OSError:  # on Linux: nobody holds the other end any more
            part = b""
        if not part:
            os.close(person)
            return said.decode(errors="replace")
        said += part


def test_every_loader_is_told() -> None:
    """`trust_remote_code` stands at every call that could ask, in the library and in the Dagster part."""
    untold = []
    for path in [*ROOT.glob("gradsentry_lib/**/*.py"), *ROOT.glob("gradsentry_assets/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in ("from_pretrained", "from_config"):
                continue
            named = {word.arg for word in node.keywords}
            spread = {word.value.id for word in node.keywords if word.arg is None and isinstance(word.value, ast.Name)}
            if "trust_remote_code" not in named and "OWN_FILES" not in spread and "Peft" not in ast.unparse(node.func):
                untold.append(f"{path.name}:{node.lineno} {ast.unparse(node.func)}")
    assert not untold


@pytest.mark.parametrize(
    "name", ["tokenizer.4.0.0.json", "additional_chat_templates/default.jinja", "chat_template.jinja", "vocab.txt"]
)
def test_whatever_makes_the_tokenizer_is_in_its_fingerprint(name: str, model: Path) -> None:
    """Else other tokens or another template would be given the scores of these."""
    before = identify(str(model), device="cpu").tokenizer
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    assert identify(str(model), device="cpu").tokenizer != before


def test_nothing_unpickles() -> None:
    forbidden = (
        "import pickle",
        "import dill",
        "torch.load(",
        "allow_pickle=True",
        "read_pickle",
        "import joblib",
        "import shelve",
    )
    found = [
        (path.name, word)
        for path in [*ROOT.glob("gradsentry_lib/**/*.py"), *ROOT.glob("gradsentry_assets/**/*.py")]
        for word in forbidden
        if word in path.read_text()
    ]
    assert not found


class TestDataSets:
    def test_a_script_of_a_data_set(self, tmp_path: Path) -> None:
        folder = tmp_path / "rows"
        folder.mkdir()
        (folder / "rows.py").write_text(CODE + "import datasets\nclass Rows(datasets.GeneratorBasedBuilder): pass\n")
        for load in (lambda: load_hub(str(folder), None, None, "main"), lambda: open_source(str(folder))):
            with pytest.raises(BadInput):
                load()
        assert not list(tmp_path.rglob("RAN"))

    @pytest.mark.parametrize("name", ["rows.npy", "rows.npz", "rows.pkl", "rows.pt"])
    def test_pickled_rows(self, name: str, tmp_path: Path) -> None:
        import numpy as np

        np.save(tmp_path / "objects.npy", np.array([_Runs(tmp_path / "RAN")], dtype=object), allow_pickle=True)
        (tmp_path / "objects.npy").rename(tmp_path / name)
        with pytest.raises(BadInput):
            list(open_source(str(tmp_path / name)).rows())
        assert not (tmp_path / "RAN").exists()


class _Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)
