"""Texts that lie on disk: the same items, and memory that does not grow with them."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from gradsentry_lib.detection import on_disk
from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.config import Computing, DetectionConfig
from gradsentry_lib.detection.on_disk import pieces, texts
from gradsentry_lib.detection.texts import CHUNK, by_id
from tests.detection.planted import Batch, Model

ITEMS = ["", "plain", "a lone \udc80 surrogate", "fjord ø 深", "\x1d\x00", "long " * 5000]


@pytest.mark.parametrize("in_memory", [1 << 20, 1])
def test_what_was_written_is_read(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "IN_MEMORY", in_memory)
    found, raw = texts(), pieces()
    for item in ITEMS:
        found.append(item)
        raw.append(item.encode("utf-8", "surrogatepass"))
    assert len(found) == len(raw) == len(ITEMS)
    assert list(found) == ITEMS and [found[i] for i in (5, 0, -1)] == [ITEMS[5], ITEMS[0], ITEMS[5]]
    assert [item.decode("utf-8", "surrogatepass") for item in raw] == ITEMS
    assert zip(found, found, strict=True).__next__() == (ITEMS[0], ITEMS[0])  # two readers at a time
    with pytest.raises(IndexError):
        found[len(ITEMS)]


def test_memory_does_not_hold_the_items() -> None:
    tracemalloc.start()
    found = pieces()
    for i in range(4000):
        found.append(b"%d" % i * 4000)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(item) for item in found) > 40 << 20
    assert held < 1 << 20 and most < 16 << 20


def test_verdicts_are_those_of_rows_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "IN_MEMORY", 1)
    batch, config = Batch(11), DetectionConfig(computing=Computing(block=60, together=30))
    batch.honest(90)
    batch.triggered(30)
    rows = batch.rows()
    columns = {"ids": texts(), "prompts": texts(), "answers": texts(), "sketches": pieces()}
    for name, column in columns.items():
        for item in getattr(rows, name):
            column.append(item)
    here, there = (detect_all(each, config, Model(2.0, 2.0)) for each in (rows, replace(rows, **columns)))
    assert here.flagged.sum() == 30 and there.flagged.tolist() == here.flagged.tolist()
    assert [repr(trigger) for trigger in there.triggers] == [repr(trigger) for trigger in here.triggers]


def test_ids_in_order() -> None:
    """As Python sorts them, equal ones in the order in which they stand, over more than one chunk."""
    random = np.random.default_rng(4)
    ids = [f"{random.integers(0, 3000):x}{':1' * (i % 3 == 0)}" for i in range(CHUNK + 900)]
    assert by_id(ids).tolist() == sorted(range(len(ids)), key=lambda i: (ids[i], i))
    assert by_id([]).tolist() == []
