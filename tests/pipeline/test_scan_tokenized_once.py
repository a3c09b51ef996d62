"""A row is tokenized once for its score and once for its words; a re-scan tokenizes none."""

from collections import Counter
from pathlib import Path

import pytest

from gradsentry_lib.detection import prompts
from gradsentry_lib.pipeline.decide import DecisionConfig
from gradsentry_lib.scoring import scorer
from gradsentry_lib.store.paths import Store
from tests.pipeline.builder import OPEN, lines, run, write

AUTO = DecisionConfig("auto", OPEN.threshold, OPEN.limits, OPEN.limits_by, OPEN.limits_reason)


def test_each_row_once(model: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: Counter[int] = Counter()
    read: Counter[str] = Counter()
    encode, tokenize = scorer.encode, prompts.tokenize

    def counted_encode(sample, *others):
        encoded[sample.row] += 1
        return encode(sample, *others)

    def counted_tokenize(text):
        read[text] += 1
        return tokenize(text)

    monkeypatch.setattr(scorer, "encode", counted_encode)
    monkeypatch.setattr(prompts, "tokenize", counted_tokenize)
    source = write(tmp_path / "rows.jsonl", lines(range(40)))
    run(source, model, store, decision=AUTO)
    assert encoded == Counter(range(40))
    assert len(read) == 40 and set(read.values()) == {1}
    run(source, model, store, decision=AUTO)
    assert encoded.total() == 40 and read.total() == 40  # found again
