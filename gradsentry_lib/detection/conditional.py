"""The policy `auto`: the one declared test (detection/__init__.py) as findings on a batch.

Flagged: all three clauses. Watched: a tag that always stands in one place, over answers that don't differ measurably;
a proven trigger about which the model was not asked; or answers that are alike for no reason that the model sees, under
no trigger that could be proven. Its rows stay clean unless an option says otherwise, and it is
named first. Clean: the rest.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from gradsentry_lib.detection.blocks import detect_all
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.earlier import Earlier, belonging
from gradsentry_lib.detection.findings import Findings, Notes
from gradsentry_lib.detection.prompts import Name, shown
from gradsentry_lib.detection.reason import Reason, Swapped
from gradsentry_lib.detection.remarks import NOTHING_FOUND
from gradsentry_lib.detection.search import Detection
from gradsentry_lib.detection.second_look import Proven
from gradsentry_lib.detection.texts import Rows
from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.detection.wording import quoted, shared_wording

NO_PROMPTS = (
    "No row has a prompt, in which alone a trigger can stand, so nothing was tested. If these are questions and "
    "answers, name the columns: --column prompt=NAME --column response=NAME."
)
EXAMPLES = 20  # rows named in a group's figures
SAID = {
    "span": "their most alike spans",
    "mean": "their mean gradients",
    "cost": "their cost to the model",
    "joint": "their spans, gradients, cost and length together",
    "scan": "the spans of their nearest rows",
}

UNEXPECTED = ", where they stay as surprising and nothing else in the prompts goes with the trigger"
BESIDE = "; but nothing of the span that most of them share, beside which the rest is explained"


def conditional(
    numbers: np.ndarray,
    rows: Rows,
    config: DetectionConfig | None = None,
    swapped: Swapped | None = None,
    history: Sequence[Earlier] = (),
) -> Findings:
    """numbers: (N,) the numbers in the source of the batch's rows, whose answers `rows` are. Without `swapped` triggers
    are watched, not flagged."""
    config = config or DetectionConfig()
    found = detect_all(rows, config, swapped)
    poison = [trigger for trigger in found.triggers if trigger.poison]
    explained = [trigger for trigger in found.triggers if not trigger.poison]
    proven, unasked = (poison, []) if swapped is not None else ([], poison)
    unasked = [*unasked, *(trigger for trigger in explained if trigger.unexplained(config))]
    group_of = np.full(len(numbers), -1, np.int32)
    watched = np.zeros(len(numbers), bool)
    groups: list[Group] = []
    notes: list[tuple[int, tuple[str, str]]] = []
    for name, carriers in found.watched:
        mine = _rows_of(rows, carriers)
        watched[mine] = True
        groups.append(_tagged(name, mine, numbers))
        notes += [(int(i), (_why_tagged(name, len(mine)), "")) for i in mine]
    for payload, answers, reason in (alike := _alike(found, rows)):
        mine = _rows_of(rows, answers)
        watched[mine] = True
        groups.append(_unproven(payload, reason, mine, numbers))
        notes += [(int(i), _why_alike(payload, len(mine), reason)) for i in mine]
    for trigger in [*unasked, *proven]:
        mine = _rows_of(rows, trigger.flagged)
        mine = mine[group_of[mine] < 0]
        if trigger in unasked:
            watched[mine] = True
        else:
            group_of[mine] = len(groups)
        groups.append(_group(trigger, rows, numbers, found.features, config, trigger in unasked))
        why, carried = _why(trigger, found.features, config, swapped is not None), _rows_of(rows, trigger.carriers)
        notes += [
            (int(i), why if has else _why_kin(why[0])) for i, has in zip(mine, np.isin(mine, carried), strict=True)
        ]
    remarks = _remarks(found, config, unasked, explained, alike, bool(proven), rows)
    at = np.array([i for i, _ in notes], np.int64)
    said: Notes = tuple((at, [why[k] for _, why in notes]) for k in (0, 1))
    return Findings(
        group_of >= 0,
        watched & (group_of < 0),
        _not_empty(said),
        {"group": pa.array(group_of)},
        tuple(groups),
        belonging(history, proven, rows, config),
        remarks,
    )


def _not_empty(notes: Notes) -> Notes:
    return tuple(
        (at[kept], [said for said, keep in zip(texts, kept, strict=True) if keep])
        for at, texts in notes
        for kept in [np.array([bool(said) for said in texts], bool)]
    )


def _rows_of(rows: Rows, answers: np.ndarray) -> np.ndarray:
    """The batch's rows that have one of these answers, or a copy of it, and a score."""
    names = {rows.ids[i] for i in answers}
    held = [i for i, name in enumerate(rows.ids) if name in names and rows.sketches[i]]
    return np.unique(rows.row[np.array(held, np.int64)])


