"""Scores are found again where, and only where, they would come out the same."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from gradsentry_lib.audit.verify import verify
from gradsentry_lib.files import sha256_file
from gradsentry_lib.pipeline.history import other_deliveries
from gradsentry_lib.pipeline.run import ModelChoice, ScanResult, scan
from gradsentry_lib.scoring.config import Effort, ScoringConfig
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import OPEN, lines, row, run, same, verdicts, write

pytestmark = pytest.mark.slow

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", lines(range(50)))


def scores_folder(result: ScanResult, store: Store) -> Path:
    return store.batch(result.batch.batch_key) / "scores" / result.scored.score_key


def shards(store: Store) -> list[Path]:
    return sorted((store.home / "scores").rglob("*.parquet"))


def test_an_unchanged_batch_loads_no_model(source: Path, model: Path, store: Store, loads: list[str]) -> None:
    first = run(source, model, store)
    again = run(source, model, store)
    assert len(loads) == 1 and (first.scored.computed, again.scored.computed) == (50, 0)
    assert again.decided.number == first.decided.number


def test_an_unchanged_batch_imports_no_torch(source: Path, model: Path, store: Store) -> None:
    """In a process of its own: what is not imported costs no time."""
    run(source, model, store)
    program = f"""
import sys
from tests.pipeline.builder import run
from pathlib import Path
result = run(Path({str(source)!r}), Path({str(model)!r}))
assert result.scored.computed == 0
print([name for name in ("torch", "transformers", "ray") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_batch_with_mostly_the_same_rows_scores_the_others(
    source: Path, model: Path, store: Store, loads: list[str], tmp_path: Path
) -> None:
    first = run(source, model, store)
    order = np.random.default_rng(0).permutation(np.arange(5, 55))  # 45 known rows and 5 new ones, shuffled
    second = run(write(tmp_path / "later.jsonl", lines(order)), model, store)
    assert second.scored.computed == 5
    entropy = dict(zip(range(50), verdicts(first, store)["entropy"].to_pylist(), strict=True))
    for number, found in zip(order.tolist(), verdicts(second, store)["entropy"].to_pylist(), strict=True):
        if number in entropy:
            assert found == entropy[number]
    alone = run(tmp_path / "later.jsonl", model, Store(tmp_path / "other"))
    same(verdicts(second, store), verdicts(alone, Store(tmp_path / "other")))
    run(write(tmp_path / "part.jsonl", lines(range(20, 40))), model, store)
    assert len(loads) == 3  # the last batch has no row that is not known


def forged(shard: Path, folder: Path) -> Path:
    """A shard that says of the same samples that nothing is wrong with them, whole and rightly named."""
    table = pq.read_table(shard)
    low = pa.array(np.full(table.num_rows, 0.01), table.schema.field("entropy").type)
    table = table.set_column(table.schema.get_field_index("entropy"), table.schema.field("entropy"), low)
    pq.write_table(table, folder / "forged")
    return (folder / "forged").rename(folder / f"{sha256_file(folder / 'forged')}.parquet")


def test_scores_that_somebody_laid_into_the_cache_are_not_believed(
    source: Path, model: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Forged ones in place of the cache's own, and true ones that were made for another configuration."""
    first = run(source, model, store)
    own = shards(store)
    for shard in own:
        forged(shard, shard.parent)
        shard.unlink()
    part = write(tmp_path / "part.jsonl", lines(range(20, 40)))
    second = run(part, model, store)
    assert second.scored.computed == 20
    assert "4 of 4 files of scores" in caplog.text and "scored again" in caplog.text
    alone = run(part, model, Store(tmp_path / "other"))
    same(verdicts(second, store), verdicts(alone, Store(tmp_path / "other")))

    other = run(part, model, store, scoring=ScoringConfig(max_tokens=24))
    assert other.scored.computed == 20
    moved = [path for path in shards(store) if path.parent.name != own[0].parent.name]
    for path in moved:
        path.rename(own[0].parent / path.name)
    store.scores(second.batch.batch_key, first.scored.score_key).unlink()
    assert run(part, model, store).scored.computed == 0  # from its own shard, not from the ones that came in
    notes = [finding for finding in verify(store.ledger).findings if "score cache" in finding.subject]
    assert {finding.severity for finding in notes} == {"note"}


def test_a_verification_names_altered_and_foreign_scores(source: Path, model: Path, store: Store) -> None:
    run(source, model, store)
    first, second, *_ = shards(store)
    forged(first, first.parent)
    second.write_bytes(second.read_bytes()[:-1])
    found = verify(store.ledger)
    assert [finding.message for finding in found.problems] == [
        f"{second.relative_to(store.home)} is not what was recorded"
    ]
    assert any("no scan believes them" in finding.message for finding in found.findings)


def flip_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"][0, 0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})


def edit_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"<s>": 0', '"<s>": 0 '))


def add_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def edit_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 1e-5}))


def test_a_changed_model_file_misses(source: Path, tiny_model: Callable[..., Path], store: Store) -> None:
    folder = tiny_model()
    assert run(source, folder, store).scored.computed == 50
    assert run(source, folder, store).scored.computed == 0
    for change in (flip_weight, edit_tokenizer, add_template, edit_config):  # one after the other: each is noticed
        change(folder)
        assert run(source, folder, store).scored.computed == 50, change


