"""What a scan makes of ten batches of all kinds is what it was: verdicts, reasons, files, records, report.

A change of structure leaves recorded.json as it is. Where behaviour is meant to change, record anew and read the
difference: GRADSENTRY_RECORD=1 python -m pytest tests/golden
"""

import hashlib
import html
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from gradsentry_lib.pipeline.run import ModelChoice, scan
from gradsentry_lib.store.paths import Store
from tests.golden.batches import BATCHES, poisoned

RECORDED = Path(__file__).with_name("recorded.json")
TABLES = ("batches", "scans", "decisions", "gate_results", "outputs", "score_files")
NUMBERS = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model()


@pytest.mark.parametrize("make", BATCHES, ids=lambda make: make.__name__)
def test_a_batch_is_judged_as_it_was(make: Callable[[Path], Path], tmp_path: Path, model: Path) -> None:
    store = Store(tmp_path / "store")
    name = "embedded" if make is poisoned else str(model)
    result = scan(str(make(tmp_path)), store, model=ModelChoice(name, dtype="float32", device="cpu"))
    found = json.loads(json.dumps(facts(result, store)))
    recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    if os.environ.get("GRADSENTRY_RECORD"):
        recorded[make.__name__] = found
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    expected = recorded[make.__name__]
    entropies, wanted = found.pop("entropies"), expected.pop("entropies")
    assert found == expected
    assert [value is None for value in entropies] == [value is None for value in wanted]
    known = [(a, b) for a, b in zip(entropies, wanted, strict=True) if a is not None]
    assert [a for a, _ in known] == pytest.approx([b for _, b in known], abs=1e-4)


def facts(result: Any, store: Store) -> dict[str, Any]:
    """What stays the same wherever and whenever it runs: no times, no paths, no digits that arithmetic moves."""
    batch, decided = result.batch, result.decided
    folder = store.batch(batch.batch_key)
    decision = folder / "decisions" / decided.decision_key
    verdicts = pq.read_table(decision / "verdicts.parquet").to_pylist()
    out = result.published.folder if result.published else decision
    with duckdb.connect(str(store.ledger), read_only=True) as ledger:
        counts = {table: ledger.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}  # noqa: S608
    return {
        "read": [batch.read, batch.readable, batch.rejected, batch.truncated, batch.layout, *batch.notes],
        "unread": [column.name for column in batch.unread],
        "verdicts": [[line["row"], line["verdict"], *map(_words, line["reasons"])] for line in verdicts],
        "entropies": [None if line["entropy"] != line["entropy"] else round(line["entropy"], 6) for line in verdicts],
        "samples": [line["sample_id"] for line in verdicts],
        "gate": {check.name: [check.passed, check.severity] for check in decided.gate_checks},
        "remarks": [_words(remark) for remark in decided.remarks],
        "files": {path.name: _digest(path) for path in sorted(out.iterdir()) if path.name.startswith("clean")},
        "quarantined": _lines(out / "quarantine.jsonl"),
        "rejected": _lines(folder / "rejected.jsonl"),
        "ledger": counts,
        "report": _headings((out / "report.html").read_text(encoding="utf-8")),
    }


def _words(text: str) -> str:
    """A sentence without its numbers."""
    return NUMBERS.sub("#", text)


def _digest(path: Path) -> str | dict[str, str]:
    """Of text files the SHA-256; of a folder its files'; of tables their rows'."""
    if path.is_dir():
        return {file.name: str(_digest(file)) for file in sorted(path.iterdir())}
    content = path.read_bytes()
    if path.suffix == ".parquet":
        content = json.dumps(pq.read_table(path).to_pylist(), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _lines(path: Path) -> list[Any]:
    """Rows and reasons of a quarantine or of rejects."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [[line["row"], *map(_words, line.get("reasons") or [line["reason"]])] for line in lines]


def _headings(page: str) -> list[str]:
    return [
        _words(html.unescape(re.sub(r"<[^>]+>", "", text)).strip()) for text in re.findall(r"<h[1-3].*?</h[1-3]>", page)
    ]