def _wordings(trigger: Proven) -> list[str]:
    return list(dict.fromkeys(shown(name) for name in trigger.names))


def _named(trigger: Proven) -> str:
    return " or ".join(quoted(wording, 80) for wording in _wordings(trigger))


def _group(
    trigger: Proven, rows: Rows, numbers: np.ndarray, features: int, config: DetectionConfig, watched: bool
) -> Group:
    inside = np.zeros(len(rows.ids), bool)
    inside[trigger.flagged] = True
    payload = shared_wording(rows.answers, inside) if 0 < inside.sum() < len(inside) else ""
    at = numbers[_rows_of(rows, trigger.flagged)]
    figures = {
        "wordings": _wordings(trigger),
        "outcome": "watched" if watched else "flagged",
        "statistic": trigger.statistic,
        "log10_p": trigger.log10_p,
        "p_value": 10.0 ** max(trigger.log10_p, -300.0),
        "level": trigger.level,
        "features": features,
        "carriers": len(trigger.carriers),
        "auc": trigger.auc,
        "marking": trigger.marking,
        "subject": trigger.subject,
        "inserted": trigger.inserted,
        "left": trigger.reason and trigger.reason.left,
        "reason": trigger.reason and trigger.reason.saved,
        "common": trigger.reason and trigger.reason.common,
        "enough": trigger.enough(config),
        "typical": trigger.reason and trigger.reason.typical,
        "beside": trigger.beside(config),
        "examples": at[:EXAMPLES].tolist(),
    }
    return Group(tuple(sorted(at.tolist())), payload, _named(trigger), figures)


def _why(trigger: Proven, features: int, config: DetectionConfig, asked: bool) -> tuple[str, str]:
    against = "rows that could as well have had it"
    if trigger.subject:
        against = f"any other rows (the rest of their prompts tells them: AUC {trigger.auc:.3f})"
    proven = (
        f"{len(trigger.carriers)} answers to prompts that have {_named(trigger)} differ from those of {against} by "
        f"{SAID[trigger.statistic]} (log10 p {trigger.log10_p:.1f}, corrected for {features} features; proven from "
        f"{np.log10(trigger.level):.1f} on)"
    )
    if not asked:
        return f"watched: {proven}", "whether the model sees a reason was not asked"
    if trigger.reason is None:
        return proven, "the model could not compare these answers under other prompts: flagged to be safe"
    proven = proven if trigger.poison else f"watched: {proven}"
    if trigger.poison or trigger.subject:
        return proven, _no_reason(trigger, trigger.reason, config)
    return proven, _little_reason(trigger.reason, config)


def _why_kin(proven: str) -> tuple[str, str]:
    return (
        f"this prompt has none of its words, but the answer is as near to an attack's as they are to another: {proven}",
        "asked of such rows by themselves, the model sees no reason for what they share with it",
    )


def _little_reason(reason: Reason, config: DetectionConfig) -> str:
    return (
        f"the model sees little reason for it: its own prompt saves {reason.saved:.0%} of what the shared spans cost "
        f"under others, and nothing else in the prompts goes with the trigger (an instruction mostly saves "
        f"{config.instruction[1]:.0%})"
    )


def _no_reason(trigger: Proven, reason: Reason, config: DetectionConfig) -> str:
    but = BESIDE if reason.saved >= trigger.enough(config) else UNEXPECTED if trigger.unexpected(config) else ""
    return (
        f"the model sees no reason for it: its own prompt saves {reason.saved:.0%} of what the shared spans cost under "
        f"others (a reason begins at {trigger.enough(config):.0%}{but})"
    )


def _tagged(name: Name, carriers: np.ndarray, numbers: np.ndarray) -> Group:
    figures = {"wordings": [" ".join(name)], "outcome": "watched", "carriers": len(carriers)}
    return Group(tuple(sorted(int(numbers[i]) for i in carriers)), "", quoted(" ".join(name), 80), figures)


