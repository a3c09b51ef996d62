"""What tests of several rooms share: the embedded model, a tiny model, a store of their own."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gradsentry_lib.settings import OPTIONS
from tests.s3 import s3  # noqa: F401
from tests.store.made import copied, empty, made  # noqa: F401  stores to look at and to tamper with

SHARED = Path(__file__).resolve().parents[2] / "shared"


SLOW = ("golden", "assets", "docs", "examples", "packaging", "soak")  # whole graphs, processes, real scans
REAL = ("embedded_model", "server", "page")  # fixtures that load the embedded model, a running UI, a browser


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whoever leaves out `graph` does not wait for its imports, Dagster's and Great Expectations', either."""
    slow = collection_path.parent == Path(__file__).parent and collection_path.name in SLOW
    return True if slow and "not graph" in config.option.markexpr else None


def pytest_collection_finish() -> None:
    """What the libraries made while they were imported stays: nobody looks through millions of objects again each time
    that a scan gives its model back."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what `make test-fast` leaves out: `real` for the embedded model, `graph` for what starts whole graphs."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in SLOW:
            item.add_marker("graph")
        if set(REAL) & set(getattr(item, "fixturenames", ())) or item.path.stem in ("test_declared_real",):
            item.add_marker("real")


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes a store that is not its own."""
    monkeypatch.setenv("GRADSENTRY_HOME", str(tmp_path / "store"))
    for option in OPTIONS.values():
        if option.name not in ("home", "cache"):
            monkeypatch.delenv(option.variable, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _own_self_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the scorer's self-tests find is kept for this run of the tests alone, and found again within it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADSENTRY_TESTED", str(tmp_path_factory.mktemp("tested")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    """Workers running side by side would otherwise each take all cores and wait for one another."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if "OMP_NUM_THREADS" in os.environ:
        return
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """Folder of the embedded model."""
    from gradsentry_lib.scoring.embedded import embedded_model

    return embedded_model()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of labelled data and golden values, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("there is no ../shared on this machine")
    return SHARED


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A byte-level tokenizer of 300 tokens, made here: `<s>` 0, `</s>` 1, then bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1} | {letter: i + 2 for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Callable[..., Path]:
    """Makes a folder with a tiny random Llama, its settings changed as asked, and the tiny tokenizer."""

    def make(seed: int = 0, **changes: Any) -> Path:
        from transformers import LlamaConfig, LlamaForCausalLM

        settings = {
            "vocab_size": 320,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
        }
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("tiny") / "model"
        LlamaForCausalLM(LlamaConfig(**settings | changes)).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """Headless Chromium; skips where there is none. One a module: two of Playwright's loops can't run at once."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        path = path or playwright.chromium.executable_path
        if not os.path.exists(path):  # noqa: PTH110
            pytest.skip("no Chromium on this machine")
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
