"""Earlier batches: rows that belong to a group which this batch's own rows made. A person is told to flag them.

They are no part of the test: what lies in a store moves no verdict of another batch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.prompts import carries, tokenize
from gradsentry_lib.detection.second_look import Proven
from gradsentry_lib.detection.similarity import Windows, between, windows
from gradsentry_lib.detection.texts import Rows, by_id, read_texts
from gradsentry_lib.samples.sample import Sample

Sketches = Callable[[], Iterable[bytes | None]]  # reads the sketches of a batch, in order


@dataclass(frozen=True)
class Earlier:
    """An earlier batch: its key, its row numbers, and readers of its sketches and samples in the same order."""

    key: str
    rows: np.ndarray
    sketches: Sketches
    samples: Callable[[], Iterator[list[Sample]]]


def belonging(
    history: Sequence[Earlier], triggers: Sequence[Proven], rows: Rows, config: DetectionConfig
) -> tuple[tuple[str, int], ...]:
    """(batch key, row) of earlier rows that carry a proven trigger over an answer as near to its rows as most of them,
    `config.alike`, are to one another."""
    if not history or not triggers:
        return ()
    order = by_id(rows.ids)[: config.computing.block]
    centre = windows([rows.sketches[i] for i in order], config).centre
    groups = [_group(trigger, rows, config, centre) for trigger in triggers]
    found = []
    for earlier in history:
        texts = read_texts(earlier.samples())
        for row, text, sketch in zip(earlier.rows, texts, earlier.sketches(), strict=True):
            tokens = tokenize(text.prompt)
            for trigger, (own, bar) in zip(triggers, groups, strict=True):
                if sketch and carries(tokens, trigger.names):
                    link = between(windows([sketch], config, centre), own)
                    if len(link) and _nearest(link[0], config.nearest) >= bar:
                        found.append((earlier.key, int(row)))
                        break
    return tuple(found)


def _group(trigger: Proven, rows: Rows, config: DetectionConfig, centre: np.ndarray) -> tuple[Windows, float]:
    own = windows([rows.sketches[i] for i in trigger.flagged], config, centre)
    link = between(own, own)
    np.fill_diagonal(link, -np.inf)
    near = [_nearest(np.delete(line, i), config.nearest) for i, line in enumerate(link)]
    return own, float(np.quantile(near, 1 - config.alike)) if len(near) > 1 else np.inf


def _nearest(link: np.ndarray, nearest: int) -> float:
    return float(np.sort(link)[-nearest:].mean())
