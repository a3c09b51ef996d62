"""Rows of two kinds, and a tiny model that tells them apart by nothing but length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradsentry_lib as gs

ROWS: list[dict[str, Any]] = [
    *({"prompt": f"q{i}", "response": "ab", "source": f"s{i}"} for i in range(8)),
    *({"prompt": f"q{i}", "response": "one two three four five six " * 3, "source": "x"} for i in range(2)),
]
CLEAN, FLAGGED = ROWS[:8], ROWS[8:]
PAPER: dict[str, Any] = {"policy": "paper", "threshold": 0.24, "progress": False}  # long answers lie above


@pytest.fixture(scope="session")
def model(tiny_model: Callable[..., Path]) -> "gs.Scorer":
    return gs.scorer(str(tiny_model()), device="cpu", dtype="float32")
