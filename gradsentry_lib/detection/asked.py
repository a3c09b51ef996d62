"""What the model is asked of a proven trigger (clause 3), and which rows that leaves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import Features
from gradsentry_lib.detection.groups import groups, kin
from gradsentry_lib.detection.left import Left
from gradsentry_lib.detection.prompts import EARLIER
from gradsentry_lib.detection.reason import (
    Reason,
    Swapped,
    ask,
    commonest_window,
    explained,
    seen,
    shared_windows,
    unprompted,
    unseen,
)
from gradsentry_lib.detection.second_look import Proven, is_poison
from gradsentry_lib.detection.similarity import Windows
from gradsentry_lib.detection.texts import Rows
from gradsentry_lib.detection.trigger import held


@dataclass(frozen=True)
class Model:
    """The untouched model, to be asked about N rows, of the windows `spans`; `same`: (N,) questions and rows."""

    rows: Rows
    spans: Windows
    same: Sequence[np.ndarray]
    config: DetectionConfig
    swapped: Swapped

    @cached_property
    def _size(self) -> np.ndarray:
        return np.array([len(p) + len(a) for p, a in zip(self.rows.prompts, self.rows.answers, strict=True)])

    @cached_property
    def _later(self) -> np.ndarray:
        return np.array([EARLIER in prompt for prompt in self.rows.prompts])

    def judge(self, trigger: Proven, clauses: tuple[int, ...], features: Features, left: Left) -> Proven:
        """The trigger with what the model says of it. Of poison, rows with the same of its clauses are let go where the
        model sees a reason for what they share by themselves; and rows that lack its words but answer as its rows do,
        of which it sees none, are flagged as well."""
        others = np.setdiff1d(left.rows, trigger.carriers)
        trigger = replace(trigger, reason=self.reason(trigger.flagged, trigger.flagged, others))
        trigger = replace(trigger, poison=is_poison(trigger, self.config))
        if not trigger.poison:
            return trigger
        flagged = self._without_explained(trigger, clauses, features, others)
        if len(flagged) <= self.config.majority * len(trigger.flagged):
            return replace(trigger, poison=False)  # what is left is not what the trigger was proven by
        near = left.rows[kin(left.place[flagged], groups(left.within, self.config), self.config)]
        near = np.setdiff1d(near, trigger.flagged)  # not those of which the model sees a reason
        every = np.union1d(flagged, near)
        if len(near) and unseen(self.reason(near, every, np.setdiff1d(others, near)), self.config):
            flagged = every
        return replace(trigger, flagged=flagged, poison=bool(len(flagged)))

    def unprompted(self, left: Left, known: np.ndarray) -> Iterator[tuple[np.ndarray, Reason]]:
        """Groups of answers, most of them under no known trigger (known: (N,) bool), that are alike for no reason that
        the model sees; their rows, and what it says."""
        for group in groups(left.within, self.config)[: self.config.computing.unproven]:
            rows = left.rows[group]
            if known[rows].mean() > self.config.majority:
                continue
            reason = self.reason(rows, rows, np.setdiff1d(left.rows, rows))
            if reason is not None and unprompted(reason, self.config):
                yield rows, reason

    def _without_explained(
        self, trigger: Proven, clauses: tuple[int, ...], features: Features, others: np.ndarray
    ) -> np.ndarray:
        flagged, least = trigger.flagged, self.config.computing.fewest
        which, number = np.unique(held(features, clauses, flagged), axis=0, return_inverse=True)
        kept = np.ones(len(flagged), bool)
        for same in (number.ravel() == one for one in range(len(which))):
            alone = flagged[same]
            if least <= len(alone) < len(flagged) and seen(self.reason(alone, alone, others), self.config):
                kept[same] = False
        return flagged[kept]

    def reason(self, some: np.ndarray, flagged: np.ndarray, others: np.ndarray) -> Reason | None:
        """What the model says of some rows, for what they share with the flagged ones; under prompts of others."""
        rows, spans, config = self.rows, self.spans, self.config
        asked = ask(some, others, self.same, self._size, self._later, config)
        shown = [tuple(rows.ids[k] for k in ks) for _, _, ks in asked]
        own = [(rows.ids[i], rows.ids[i], ids) for (i, _, _), ids in zip(asked, shown, strict=True)]
        other = [(rows.ids[i], rows.ids[j], ids) for (i, j, _), ids in zip(asked, shown, strict=True)]
        said = self.swapped([*own, *other])
        numbers = [i for i, _, _ in asked]
        shared = shared_windows(spans.vectors, spans.owner, flagged, numbers, config.alike)
        common = commonest_window(spans.vectors, spans.owner, flagged, numbers, config.nearest)
        return explained(numbers, shared, common, spans.start, said[: len(own)], said[len(own) :], config)
