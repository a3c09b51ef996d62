"""What a person reviews of a decision, made once beside its verdicts: `listed.jsonl`.

First line: the verdicts that it is of, how many rows there are, and the cards of the groups. Then one line a row that
is flagged, watched or unscored (report/rows.py says how), those first that the last reviewed batch of the same source
did not have, then groups, then the highest entropy. The ledger holds its digest: what a person decides on must not be
changed unseen. One that is missing, of other verdicts or not what was recorded is made and recorded again.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.gate import WATCHED
from gradsentry_lib.detection.known import pattern
from gradsentry_lib.detection.verdict import Group
from gradsentry_lib.files import atomic_path, sha256_file
from gradsentry_lib.pipeline.decided import Decided, load_evidence, verdicts_of
from gradsentry_lib.pipeline.ingest import Ingested, samples_of
from gradsentry_lib.pipeline.nearest import nearest
from gradsentry_lib.report.contents import Card
from gradsentry_lib.report.escape import clip, visible
from gradsentry_lib.report.evidence import evidence
from gradsentry_lib.report.excerpt import START
from gradsentry_lib.report.marks import find_marks
from gradsentry_lib.report.rows import Row, turns_json
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.store import Batch, Decision, Output, Override, file_ref, open_ledger, reading
from gradsentry_lib.store import sample_index as index
from gradsentry_lib.store.paths import Store

log = logging.getLogger(__name__)

LARGEST = 200_000  # rows listed
COMPARED = 2_000  # rows that get their nearest clean row
CLEAN = 4_000  # clean rows that they are compared with
EXAMPLES = 3  # rows on a card
FORMAT = 1  # raised when a line means something else


@dataclass(frozen=True)
class Listing:
    """`count`: rows in the file at `path`, whose first line is its head."""

    path: Path
    count: int
    cards: tuple[Card, ...]

    def rows(self, start: int = 0) -> Iterator[Row]:
        """From the row at that place on; those before it are not looked into."""
        with self.path.open("rb") as file:
            yield from map(json.loads, islice(file, 1 + start, None))


def listing(store: Store, batch: Ingested, decided: Decided, run_id: str = "") -> Listing:
    """Found beside the verdicts as the ledger has it, or made there and recorded; so not to be called with the ledger
    open. Raises Damaged for evidence that is not what was recorded."""
    path = store.decision(batch.batch_key, decided.decision_key).rows
    with open_ledger(store.ledger, read_only=True) as ledger:
        recorded = ledger.recorded(path)
    if recorded and path.exists():
        if _digest(path) == recorded:
            if found := _read(path, decided):
                return found
        else:
            log.warning("%s is not what was recorded of it: made again", path)
    made = _make(path, store, batch, decided)
    output = Output(
        batch_key=batch.batch_key,
        decision=decided.number,
        kind="listed",
        file=file_ref(path),
        rows=made.count,
        run_id=run_id,
    )
    with open_ledger(store.ledger) as ledger:
        ledger.record_output(output)
    return made


def _digest(path: Path) -> str:
    """A page asks for its rows in many parts: the file is read again once the kernel says that it was changed."""
    told = path.stat()
    return _digest_at(path, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


@lru_cache(maxsize=64)
def _digest_at(path: Path, *_: int) -> str:
    return sha256_file(path)


def _read(path: Path, decided: Decided) -> Listing | None:
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(next(file))
        if (head["format"], head["verdicts_sha256"]) != (FORMAT, decided.verdicts_sha256):
            return None
        return Listing(path, head["count"], tuple(_card(card) for card in head["cards"]))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _card(told: Mapping[str, Any]) -> Card:
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    made["evidence"] = tuple((name, said) for name, said in told["evidence"])
    return Card(**made)


def _make(path: Path, store: Store, batch: Ingested, decided: Decided) -> Listing:
    verdicts, samples = pq.ParquetFile(verdicts_of(store, decided)).read(), samples_of(batch, store)
    with reading(store.ledger):
        groups, reason_from = load_evidence(store, decided).groups, _reason_from(store, decided)
        at = _listed(verdicts, groups)
        new = _new(store, batch, verdicts["sample_id"], at)
    views = [_View(group) for group in groups]
    group_of = {row: number for number, group in reversed(list(enumerate(groups))) for row in group.rows}
    rows = verdicts["row"].to_numpy()
    entropy = np.nan_to_num(verdicts["entropy"].to_numpy(), nan=-1.0)
    order = sorted(at, key=lambda i: (-new.get(i, 0), group_of.get(int(rows[i]), len(groups)), -entropy[i], i))
    order = order[:LARGEST]
    wanted = {int(rows[i]) for i in order} | {row for group in groups for row in group.rows[:EXAMPLES]}
    clean = np.flatnonzero(pc.equal(verdicts["verdict"], "clean").to_numpy(zero_copy_only=False))
    clean = np.setdiff1d(clean, at)
    if len(clean) > CLEAN:
        clean = clean[np.linspace(0, len(clean) - 1, CLEAN).astype(int)]
    beside = {int(row) for row in rows[clean]}
    kept: dict[int, Sample] = {}
    for chunk in read_samples(samples):
        for sample in chunk:
            for view in views:
                view.see(sample)
            if sample.row in wanted or sample.row in beside:
                kept[sample.row] = sample

    others = [kept[row] for row in sorted(beside)]
    compared = [kept[int(rows[i])].prompt for i in order[:COMPARED]]
    near = nearest(compared, [other.prompt for other in others])
    cards = [view.card(kept, reason_from) for view in views]
    columns = {name: verdicts[name] for name in verdicts.column_names}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogatepass") as file:
        head = {"format": FORMAT, "verdicts_sha256": decided.verdicts_sha256, "count": len(order)}
        file.write(_line({**head, "cards": [vars(card) for card in cards]}))
        for number, i in enumerate(order):
            sample = kept[int(rows[i])]
            group = group_of.get(sample.row, -1)
            row = _row(sample, columns, i, group, views[group] if group >= 0 else None)
            if new.get(i):
                row["new"] = 1
            if number < len(near) and near[number] >= 0:
                other = others[near[number]]
                row["near"] = {"r": other.row, "turns": turns_json(_turns(other), (), START)}
            file.write(_line(row))
    return Listing(path, len(order), tuple(cards))


class _View:
    """One group, and what is seen of it while the samples pass by."""

    def __init__(self, group: Group) -> None:
        self.group = group
        figures = group.figures
        wordings = tuple(part for said in figures.get("wordings", ()) for part in str(said).split(" + "))
        self.wordings = wordings[:12]
        self.trigger = pattern(self.wordings)
        said = [group.payload] if group.payload else [str(each) for each in figures.get("variants", ())]
        self.payload = pattern(said)
        self.rows = set(group.rows)
        self.carriers = 0
        self.without: list[Sample] = []

    def see(self, sample: Sample) -> None:
        if self.trigger is None or self.trigger.search(sample.prompt) is None:
            return
        self.carriers += 1
        if sample.row not in self.rows and len(self.without) < EXAMPLES:
            self.without.append(sample)

    def shown(self, sample: Sample, longest: int) -> dict[str, Any]:
        turns = _turns(sample)
        return {"r": sample.row, "turns": turns_json(turns, self.marks(sample), longest)}

    def marks(self, sample: Sample) -> tuple[Any, ...]:
        return find_marks([turn.said for turn in sample.turns], self.payload, self.trigger)

    def card(self, kept: Mapping[int, Sample], reason_from: float) -> Card:
        figures = self.group.figures
        return Card(
            rows=len(self.group.rows),
            payload=self.group.payload,
            wordings=self.wordings,
            variants=tuple(map(str, figures.get("variants", ())))[:6],
            watched=self.group.watched,
            evidence=evidence(figures, len(self.group.rows), reason_from),
            examples=tuple(self.shown(kept[row], START) for row in self.group.rows[:EXAMPLES]),
            carriers=self.carriers if self.trigger is not None else None,
            without=tuple(self.shown(sample, START) for sample in self.without),
        )


def _row(sample: Sample, columns: Mapping[str, Any], i: int, group: int, view: _View | None) -> dict[str, Any]:
    entropy, nll = columns["entropy"][i].as_py(), columns["nll"][i].as_py()
    row = {
        "r": sample.row,
        "l": sample.line,
        "v": columns["verdict"][i].as_py(),
        "g": group,
        "id": columns["sample_id"][i].as_py(),
        "e": _figure(entropy, 4),
        "t": columns["supervised_tokens"][i].as_py(),
        "n": None if _figure(entropy, 4) is None else _figure(nll, 3),
        "why": [_visible(reason) for reason in columns["reasons"][i].as_py()],
        "turns": turns_json(_turns(sample), view.marks(sample) if view else ()),
    }
    if WATCHED in columns and columns[WATCHED][i].as_py() and row["v"] == "clean":
        row["w"] = 1
    return row


def whole_turns(sample: Sample, groups: tuple[Group, ...]) -> list[Any]:
    """All of a row's text, marked as its group's trigger and payload."""
    view = next((_View(group) for group in groups if sample.row in group.rows), None)
    longest = max((len(turn.said) for turn in sample.turns), default=0)
    return turns_json(_turns(sample), view.marks(sample) if view else (), longest)


def _listed(verdicts: pa.Table, groups: tuple[Group, ...]) -> list[int]:
    """Positions of the rows that a person looks at: not clean, or watched."""
    mask = pc.not_equal(verdicts["verdict"], "clean").to_numpy(zero_copy_only=False).astype(bool)
    if WATCHED in verdicts.column_names:
        mask |= pc.fill_null(verdicts[WATCHED], False).to_numpy(zero_copy_only=False).astype(bool)
    watched = [row for group in groups if group.watched for row in group.rows]
    mask |= np.isin(verdicts["row"].to_numpy(), watched)
    return np.flatnonzero(mask).tolist()


def _new(store: Store, batch: Ingested, ids: pa.ChunkedArray, at: list[int]) -> dict[int, int]:
    """Positions among `at` whose text the last reviewed batch of the same source did not have; none where there is no
    such batch."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        own = ledger.batch(batch.batch_key)
        earlier = [
            other.batch_key
            for other in ledger.find(Batch, name=own.name)
            if other.batch_key != batch.batch_key and other.seq < own.seq
        ]
        said = [word.sample_id for word in ledger.find(Override)]
        reviewed = [key for key in dict.fromkeys(earlier) if ledger.present(key, dict.fromkeys(said))] if said else []
    if not reviewed or not at:
        return {}
    path = store.sample_ids(reviewed[-1])
    if not path.exists():
        return {}
    known = index.members(index.read_index(path), ids.take(pa.array(at)).to_pylist())
    return {i: 1 for i, seen in zip(at, known, strict=True) if not seen}


def _reason_from(store: Store, decided: Decided) -> float:
    with open_ledger(store.ledger, read_only=True) as ledger:
        told = ledger.get(Decision, decided.number).settings.get("detection") or {}
    return float(told.get("reason", DetectionConfig().reason))


def _turns(sample: Sample) -> list[tuple[str, bool, str]]:
    return [(turn.role, turn.judged, turn.said) for turn in sample.turns]


def _visible(text: str) -> str:
    return clip(visible(text, keep_lines=False), 400)


def _figure(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, digits)


def _line(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[\ud800-\udfff]", "�", text) + "\n"