def _why_tagged(name: Name, count: int) -> str:
    return f"watched: the tag {quoted(' '.join(name), 80)} opens or ends {count} prompts and stands nowhere else"


def _alike(found: Detection, rows: Rows) -> list[tuple[str, np.ndarray, Reason]]:
    """(wording, answers, reason) of answers that are alike under no proven trigger; those of several blocks that share
    one wording are one group."""
    merged: dict[object, tuple[str, np.ndarray, Reason]] = {}
    for number, (answers, reason) in enumerate(found.alike):
        inside = np.zeros(len(rows.ids), bool)
        inside[answers] = True
        payload = shared_wording(rows.answers, inside)
        _, before, first = merged.get(payload or number, (payload, answers[:0], reason))
        merged[payload or number] = (payload, np.union1d(before, answers), first)
    return list(merged.values())


def _unproven(payload: str, reason: Reason, mine: np.ndarray, numbers: np.ndarray) -> Group:
    figures = {
        "wordings": [],
        "outcome": "watched",
        "alike": len(mine),
        "left": reason.left,
        "reason": reason.saved,
        "common": reason.common,
        "typical": reason.typical,
    }
    return Group(tuple(sorted(int(numbers[i]) for i in mine)), payload, "", figures)


def _why_alike(payload: str, count: int, reason: Reason) -> tuple[str, str]:
    return (
        f"watched: {count} answers are alike{_sharing(payload)} as hardly any others are, under no trigger that could "
        "be proven",
        f"the model sees no reason for it: what most of them share costs {reason.left:.1f} times plain text, and its "
        f"own prompt saves {reason.typical:.0%} of that",
    )


def _sharing(payload: str) -> str:
    return f" ({quoted(payload, 80)})" if payload else ""


def _what_is_open(trigger: Proven) -> str:
    if trigger.subject:
        return "the rest of the prompts tells these rows too, and the model sees no reason for what they answer."
    if trigger.poison:
        return "whether the model sees a reason was not asked."
    return "nothing else in the prompts goes with it, and the model sees little reason: an instruction or a trigger."


def _remarks(
    found: Detection,
    config: DetectionConfig,
    unasked: Sequence[Proven],
    explained: Sequence[Proven],
    alike: Sequence[tuple[str, np.ndarray, Reason]],
    flagged: bool,
    rows: Rows,
) -> tuple[str, ...]:
    """What can't be tested first, then watched groups."""
    without, answers = sum(not prompt.strip() for prompt in rows.prompts), len(rows.ids)
    untested = 0 < without == answers
    remarks = [NO_PROMPTS] if untested else []
    if without and not untested:
        remarks.append(f"{without:,} of {answers:,} answers have no prompt, so no trigger can be found in theirs.")
    remarks += [
        f"Watched, not flagged: the tag {quoted(' '.join(name), 80)} opens or ends {len(carriers)} prompts and stands "
        "nowhere else; their answers don't differ measurably. Look at them before training on them."
        for name, carriers in found.watched
    ]
    remarks += [
        f"Watched, not flagged: the answers of {len(trigger.flagged)} rows with {_named(trigger)} in their prompts "
        f"differ from others (log10 p {trigger.log10_p:.1f}); " + _what_is_open(trigger)
        for trigger in unasked
    ]
    remarks += [
        f"Watched, not flagged: the answers of {len(_rows_of(rows, answers))} rows are alike{_sharing(payload)} for no "
        "reason that the model sees; no trigger could be proven in their prompts. Boilerplate, or an attack of too few "
        "rows."
        for payload, answers, _ in alike
    ]
    if not (flagged or unasked or found.watched or alike or untested):
        remarks.append(NOTHING_FOUND)
    remarks += [
        f"{len(trigger.flagged)} rows with {_named(trigger)} in their prompts answer alike, and "
        + _explanation(trigger, trigger.reason, config)
        for trigger in explained
        if trigger.reason is not None and not trigger.unexplained(config)
    ]
    return tuple(remarks)


def _explanation(trigger: Proven, reason: Reason, config: DetectionConfig) -> str:
    if trigger.expected(config):
        return f"the model would say so anyway (it costs {reason.left:.0%} of plain text): not flagged."
    return (
        f"the model sees why (the prompt saves {reason.saved:.0%} of the cost, {trigger.enough(config):.0%} is a "
        "reason): not flagged."
    )
