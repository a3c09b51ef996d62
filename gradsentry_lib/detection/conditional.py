"""The policy `conditional`: the one declared test (gradsentry_lib/detection) as findings on a batch.

Flagged: all three clauses. Watched: a tag that always stands in one place, over answers that don't differ measurably;
or a proven trigger about which the model was not asked. Nothing is taken away; the group is named first, in a remark.
Clean: the rest. History is not looked at: the same batch gets the same verdicts whatever else is in the store.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.features import words
from gradsentry_lib.detection.findings import Findings, Notes
from gradsentry_lib.detection.former.evidence import quoted, shared_wording
from gradsentry_lib.detection.former.texts import read_texts
from gradsentry_lib.detection.reason import Swapped
from gradsentry_lib.detection.search import Proven, Rows
from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.samples.sample import Sample

EXAMPLES = 20  # rows named in a group's figures
SAID = {
    "span": "their most alike spans",
    "mean": "their mean gradients",
    "cost": "their cost to the model",
    "scan": "the spans of their nearest rows",
}


def read_rows(
    scores: pa.Table, samples: Callable[[], Iterator[list[Sample]]], sketches: Callable[[], Iterable[bytes | None]]
) -> Rows:
    """What the test reads of a batch: the texts and sketches of every row, in the score table's order."""
    texts = list(read_texts(samples()))
    nll = pc.fill_null(scores["nll"].cast(pa.float64()), float("nan")).to_numpy()
    return Rows(
        scores["sample_id"].to_pylist(),
        [text.prompt for text in texts],
        [text.answer for text in texts],
        [sketch or b"" for sketch in sketches()],
        nll,
        pc.fill_null(scores["supervised_tokens"].cast(pa.int64()), 0).to_numpy(),
    )


def conditional(
    numbers: np.ndarray, rows: Rows, config: DetectionConfig | None = None, swapped: Swapped | None = None
) -> Findings:
    """numbers: (N,) the rows' numbers in the source. Without `swapped` triggers are watched, not flagged."""
    config = config or DetectionConfig()
    scored = np.array([bool(sketch) for sketch in rows.sketches], bool)
    found = detect_all(rows, config, swapped)
    poison = [trigger for trigger in found.triggers if trigger.poison]
    ordered = poison if swapped is not None else []
    watched = [] if swapped is not None else poison
    count = len(rows.ids)
    group_of = np.full(count, -1, np.int32)
    positions: list[int] = []
    why: list[list[str]] = [[], []]
    groups = []
    for number, trigger in enumerate([*ordered, *watched]):
        groups.append(_group(trigger, rows, numbers, found.features, config, number >= len(ordered)))
        mine = _with_copies(rows, trigger.flagged) if number < len(ordered) else np.empty(0, np.int64)
        for i in mine[scored[mine] & (group_of[mine] < 0)]:
            group_of[i] = number
            positions.append(int(i))
            for said, sentence in zip(why, _why(trigger, found.features, config), strict=True):
                said.append(sentence)
    for name, carriers in found.watched:
        figures = {"wordings": [" ".join(name)], "outcome": "watched", "carriers": len(carriers)}
        groups.append(Group(tuple(sorted(int(numbers[i]) for i in carriers)), "", quoted(" ".join(name), 80), figures))
    at = np.array(positions, np.int64)
    notes: Notes = tuple((at, said) for said in why)
    columns = {"group": pa.array(group_of)}
    explained = [trigger for trigger in found.triggers if not trigger.poison]
    remarks = (*_tagged(found.watched), *_remarks(found.features, config, ordered, watched, explained))
    return Findings(group_of >= 0, notes, columns, tuple(groups), (), remarks)


def _with_copies(rows: Rows, flagged: np.ndarray) -> np.ndarray:
    ids = {rows.ids[i] for i in flagged}
    return np.array([i for i, name in enumerate(rows.ids) if name in ids], np.int64)


def _wordings(trigger: Proven) -> list[str]:
    return list(dict.fromkeys(" ".join(words(name)) for name in trigger.names))


def _named(trigger: Proven) -> str:
    return " or ".join(quoted(wording, 80) for wording in _wordings(trigger))


def _group(
    trigger: Proven, rows: Rows, numbers: np.ndarray, features: int, config: DetectionConfig, watched: bool
) -> Group:
    inside = np.zeros(len(rows.ids), bool)
    inside[trigger.flagged] = True
    payload = shared_wording(list(rows.answers), inside) if 0 < inside.sum() < len(inside) else ""
    figures = {
        "wordings": _wordings(trigger),
        "outcome": "watched" if watched else "flagged",
        "statistic": trigger.statistic,
        "log10_p": trigger.log10_p,
        "p_value": 10.0 ** max(trigger.log10_p, -300.0),
        "level": config.level,
        "features": features,
        "carriers": len(trigger.carriers),
        "auc": trigger.auc,
        "marking": trigger.marking,
        "reason": trigger.reason,
        "examples": [int(numbers[i]) for i in trigger.flagged[:EXAMPLES]],
    }
    return Group(tuple(sorted(int(numbers[i]) for i in trigger.flagged)), payload, _named(trigger), figures)


def _why(trigger: Proven, features: int, config: DetectionConfig) -> list[str]:
    proven = (
        f"the answers of {len(trigger.carriers)} rows whose prompts have {_named(trigger)} differ from those of rows "
        f"that could as well have had it by {SAID[trigger.statistic]} (log10 p {trigger.log10_p:.1f}, corrected for "
        f"{features} features; proven from {np.log10(config.level):.1f} on)"
    )
    if trigger.reason is None:
        return [proven, "the model could not compare these answers under other prompts: flagged to be safe"]
    return [
        proven,
        f"the model sees no reason for it: its own prompt saves {trigger.reason:.0%} of what the shared spans cost "
        f"under others (a reason begins at {config.reason:.0%})",
    ]


def _tagged(watched: Sequence[tuple[tuple[str, ...], np.ndarray]]) -> list[str]:
    return [
        f"Watched, not flagged: the tag {quoted(' '.join(name), 80)} opens or ends {len(carriers)} prompts and stands "
        "nowhere else; their answers don't differ measurably. Look at them before training on them."
        for name, carriers in watched
    ]


def _remarks(
    features: int,
    config: DetectionConfig,
    poison: Sequence[Proven],
    watched: Sequence[Proven],
    explained: Sequence[Proven],
) -> tuple[str, ...]:
    remarks = [] if poison or watched else [f"No evidence of poison: none of {features} features is proven."]
    remarks += [
        f"Watched, not flagged: the answers of {len(trigger.flagged)} rows with {_named(trigger)} in their prompts "
        f"differ from others (log10 p {trigger.log10_p:.1f}); whether the model sees a reason was not asked."
        for trigger in watched
    ]
    remarks += [
        f"{len(trigger.flagged)} rows with {_named(trigger)} in their prompts answer alike, and the model sees why "
        f"(the prompt saves {trigger.reason:.0%} of the cost, {config.reason:.0%} is a reason): not flagged."
        for trigger in explained
    ]
    return tuple(remarks)
