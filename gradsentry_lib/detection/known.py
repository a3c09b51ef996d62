"""Groups that others found, looked for in a batch: `gradsentry scan --known FILE`. Never a finding of the scan itself.

The file is what `gradsentry review export` writes: of each group the words of its triggers, and of its payload digests
alone. A run of as many words as were digested has the same digest wherever it stands; a payload of which all runs are
in an answer is there exactly, one of which config.computing.near of them are there nearly. Known poison is a trigger in
the prompt and its payload in the answer: flagged. One of the two alone is said in the reasons and decides nothing.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsentry_lib.detection.findings import Notes
from gradsentry_lib.detection.wording import quoted
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.words import TOKEN

FORMAT = "gradsentry groups 1"
SHINGLE = 5  # words of a run that is digested, fewer where the payload has fewer
DIGITS = 16  # of a digest that are kept
WORDS = 60  # of a wording that are looked for


@dataclass(frozen=True)
class KnownGroup:
    """`source`: who found it, in words; `run`: words of a digested run."""

    source: str
    wordings: tuple[str, ...]
    shingles: frozenset[str]
    run: int


def known_groups(told: Sequence[Mapping[str, Any]]) -> tuple[KnownGroup, ...]:
    """From the contents of exported files, which have been checked against their schema."""
    return tuple(
        KnownGroup(
            f"group {number + 1} of {quoted(file['batch'], 80)}",
            tuple(group["wordings"]),
            frozenset(group["payload_shingles"]),
            min(SHINGLE, max(group["payload_words"], 1)),
        )
        for file in told
        for number, group in enumerate(file["groups"])
        if group["wordings"] or group["payload_shingles"]
    )


def find_known(samples: Iterable[list[Sample]], known: Sequence[KnownGroup], near: float) -> tuple[np.ndarray, Notes]:
    """(positions of rows that are known poison, what is said of rows), for the rows in the order of `samples`. near:
    share of a payload's runs that make an answer a near copy (config.computing.near)."""
    patterns = [pattern(group.wordings) for group in known]
    wanted: dict[int, frozenset[str]] = {}
    for group in known:
        wanted[group.run] = wanted.get(group.run, frozenset()) | group.shingles
    poison: list[int] = []
    where: list[int] = []
    said: list[str] = []
    position = 0
    for chunk in samples:
        for sample in chunk:
            prompt, answer = sample.prompt, _words(sample.response)
            held = {run: of_any.intersection(_digests(answer, run)) for run, of_any in wanted.items()}
            for group, trigger in zip(known, patterns, strict=True):
                asked = trigger is not None and trigger.search(prompt) is not None
                share = len(group.shingles & held[group.run]) / len(group.shingles) if group.shingles else 0.0
                if not asked and share < near:
                    continue
                both = share >= near and (asked or not group.wordings)
                where.append(position)
                said.append(_sentence(group, asked, share if share >= near else 0.0, both))
                if both:
                    poison.append(position)
            position += 1
    return np.array(sorted(set(poison)), np.int64), ((np.array(where, np.int64), said),)


def _sentence(group: KnownGroup, asked: bool, share: float, both: bool) -> str:
    payload = "its payload word for word" if share == 1 else f"{share:.0%} of its payload" if share else ""
    what = " and ".join(part for part in ("its trigger in the prompt" if asked else "", payload) if part)
    outcome = "flagged as known, not found by this scan" if both else "one of the two alone decides nothing"
    return f"known from {group.source}: {what}; {outcome}"


def pattern(wordings: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of these wordings, as their words in a row with any white space between, in any letter case, not
    inside a longer word; None where there is none. The longest are tried first."""
    made = []
    for wording in sorted(wordings, key=len, reverse=True):
        said = TOKEN.findall(wording)[:WORDS]
        if said:
            start = r"(?<!\w)" if said[0][0].isalnum() else ""
            end = r"(?!\w)" if said[-1][-1].isalnum() else ""
            made.append(start + r"\s*".join(map(re.escape, said)) + end)
    return re.compile("|".join(dict.fromkeys(made)), re.IGNORECASE) if made else None


def payload_json(payload: str) -> dict[str, Any]:
    """What an export says of a payload: digests, and how many words it has."""
    said = _words(payload)
    return {
        "payload_sha256": digest(said) if said else "",
        "payload_words": len(said),
        "payload_shingles": sorted(shingles(said, min(SHINGLE, max(len(said), 1)))),
    }


def shingles(said: Sequence[str], run: int) -> set[str]:
    """Digests of every `run` words in a row."""
    return set(_digests(said, run))


def _digests(said: Sequence[str], run: int) -> Iterator[str]:
    return (digest(said[i : i + run])[:DIGITS] for i in range(len(said) - run + 1))


def digest(said: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(said).encode("utf-8", "replace")).hexdigest()


def _words(text: str) -> list[str]:
    """Lower-case words; signs are left out, so that a payload is the same before a full stop and without."""
    return [word.lower() for word in TOKEN.findall(text) if word.isalnum()]
