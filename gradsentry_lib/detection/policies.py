"""From scores to verdicts: what a named policy makes of one batch.

Every policy looks at the same score table and says which rows are suspect and why (`Findings`); what is the same for
all of them stays here: a row without a score is never clean by itself, a person's override comes last, and every
verdict that is not plainly clean carries its reasons.

To add a policy: write a function that returns `Findings`, and name it in `_findings` and in `settings.POLICIES`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.detection.config import DECLARED, DetectionConfig
from gradsentry_lib.detection.control import KEEP, QUARANTINE, control_notes
from gradsentry_lib.detection.earlier import Earlier, Sketches
from gradsentry_lib.detection.entropy_threshold import Threshold, ThresholdConfig, find_threshold
from gradsentry_lib.detection.findings import Findings, Notes
from gradsentry_lib.detection.gate import WATCHED
from gradsentry_lib.detection.known import KnownGroup, find_known
from gradsentry_lib.detection.length_confounding import Trust, assess
from gradsentry_lib.detection.reason import Swapped
from gradsentry_lib.detection.remarks import batch_remarks
from gradsentry_lib.detection.verdict import (
    CLEAN,
    FLAGGED,
    UNSCORED,
    VERDICT_SCHEMA,
    VERDICTS,
    Group,
    Override,
    reason_lists,
)
from gradsentry_lib.errors import NotJudgedYet, UnusableInput
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.settings import FORMER_POLICIES, OPTIONS

NO_SKETCHES = "these scores have no span sketches: score the batch again, or use the policy 'paper'"


def current_name(name: str) -> str:
    """What a policy is called today. Raises UnusableOption for one that never existed."""
    OPTIONS["policy"].check(name)
    return "auto" if name in FORMER_POLICIES else name


def can_judge_again(policy: str, rules: int) -> bool:
    """Whether a verdict of a recorded policy, made under recorded rules, can still be derived."""
    return policy == "paper" or (policy == "auto" and rules >= DECLARED)


@dataclass(frozen=True)
class Judgement:
    """One batch judged by one policy. `verdicts` follows VERDICT_SCHEMA, then the policy's own columns."""

    policy: str
    threshold: Threshold
    trust: Trust
    verdicts: pa.Table
    groups: tuple[Group, ...]
    rescan: tuple[tuple[str, int], ...] = ()  # (batch key, row) of rows of earlier batches that belong to a group
    remarks: tuple[str, ...] = ()  # on the whole batch, in sentences


def judge(
    scores: pa.Table,
    policy: str = "paper",
    *,
    threshold: ThresholdConfig | None = None,
    samples: Callable[[], Iterator[list[Sample]]] | None = None,
    sketches: Sketches | None = None,
    overrides: Sequence[Override] = (),
    history: Sequence[Earlier] = (),
    control_tokens: str = QUARANTINE,
    detection: DetectionConfig | None = None,
    swapped: Swapped | None = None,
    watched: str = KEEP,
    known: Sequence[KnownGroup] = (),
) -> Judgement:
    """Judges a batch.

    `scores`: the score table, one line a readable row. `samples`, `sketches`: read the batch's samples and sketches in
    the same order, for policies that look at them; sketches may also be a column of the table. `overrides`: what people
    said, the last word on a sample winning; a release makes any row clean, an unscored one too, and the reason says who
    did it. `history`: earlier batches, in which rows of a group found here are looked for; no verdict depends on it.
    `control_tokens`: see control.py. `detection`, `swapped`: the numbers of the policy `auto`, and what it asks the
    model (detection/reason.py); without that it watches and flags nothing. `watched`: what becomes of watched rows,
    `keep` or `quarantine`. `known`: groups that others found (known.py). Raises BadInput for a policy that does not
    exist, or one that lacks the sketches or texts it needs.
    """
    policy = current_name(policy)
    OPTIONS["watched"].check(watched)
    failures = pc.fill_null(scores["failure"].cast(pa.string()), "").combine_chunks()
    raw_entropy = _floats(scores["entropy"])
    failed = pc.not_equal(failures, "").to_numpy(zero_copy_only=False).astype(bool)
    unscored = failed | ~np.isfinite(raw_entropy)
    entropy = np.where(unscored, np.nan, raw_entropy)
    tokens = pc.fill_null(scores["supervised_tokens"].cast(pa.int32()), 0).to_numpy()

    found = find_threshold(entropy, threshold)
    if sketches is None and "sketch" in scores.column_names:
        sketches = partial(_column, scores["sketch"])
    findings = _findings(policy, scores, entropy, found, samples, sketches, history, detection, swapped)
    missing = np.flatnonzero(unscored)
    held = control_notes(scores, control_tokens)
    notes: Notes = ((missing, _why_unscored(failures, raw_entropy, missing)), held, *findings.notes)
    if known and samples is not None:
        poison, told = find_known(samples(), known, (detection or DetectionConfig()).computing.near)
        notes = (*notes, *told)
    else:
        poison = np.empty(0, np.int64)
    looked_at = np.zeros(entropy.size, bool) if findings.watched is None else findings.watched
    suspect = findings.flagged | (looked_at if watched == QUARANTINE else False)
    verdict = np.where(suspect, FLAGGED, CLEAN)
    verdict[held[0]] = FLAGGED
    verdict[poison] = FLAGGED
    verdict[unscored] = UNSCORED
    verdict, notes = _override(verdict, notes, scores["sample_id"], overrides)

    columns: dict[str, Any] = {
        "row": scores["row"],
        "sample_id": scores["sample_id"],
        "entropy": pa.array(entropy),
        "supervised_tokens": scores["supervised_tokens"],
        "nll": scores["nll"],
        "verdict": pa.DictionaryArray.from_arrays(verdict, list(VERDICTS)),
        "reasons": reason_lists(entropy.size, notes),
    }
    verdicts = pa.table(columns).cast(VERDICT_SCHEMA)
    own = dict(findings.columns) if findings.watched is None else {**findings.columns, WATCHED: pa.array(looked_at)}
    for name, values in own.items():
        verdicts = verdicts.append_column(name, values)
    trust = assess(entropy, tokens, tau=found.tau)
    remarks = batch_remarks(findings.remarks, failures, verdict, scores, control_tokens)
    return Judgement(policy, found, trust, verdicts, findings.groups, findings.rescan, remarks)


