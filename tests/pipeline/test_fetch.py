"""Shards that lie below a prefix at a URL: an S3 server on this machine's loopback, and fsspec's memory."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from upath import UPath

import gradsentry_lib as gs
from gradsentry_lib import settings
from gradsentry_lib.cli import load_command
from gradsentry_lib.errors import InTheWay, UnusableInput
from gradsentry_lib.pipeline.deliver import outputs_at
from gradsentry_lib.pipeline.fetch import fetch
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import lines

SHARDS = {f"part-{number}.jsonl": range(20 * number, 20 * number + 20) for number in range(3)}


@pytest.fixture(params=["s3", "memory"])
def there(request: pytest.FixtureRequest) -> str:
    """A prefix with three shards, and what is no data."""
    name = request.node.name.partition("[")[0]
    place = f"{request.getfixturevalue('s3')}/{name}/in" if request.param == "s3" else f"memory://{name}/in"
    for shard, numbers in SHARDS.items():
        (UPath(place) / "data" / shard).write_text("".join(line + "\n" for line in lines(numbers)))
    for other in ("README.md", ".hidden/part-9.jsonl", "_SUCCESS"):
        (UPath(place) / other).write_text("{}")
    return place


def test_the_data_files_of_a_prefix_lie_in_the_store(there: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fetch(there, store)
    assert made == fetch(f"{there}/", store) and made.name == "in"
    assert {str(path.relative_to(made)) for path in made.rglob("*.*")} == {f"data/{shard}" for shard in SHARDS}
    assert (made / "data" / "part-1.jsonl").read_text().splitlines() == lines(SHARDS["part-1.jsonl"])
    assert fetch(f"{there}/data/part-2.jsonl", store).is_file()
    (UPath(there) / "data" / "part-1.jsonl").write_text("{}")
    assert fetch(there, store) != made
    monkeypatch.setattr(settings, "max_bytes", lambda: 1000)
    with pytest.raises(UnusableInput, match="larger than 1,000 bytes"):
        fetch(there, store)


def test_no_name_leads_out_of_the_store(store: Store) -> None:
    place = UPath("memory://climbing/in")
    (place / "part-0.jsonl").write_text("{}")
    place.fs.pipe_file("/climbing/in/../../../escaped.jsonl", b"{}")
    place.fs.store["/climbing/in/../escaped.jsonl"] = place.fs.store["/climbing/in/part-0.jsonl"]
    assert [path.name for path in fetch(str(place), store).rglob("*")] == ["part-0.jsonl"]
    assert not list(store.home.parent.rglob("escaped*"))


def test_results_are_not_written_among_the_shards(there: str, tmp_path: Path) -> None:
    with pytest.raises(InTheWay, match="lies in the source"):
        outputs_at(f"{there}/out", tmp_path, there).check("")


@pytest.mark.slow
def test_shards_in_and_clean_shards_out(there: str, tiny_model: Any, tmp_path: Path) -> None:
    """The command and Python alike: every shard comes back under its name, its clean rows byte for byte."""
    out, model = there.replace("/in", "/out"), str(tiny_model())
    done = CliRunner().invoke(load_command("scan"), [there, "--out", out, "--model", model, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    for shard in SHARDS:
        assert (UPath(out) / "clean" / "data" / shard).read_bytes() == (UPath(there) / "data" / shard).read_bytes()
    again = gs.scan(there, model=model, store=Store.default().home, progress=False)
    assert again.made.scored.computed == 0 and again.made.batch.read == 60
