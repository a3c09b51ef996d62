"""Linked span coherence over a batch of any size: search.py, block by block.

Up to 7,500 rows are searched as a whole. More are dealt out into blocks of that size (deal.py); what is found in one
block is then looked for in the others. So time is near-linear in the rows, and memory is one block's sketches and texts
beside a few numbers a row. A payload needs its few rows in at least one block.
"""

from dataclasses import dataclass, replace

import numpy as np

from gradsentry_lib.detection.former.deal import Deal
from gradsentry_lib.detection.former.evidence import excerpt, locate, shared_wording, trigger_wording
from gradsentry_lib.detection.former.groups import Links, closeness_to, pick_core
from gradsentry_lib.detection.former.kinship import nearest_prompts
from gradsentry_lib.detection.former.labels import find_labels, is_task
from gradsentry_lib.detection.former.neighbours import Windows, nearest, read_windows
from gradsentry_lib.detection.former.prompts import Asked, Prompts, grams, read_prompts, tokenize
from gradsentry_lib.detection.former.search import find_suspects
from gradsentry_lib.detection.former.suspects import Suspects, say_flagged
from gradsentry_lib.detection.former.texts import Texts, Turns, number_questions

MATES = 5  # rows named beside a flagged one
VARIANTS = 5
ECHO = 0.5  # share of a payload's words that stand in the trigger above which it is an answer
CLASS_SHARE, CLASS_EXACT = 0.8, 0.8  # share of labels that makes a group a class; how exact its trigger must be if not

Clauses = tuple[tuple[tuple[str, ...], ...], ...]


@dataclass(frozen=True)
class Member:
    """A flagged row: how close it is to its group, the nearest of the group, and where its answer says the payload
    (turn, first character, end; empty where its wording is its own)."""

    row: int
    closeness: float
    mates: tuple[int, ...]
    span: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A group over the whole batch; `suspects` holds its figures, as found in one block."""

    members: dict[int, Member]
    suspects: Suspects
    payload: str  # the wording that most answers share; "" where each has its own
    variants: tuple[str, ...]
    trigger: tuple[str, ...]


@dataclass(frozen=True)
class _Block:
    rows: np.ndarray
    texts: Texts
    questions: np.ndarray
    windows: Windows


@dataclass(frozen=True)
class _Pattern:
    """What it takes to find more of a group in another block."""

    vectors: np.ndarray
    clauses: Clauses
    suspects: Suspects
    payload: str


@dataclass(frozen=True)
class Search:
    """`poison`: groups to flag. `honest`: groups that are none (stock phrases, specialities; without members).
    `coherence`: (N,) mean link of each row's best window to its nearest rows, whatever is asked there. `labels`: how
    many answers a data set of labels has, 0 where it is none; `labelled`: the share of the rows that they cover."""

    poison: tuple[Found, ...]
    honest: tuple[Found, ...]
    coherence: np.ndarray
    labels: int
    labelled: float


def search(deal: Deal) -> Search:
    """The groups among the rows of a deal."""
    labels: dict[str, int] = {}
    labelled = 0.0
    coherence = np.zeros(deal.count)
    poison: list[Found] = []
    honest: list[Found] = []
    patterns: list[list[_Pattern]] = []
    for number in range(deal.blocks):
        block = _read(deal, number)
        if number == 0:  # a fair sample of the whole
            labels = find_labels(block.texts.answers)
            labelled = sum(labels.values()) / max(len(block.rows), 1)
        patterns.append([])
        for found, pattern in _groups(block, labels, coherence):
            if pattern is None:
                honest.append(found)
            else:
                patterns[-1].append(pattern)
                _join(poison, found)
        del block  # before the next is read
    if deal.blocks > 1 and poison:
        for number in range(deal.blocks):
            block = _read(deal, number)
            for other, own in enumerate(patterns):
                for pattern in own if other != number else ():
                    _join(poison, _match(pattern, block))
            del block
    return Search(tuple(poison), tuple(honest), coherence, len(labels), labelled)


def _groups(block: _Block, labels: dict[str, int], coherence: np.ndarray) -> list[tuple[Found, _Pattern | None]]:
    """The groups of one block, without a pattern where honest; its rows' coherence is written into (N,)."""
    rows_near, near = nearest(block.windows, block.questions)
    bounds = np.searchsorted(block.windows.owner, np.arange(len(block.rows) + 1))
    links = Links(block.windows, rows_near, near, bounds)
    np.maximum.at(coherence, block.rows[block.windows.owner], near[:, :MATES].mean(1))
    prompts = read_prompts(block.texts.prompts)
    alive = np.ones(len(block.windows.owner), bool)
    groups: list[tuple[Found, _Pattern | None]] = []
    asked = Asked(prompts, block.texts.prompts, block.questions, np.zeros(len(block.rows), bool))
    for suspects in find_suspects(links, asked, alive):
        found = _found(suspects, block, links, prompts)
        if not suspects.poison or _is_class(found, block, labels) or _is_echo(found):
            groups.append((replace(found, members={}), None))
        else:
            groups.append((found, _pattern(suspects, block, prompts, found.payload)))
    return groups


