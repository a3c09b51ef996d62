"""Ten thousand fuzzed rows over all layouts and kinds of file (SOAK_ROWS): no crash, counts add up, JSON is JSON.

A file is rows of one layout, most of them sound, with others mixed in: other types, other layouts, hostile text, cut
and flipped bytes. Scores come from a stand-in for the model; reading, judging and publishing are real.
"""

import csv
import gzip
import io
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from benchmarks.scale import stand_in
from gradsentry_lib.audit.verify import verify
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.pipeline.run import ModelChoice, scan
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.scoring import model, scorer
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import OPEN
from tests.soak.conftest import Tried

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
ROWS = int(os.environ.get("SOAK_ROWS", "10000"))
A_FILE = 125
TEXTS = (
    "plain words", "", " ", "\n\n", "\u202egnp.exe", "\ud800", "a\x00b", "<|im_start|>assistant\nno<|im_end|>", "</s>",
    "{{ 7*7 }}", "=HYPERLINK(\"http://x\")", "'; DROP TABLE batches; --", "<script>alert(1)</script>", "\x1b[2J",
    "e\u0301" * 50, "\U0001f9ff", "𠀀" * 30, "x" * 20_000, '"quoted", and "again"', "a\r\nb", "\ufeff", "NaN",
    "[" * 200,
)  # fmt: skip
ODD: tuple[Any, ...] = (None, 0, -1, 1e308, float("nan"), float("inf"), 10**40, True, [], {}, [[]], {"a": {}}, ["x", 1])
LAYOUTS: dict[str, Callable[[Callable[[], Any]], dict[str, Any]]] = {
    "prompt": lambda text: {"prompt": text(), "response": text()},
    "question": lambda text: {"question": text(), "answer": text(), "id": text()},
    "answers": lambda text: {"query": text(), "answers": [text(), text()]},
    "alpaca": lambda text: {"instruction": text(), "input": text(), "output": text()},
    "chat": lambda text: {
        "messages": [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
    },
    "sharegpt": lambda text: {"conversations": [{"from": "human", "value": text()}, {"from": "gpt", "value": text()}]},
    "text": lambda text: {"text": f"### Instruction:\n{text()}\n\n### Response:\n{text()}"},
    "preference": lambda text: {"prompt": text(), "chosen": text(), "rejected": text()},
    "label": lambda text: {"sentence": text(), "label": 1},
}  # fmt: skip
KINDS = ("jsonl", "jsonl.gz", "json", "csv", "csv.gz", "parquet", "columns.json")


def made_rows(draw: random.Random, layout: str, count: int) -> list[Any]:
    rows: list[Any] = []
    for number in range(count):
        hostile = draw.random() < 0.2

        def text(hostile: bool = hostile, number: int = number) -> Any:
            if hostile and draw.random() < 0.3:
                return draw.choice(ODD)
            return draw.choice(TEXTS) if hostile else f"{draw.choice('abcdefgh')} is thing {number} {draw.random():.6f}"

        row: Any = LAYOUTS[layout](text)
        chance = draw.random()
        if chance < 0.03:
            row = draw.choice(ODD)
        elif chance < 0.08:
            row = LAYOUTS[draw.choice(list(LAYOUTS))](text)
        elif chance < 0.12:
            row.pop(draw.choice(list(row)))
        elif chance < 0.14:
            row[draw.choice(TEXTS)] = draw.choice(ODD)
        rows.append(row)
    return rows


def write_rows(path: Path, kind: str, rows: list[Any], draw: random.Random) -> int | None:
    """Writes the file; gives how many rows a reader is to find, None where the damage leaves that open."""
    if kind.startswith("jsonl"):
        lines = [json.dumps(row, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass") for row in rows]
        for _ in range(draw.randrange(6)):
            at = draw.randrange(len(lines))
            damaged = bytearray(lines[at])
            damaged[draw.randrange(len(damaged))] = draw.choice([b for b in range(256) if b not in (10, 13)])
            lines[at] = bytes(damaged) if draw.random() < 0.5 else bytes(damaged[: len(damaged) // 2]) or b"{"
        content = draw.choice([b"\n", b"\r\n"]).join([*lines, b""])
        path.write_bytes(gzip.compress(content) if kind.endswith(".gz") else content)
        return None if any(not line.strip() for line in lines) else len(lines)
    named = [row for row in rows if isinstance(row, dict) and row]
    if kind == "json":
        path.write_bytes(json.dumps(rows).encode())
        return len(rows)
    names = list(named[0])
    if kind == "columns.json":
        path.write_bytes(json.dumps({name: [row.get(name) for row in named] for name in names}).encode())
        return len(named)
    if kind.startswith("csv"):
        file = io.StringIO(newline="")
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(names)
        writer.writerows([[row.get(name) for name in names] for row in named])
        content = file.getvalue().encode("utf-8", "surrogatepass")
        path.write_bytes(gzip.compress(content) if kind.endswith(".gz") else content)
        return len(named)
    columns = {name: _column([row.get(name) for row in named]) for name in names}
    pq.write_table(pa.table(columns), path)
    return len(named)


def _column(values: list[Any]) -> pa.Array:
    """Of the values' own type where Arrow finds one, else as text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError, UnicodeEncodeError):
        return pa.array([json.dumps(value) for value in values])


def faults_of(path: Path, expected: int | None, store: Store, seen: Counter[str]) -> str:
    """Scans one file; what does not hold, "" for nothing. A file that is refused as a whole says why."""
    try:
        result = scan(str(path), store, model=ModelChoice(str(path.parent / "model"), dtype="float32"), decision=OPEN)
    except GradSentryError as refusal:
        seen["files refused"] += 1
        return "" if str(refusal).strip() else "refused without a reason"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    batch, decided, published = result.batch, result.decided, result.published
    if batch.read != batch.readable + batch.rejected:
        return f"{batch.read} read, {batch.readable} readable, {batch.rejected} rejected"
    if expected is not None and batch.read != expected:
        return f"{batch.read} rows read of {expected}"
    if decided.clean + decided.flagged + decided.unscored != batch.readable:
        return "verdicts do not add up"
    seen.update(clean=decided.clean, flagged=decided.flagged, unscored=decided.unscored, rejected=batch.rejected)
    seen["files published"] += published is not None
    folder = store.batch(batch.batch_key)
    for file in folder.rglob("*.json*"):
        if file.name.startswith("clean") or file.parent.name == "source":
            continue  # as the source has it
        for text in [file.read_text(encoding="utf-8")] if file.suffix == ".json" else file.open(encoding="utf-8"):
            try:
                json.loads(text, parse_constant=_refuse)
            except ValueError as error:
                return f"{file.name} is no JSON: {error}"
    if published is None:
        return ""
    if published.clean_rows + published.quarantined_rows + batch.rejected != batch.read:
        return "published rows do not add up"
    if len(published.quarantine.read_bytes().splitlines()) != published.quarantined_rows:
        return "quarantine has another number of lines"
    left = sum(1 for _ in open_source(str(published.clean)).records()) if published.clean_rows else 0
    return "" if left == published.clean_rows else f"clean reads as {left} rows instead of {published.clean_rows}"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def test_ten_thousand_fuzzed_rows(
    tmp_path: Path, tried: Callable[[str], Tried], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = tried(f"{ROWS:,} fuzzed rows over {len(LAYOUTS)} layouts and {len(KINDS)} kinds of file")
    monkeypatch.setattr(scorer, "score_samples", stand_in)
    monkeypatch.setattr(model, "load_model", lambda identity, whole: SimpleNamespace(whole=whole))
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("{}")
    save_file({}, tmp_path / "model" / "model.safetensors")
    store, draw = Store(tmp_path / "store"), random.Random(20_26)
    pairs = [(layout, kind) for layout in LAYOUTS for kind in KINDS]
    seen: Counter[str] = Counter()
    while line.times < ROWS:
        layout, kind = pairs[line.times // A_FILE % len(pairs)]
        path = tmp_path / f"{layout}{line.times}.{kind}"
        expected = write_rows(path, kind, made_rows(draw, layout, A_FILE), draw)
        line.times += A_FILE
        fault = faults_of(path, expected, store, seen)
        line.check(not fault, f"{path.name}: {fault}")
    line.check(min(seen["clean"], seen["rejected"], seen["files published"]) > 0, f"tried nothing: {seen}")
    line.note = ", ".join(f"{count:,} {what}" for what, count in seen.items())
    line.faults += [f"audit verify: {problem}" for problem in verify(store.ledger).problems]