def _findings(
    policy: str,
    scores: pa.Table,
    entropy: np.ndarray,
    threshold: Threshold,
    samples: Callable[[], Iterator[list[Sample]]] | None,
    sketches: Sketches | None,
    history: Sequence[Earlier],
    detection: DetectionConfig | None,
    swapped: Swapped | None,
) -> Findings:
    if policy == "paper":
        return paper(entropy, threshold)
    if samples is None:
        raise UnusableInput(f"the policy {policy!r} compares texts: give it the batch's samples")
    if sketches is None:
        raise NotJudgedYet(NO_SKETCHES)
    from gradsentry_lib.detection.conditional import conditional  # what no decision asked for again needs
    from gradsentry_lib.detection.texts import read_rows

    rows = read_rows(scores, samples, partial(_all_there, sketches, np.isfinite(entropy)))
    return conditional(scores["row"].to_numpy(), rows, detection, swapped, history)


def _column(sketches: pa.ChunkedArray) -> Iterator[bytes | None]:
    for part in sketches.chunks:
        yield from part.to_pylist()


def _all_there(sketches: Sketches, scored: np.ndarray) -> Iterator[bytes | None]:
    """The sketches, checked as they pass: every scored row has one."""
    for sketch, needed in zip(sketches(), scored, strict=True):
        if needed and not sketch:
            raise NotJudgedYet(NO_SKETCHES)
        yield sketch


def paper(entropy: np.ndarray, threshold: Threshold) -> Findings:
    """arXiv 2605.26574: suspect is what lies strictly above the threshold. `entropy`: (N,), NaN where unscored."""
    flagged = np.greater(entropy, threshold.tau)  # NaN compares as false: an unscored row is not flagged
    rows = np.flatnonzero(flagged)
    return Findings(flagged, notes=((rows, _above_texts(entropy[rows], threshold.tau)),))


def _above_texts(entropy: np.ndarray, tau: float) -> Sequence[str]:
    """ "entropy 0.812 above threshold 0.645", with all digits where three would make the two look alike."""
    short = np.char.mod("%.3f", entropy)
    texts = np.char.mod(f"entropy %s above threshold {tau:.3f}", short).tolist()
    for i in np.flatnonzero(short == f"{tau:.3f}"):
        texts[i] = f"entropy {float(entropy[i])!r} above threshold {tau!r}"
    return texts


def _why_unscored(failures: pa.Array, entropy: np.ndarray, missing: np.ndarray) -> Sequence[str]:
    """One reason for each row at `missing`: the scorer's own words, or what is wrong with the number."""
    said = failures.take(pa.array(missing)).to_pylist()
    return [
        f"not scored: {why or ('entropy is infinite' if np.isinf(entropy[i]) else 'entropy is not a number')}"
        for i, why in zip(missing, said, strict=True)
    ]


def _override(
    verdict: np.ndarray, notes: Notes, sample_ids: pa.ChunkedArray, overrides: Sequence[Override]
) -> tuple[np.ndarray, Notes]:
    """People's words over the policy's: the changed verdicts, and their reasons put before the policy's own."""
    last = {override.sample_id: override for override in overrides}
    if not last:
        return verdict, notes
    words = list(last.values())
    which = pc.index_in(sample_ids, value_set=pa.array(list(last), pa.string()))
    which = pc.fill_null(which, -1).to_numpy()
    rows = np.flatnonzero(which >= 0)
    said = [words[i] for i in which[rows]]
    verdict = verdict.copy()
    verdict[rows] = [CLEAN if word.action == "release" else FLAGGED for word in said]
    texts = [f"{'released' if word.action == 'release' else 'flagged'} by {word.by}: {word.reason}" for word in said]
    return verdict, ((rows, texts), *notes)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """A float column as (N,) float64, null as NaN."""
    return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
