"""Batches of any size: blocks of rows, each searched by itself, then every trigger found is looked for everywhere.

Rows are dealt out by the rank of their sample id, so blocks are fair samples and no order of rows moves them. A trigger
of one block, proven at a level shared among the blocks, is tested once more on its carriers in the whole batch, against
rows of the whole batch, with nothing to correct for but the number of triggers. Time is linear in the rows, and memory
is one block's similarities: texts and sketches of the others lie on disk (on_disk.py). A trigger needs its rows in at
least one block: some eight of 2,000.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.prompts import Name, carries, tokenize
from gradsentry_lib.detection.reason import Reason, Swapped
from gradsentry_lib.detection.search import Detection, detect
from gradsentry_lib.detection.second_look import Proven
from gradsentry_lib.detection.texts import Rows, by_id, take


@dataclass(frozen=True)
class Block:
    """Rows to be searched together, by `detect`; `given`, `of`, `share` as there."""

    rows: Rows
    given: Sequence[tuple[Name, ...]] = ()
    of: int = 1
    share: int = 1

    def search(self, config: DetectionConfig, swapped: Swapped | None) -> Detection:
        return detect(self.rows, config, swapped, given=self.given, of=self.of, share=self.share)


# What is found in each of some blocks, in their order.
Search = Callable[[Iterable[Block], DetectionConfig, Swapped | None], Iterator[Detection]]


def search_here(blocks: Iterable[Block], config: DetectionConfig, swapped: Swapped | None) -> Iterator[Detection]:
    """One after the other, in this process."""
    for block in blocks:
        yield block.search(config, swapped)


SEARCH: ContextVar[Search] = ContextVar("search", default=search_here)  # where blocks are searched; decides no verdict


def detect_all(rows: Rows, config: DetectionConfig | None = None, swapped: Swapped | None = None) -> Detection:
    """As `detect`, for any number of rows. Several blocks are searched as SEARCH says."""
    config, n = config or DetectionConfig(), len(rows.ids)
    block, together = config.computing.block, config.computing.together
    if n <= block:
        return detect(rows, config, swapped)
    order = by_id(rows.ids)
    count, search = -(-n // block), SEARCH.get()
    flagged = np.zeros(n, bool)
    triggers: list[Proven] = []
    watched: dict[Name, list[np.ndarray]] = {}
    unproven: list[tuple[np.ndarray, Reason]] = []
    features = 0
    blocks = (Block(take(rows, order[number::count]), share=count) for number in range(count))
    for number, found in enumerate(search(blocks, config, swapped)):
        here = order[number::count]
        features = max(features, found.features)
        for trigger in found.triggers:
            triggers.append(replace(trigger, carriers=here[trigger.carriers], flagged=here[trigger.flagged]))
        for tag, tagged in found.watched:
            watched.setdefault(tag, []).append(here[tagged])
        unproven += [(here[alike], reason) for alike, reason in found.alike]
    triggers = _each_once(triggers)
    poison = [trigger for trigger in triggers if trigger.poison]
    for trigger in poison:
        flagged[trigger.flagged] = True
    names = {trigger.names: trigger for trigger in poison}
    for (name, trigger), has in zip(names.items(), _carry(rows.prompts, list(names)), strict=True):
        held = has[order]
        carriers, others = order[held], order[~held]
        others = others[:: max(1, len(others) // (block - together))][: block - together]
        parts = [np.concatenate([carriers[at : at + together], others]) for at in range(0, len(carriers), together)]
        blocks = (Block(take(rows, part), given=(name,), of=len(names)) for part in parts)
        for here, again in zip(parts, search(blocks, config, swapped), strict=True):
            for found_again in again.triggers:
                if found_again.poison:
                    flagged[here[found_again.flagged]] = True
        mine = np.unique(np.concatenate([trigger.flagged, carriers[flagged[carriers]]]))
        triggers[triggers.index(trigger)] = replace(trigger, carriers=np.sort(carriers), flagged=mine)
    every = tuple((tag, np.sort(np.concatenate(parts))) for tag, parts in watched.items())
    unproven = [(alike, reason) for alike, reason in unproven if flagged[alike].mean() <= config.majority]
    return Detection(flagged, tuple(triggers), features, every, tuple(unproven))


def _carry(prompts: Sequence[str], triggers: Sequence[Sequence[Name]]) -> np.ndarray:
    """(T, N) which prompts carry each of T triggers."""
    held = np.zeros((len(triggers), len(prompts)), bool)
    for i, prompt in enumerate(prompts if triggers else ()):
        tokens = tokenize(prompt)
        held[:, i] = [carries(tokens, names) for names in triggers]
    return held


def _each_once(triggers: Sequence[Proven]) -> list[Proven]:
    """Triggers of several blocks, each with its rows in all of them."""
    found: dict[tuple[object, bool], Proven] = {}
    for trigger in triggers:
        key = (trigger.names, trigger.poison)
        first = found.get(key, trigger)
        found[key] = replace(
            min(first, trigger, key=lambda one: one.log10_p),
            carriers=np.union1d(first.carriers, trigger.carriers),
            flagged=np.union1d(first.flagged, trigger.flagged),
        )
    return list(found.values())