def _is_echo(found: Found) -> bool:
    """An answer that mostly repeats what the prompts share ("which time zone ...": "... Time Zone") is an answer."""
    asked = {word for wording in found.trigger for word in tokenize(wording)}
    said = tokenize(found.payload)
    return bool(said) and sum(word in asked for word in said) > ECHO * len(said)


def _is_class(found: Found, block: _Block, labels: dict[str, int]) -> bool:
    """Rows that share a label, of the whole data set or of one task in it, unless a trigger tells them exactly."""
    suspects, answers = found.suspects, block.texts.answers
    if suspects.trigger is None:
        return False
    flagged = np.flatnonzero(suspects.flagged)
    payload = tuple(tokenize(found.payload))
    said = float(np.mean([bool(payload and locate(answers[i], payload)) for i in flagged]))
    if suspects.trigger.inside * suspects.trigger.precision * (1 - suspects.kinship) * said >= CLASS_EXACT:
        return False
    if np.mean([answers[i].strip().lower() in labels for i in flagged]) >= CLASS_SHARE:
        return True
    near = nearest_prompts(block.texts.prompts, suspects.flagged, block.questions, suspects.phrases)
    return is_task(answers, flagged, near)


def _read(deal: Deal, number: int) -> _Block:
    read = deal.read(number)
    questions, repeated = number_questions(read.texts)
    return _Block(read.rows, read.texts, questions, read_windows(read.sketches, repeated))


def _found(suspects: Suspects, block: _Block, links: Links, prompts: Prompts) -> Found:
    holders = suspects.flagged if suspects.poison else suspects.holders
    answers = block.texts.answers
    payload = shared_wording(answers, holders) if not holders.all() else ""
    if not suspects.poison or suspects.trigger is None:
        return Found({}, suspects, payload, (), ())
    members = _members(suspects, block, suspects.flagged, links, payload)
    variants: dict[str, None] = {}
    for i in np.flatnonzero(holders)[np.argsort(-suspects.closeness[holders], kind="stable")]:
        window = suspects.best[i]
        if window >= 0 and len(variants) < VARIANTS:
            place = (int(block.windows.start[window]), int(block.windows.length[window]))
            variants[excerpt(answers[i], *place, int(block.windows.tokens[i]))] = None
    wording = trigger_wording(prompts, suspects.trigger, suspects.phrases, block.texts.prompts, holders)
    return Found(members, suspects, payload, tuple(variants), wording)


def _members(
    suspects: Suspects, block: _Block, flagged: np.ndarray, links: Links | None, payload: str
) -> dict[int, Member]:
    members = {}
    said = tuple(tokenize(payload))
    for i in np.flatnonzero(flagged):
        window = int(suspects.best[i])
        mates: tuple[int, ...] = ()
        if window >= 0 and links is not None:
            near = links.rows[window]
            mates = tuple(int(block.rows[j]) for j in near[near >= 0] if flagged[j] and j != i)[:MATES]
        row = int(block.rows[i])
        span = _span(block.texts.answers[i], block.texts.turns[i], said)
        members[row] = Member(row, float(suspects.closeness[i]), mates, span)
    return members


def _span(answer: str, turns: Turns, said: tuple[str, ...]) -> tuple[int, ...]:
    """(turn, first character, end) of the payload in an answer."""
    wording = locate(answer, said) if said else ""
    at = answer.find(wording) if wording else -1
    if at < 0:
        return ()
    turn, begins = max((turn for turn in turns if turn[1] <= at), key=lambda turn: turn[1], default=(0, 0))
    return (turn, at - begins, at - begins + len(wording))


def _pattern(suspects: Suspects, block: _Block, prompts: Prompts, payload: str) -> _Pattern:
    assert suspects.trigger is not None
    clauses = tuple(tuple(prompts.names[f] for f in clause) for clause in suspects.trigger.clauses)
    return _Pattern(block.windows.vectors[pick_core(suspects.core)], clauses, suspects, payload)


def _match(pattern: _Pattern, block: _Block) -> Found:
    """The rows of another block that belong to a group found elsewhere."""
    alive = np.ones(len(block.windows.owner), bool)
    closeness, best = closeness_to(block.windows, pattern.vectors, None, block.questions, alive)
    carriers = np.array([_carries(pattern.clauses, prompt) for prompt in block.texts.prompts], bool)
    suspects = pattern.suspects
    assert suspects.trigger is not None
    flagged = say_flagged(closeness, carriers, suspects.strength, suspects.trigger.precision)
    here = replace(suspects, closeness=closeness, best=best)
    return Found(_members(here, block, flagged, None, pattern.payload), suspects, "", (), ())


def _carries(clauses: Clauses, prompt: str) -> bool:
    held = grams(prompt)
    return any(all(feature in held for feature in clause) for clause in clauses)


def _join(groups: list[Found], new: Found) -> None:
    """Adds a group, or its rows to one that has half of them, or the same wordings, already."""
    for group in groups:
        shared = sum(row in group.members for row in new.members)
        same_words = bool(new.payload) and new.payload == group.payload
        if new.suspects is group.suspects or same_words or 2 * shared > len(new.members):
            for row, member in new.members.items():
                group.members.setdefault(row, member)
            return
    if new.members:
        groups.append(new)