def test_a_copy_of_the_model_elsewhere_hits(source: Path, tiny_model: Callable[..., Path], store: Store) -> None:
    run(source, tiny_model(), store)
    assert run(source, tiny_model(), store).scored.computed == 0  # made from the same seed
    assert run(source, tiny_model(seed=1), store).scored.computed == 50


def test_a_changed_scoring_option_misses(source: Path, model: Path, store: Store) -> None:
    run(source, model, store)
    options: list[dict[str, Any]] = [{"k": 8}, {"crop": 4}, {"max_tokens": 40}, {"sketch": False}]
    for option in options:
        changed = replace(ScoringConfig(), **option)
        assert run(source, model, store, scoring=changed).scored.computed == 50, option
        assert run(source, model, store, scoring=changed).scored.computed == 0, option
    assert run(source, model, store).scored.computed == 0


def test_every_scoring_option_is_in_the_key() -> None:
    """A new option that is left out of the key would give stale scores."""
    from dataclasses import fields

    keys = {ScoringConfig().key}
    for field in fields(ScoringConfig):
        value = getattr(ScoringConfig(), field.name)
        other = not value if isinstance(value, bool) else (value or 0) + 2
        keys.add(replace(ScoringConfig(), **{field.name: other}).key)
    assert len(keys) == len(fields(ScoringConfig)) + 1


def test_a_changed_dtype_misses(source: Path, model: Path, store: Store) -> None:
    run(source, model, store)
    for dtype, computed in (("bfloat16", 50), ("bfloat16", 0), ("float32", 0)):
        result = scan(str(source), store, model=ModelChoice(str(model), dtype=dtype), decision=OPEN)
        assert result.scored.computed == computed


def test_how_the_work_is_done_does_not_matter(source: Path, model: Path, store: Store) -> None:
    run(source, model, store)
    other = Effort(token_budget=64, share_prefixes=False, rows_per_shard=7)
    assert run(source, model, store, effort=other).scored.computed == 0


def damaged(data: bytes) -> dict[str, bytes | None]:
    """None: the file is gone."""
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    return {"torn": data[:middle], "flipped": flipped, "empty": b"", "gone": None}


def test_a_damaged_shard_is_scored_again(source: Path, model: Path, store: Store) -> None:
    first = run(source, model, store)
    expected, scores = verdicts(first, store), scores_folder(first, store) / "scores.parquet"
    shard, *others = shards(store)
    assert len(others) == 3
    for harm, left in damaged(shard.read_bytes()).items():
        shard.unlink() if left is None else shard.write_bytes(left)
        scores.unlink()
        again = run(source, model, store)
        assert 0 < again.scored.computed <= 16, harm
        same(verdicts(again, store), expected)
        scores.unlink()
        assert run(source, model, store).scored.computed == 0, harm
        assert shards(store) == sorted([shard, *others]), harm  # made again as it was, under its own name


def test_damaged_results_are_made_again(source: Path, model: Path, store: Store, loads: list[str]) -> None:
    first = run(source, model, store)
    for harm in (b"", b"{", b"PAR1 and then nothing"):
        (scores_folder(first, store) / "scores.parquet").write_bytes(harm)
        again = run(source, model, store)
        assert again.scored.computed == 0 and len(loads) == 1, harm
        assert again.scored.scores_sha256 == first.scored.scores_sha256, harm
        assert run(source, model, store).scored.scan == again.scored.scan, harm  # and this one is found whole


def test_rows_without_a_score_are_tried_again(
    tmp_path: Path, model: Path, store: Store, loads: list[str], odd: list[str]
) -> None:
    rows = [*lines(range(30)), json.dumps({"prompt": "why?", "response": "ODD"})]
    source = write(tmp_path / "rows.jsonl", rows)
    first = run(source, model, store)
    assert first.scored.unscored == 1 and math.isnan(verdicts(first, store)["entropy"][30].as_py())
    again = run(source, model, store)
    assert (again.scored.computed, again.scored.unscored) == (1, 1) and len(loads) == 2
    odd.clear()
    last = run(source, model, store)
    assert (last.scored.computed, last.scored.unscored) == (1, 0)
    assert last.decided.unscored == 0
    assert run(source, model, store).scored.computed == 0


def test_a_batch_that_comes_again_worded_otherwise_is_no_evidence_for_itself(tmp_path, model, store):
    first = run(write(tmp_path / "first.jsonl", lines(range(20))), model, store)
    again = [json.dumps(row(i) | {"prompt": f"Dear Sir, {row(i)['prompt']}"}) for i in range(20)]
    few = [json.dumps(row(i)) for i in range(100, 118)] + lines(range(2))  # two rows of twenty are no delivery again
    second = run(write(tmp_path / "second.jsonl", again), model, store)
    third = run(write(tmp_path / "third.jsonl", few), model, store)
    told = [{"batch_key": result.batch.batch_key} for result in (first, second, third)]
    assert other_deliveries(store, second.batch, told) == [told[2]]
    assert other_deliveries(store, third.batch, told) == told[:2]
