"""The certificate of a decision: attacks are planted into copies of the batch's own rows and searched for.

The copies are scored with the model that scored the batch and kept by content in a cache of their own, so no count of
the ledger and no other batch knows of them. What comes out is power.json in the decision's folder, its SHA-256 in the
decision's recorded settings.

Cost, of a batch of 2,000 rows: 60 copies and 40 answers under a common prefix to score, then `mixtures` searches of 100
rows and a quarter as many with prompts dealt anew. From a pool of at most 1,200 clean rows, so memory does not grow
with the batch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.gate import WATCHED
from gradsentry_lib.detection.reason import surprises
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.errors import DamagedStore
from gradsentry_lib.files import has_digest, sha256_file, write_json
from gradsentry_lib.pipeline.decided import Decided
from gradsentry_lib.pipeline.ingest import Ingested, samples_of
from gradsentry_lib.pipeline.score import Scored, open_cache, read_scores, read_sketches
from gradsentry_lib.power.canaries import KINDS, Canary, plant
from gradsentry_lib.power.certificate import Certificate
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.scoring.cache import ScoreCache
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.score import SCORE_SCHEMA
from gradsentry_lib.store import Decision, Run, open_ledger
from gradsentry_lib.store.paths import DecisionFiles, Store

if TYPE_CHECKING:
    from gradsentry_lib.power.mixtures import Rows
    from gradsentry_lib.scoring.resident import AnyModel

LARGE = 2_000  # rows from which on a certificate is made without being asked for
LEAST = 60  # clean rows, fewer are no batch to hide in
POOL = 1_200  # clean rows that copies are made of and mixed with
FEWEST, ASKED_FOR, MOST = 6, 40, 80  # mixtures: of a large batch, where somebody asked, of any batch
ROWS_A_MIXTURE = 330  # of a large batch
ASKED = 4  # canaries of a kind that the model is asked about under another prompt
SHOWN, SHORT = 4, 500  # rows shown before, characters of each
TOO_FEW = f"no certificate of power: fewer than {LEAST} clean rows that ask and answer"


def mixtures_for(power: str, min_power: float, rows: int) -> int:
    """How many mixtures a batch of so many readable rows gets; 0: no certificate."""
    by_size = min(MOST, max(FEWEST, rows // ROWS_A_MIXTURE)) if rows >= LARGE else 0
    if power == "off":
        return 0
    return max(ASKED_FOR, by_size) if power == "on" or min_power > 0 else by_size


def certify(
    batch: Ingested,
    scored: Scored,
    verdicts: pa.Table,
    store: Store,
    run: Run,
    load: "Callable[[], AnyModel]",
    scoring: ScoringConfig,
    detection: DetectionConfig,
    mixtures: int,
) -> Certificate | None:
    """None where too few rows are clean, or too few of them have a question and an answer."""
    from gradsentry_lib.power.mixtures import AMONG, Answers, Rows, search_mixtures, search_shuffled

    pool = _pool(batch, scored, verdicts, store)
    canaries = plant(pool.samples) if len(pool.samples) >= LEAST else []
    if not canaries:
        return None
    bases = {canary.base for canary in canaries}
    own = pool.take(np.array([i for i in range(len(pool.samples)) if i not in bases], np.int64))
    model = load()
    cache = open_cache(store, store.canary_cache(scored.fingerprint, scoring.key), run)
    asked = _questions(canaries, own.samples)
    scores = _scores([*(canary.sample for canary in canaries), *asked.values()], cache, model, scoring)
    at = np.array([i for i, canary in enumerate(canaries) if not scores[canary.sample.sample_id]["failure"]], np.int64)
    canaries = [canaries[i] for i in at]
    planted = Rows([canary.sample for canary in canaries], _table(canaries, scores))
    said = {key: surprises(scores[sample.sample_id]["sketch"] or b"") for key, sample in asked.items()}
    seed = int(min(sample.sample_id for sample in pool.samples)[:8], 16)
    trials = search_mixtures(own, canaries, planted, detection, Answers(said), mixtures, seed)
    shuffled = max(2, mixtures // 4)
    alarms = search_shuffled(own, detection, shuffled, seed)
    return Certificate.of(trials, batch.readable, min(len(own.samples), AMONG), len(canaries), shuffled, alarms)


def _pool(batch: Ingested, scored: Scored, verdicts: pa.Table, store: Store) -> "Rows":
    """The clean rows of least sample id, a fair draw, one of each content, in the order of their ids."""
    clean = ~not_clean(verdicts)
    if WATCHED in verdicts.column_names:
        clean &= ~verdicts[WATCHED].to_numpy()
    ids = verdicts["sample_id"].filter(pa.array(clean)).combine_chunks()
    least = pc.sort_indices(pc.unique(ids))[:POOL]
    at = pc.index_in(pc.unique(ids).take(least), value_set=ids)  # the first of each content
    where = np.flatnonzero(clean)[at.to_numpy()].tolist()
    place = {i: rank for rank, i in enumerate(where)}
    path = store.scores(scored.batch_key, scored.score_key)
    samples: list[Sample | None] = [None] * len(where)
    rows = (sample for chunk in read_samples(samples_of(batch, store)) for sample in chunk)
    for i, sample in enumerate(rows):
        if i in place:
            samples[place[i]] = sample
    sketches = {place[i]: sketch for i, sketch in enumerate(read_sketches(path)) if i in place}
    scores = read_scores(path).take(pa.array(where, pa.int64()))
    column = pa.array([sketches[rank] for rank in range(len(where))], pa.binary())
    from gradsentry_lib.power.mixtures import Rows

    return Rows([sample for sample in samples if sample is not None], scores.append_column("sketch", column))


Key = tuple[str, bool]  # id of a canary, whether under its own prompt


def _questions(canaries: Sequence[Canary], own: Sequence[Sample]) -> dict[Key, Sample]:
    """What is asked of the first canaries of each kind: their answers under their own prompt and under that of another
    row, the same few rows shown before all of them, so that this beginning is computed once."""
    from gradsentry_lib.scoring.swapped import swapped

    shown = [sample for sample in own if len(sample.prompt) + len(sample.response) < SHORT][:SHOWN]
    other = own[-1]
    asked: dict[Key, Sample] = {}
    for kind in KINDS:
        for canary in [each for each in canaries if each.kind == kind][:ASKED]:
            sample = canary.sample
            asked[sample.sample_id, True] = swapped(sample, sample, shown)
            asked[sample.sample_id, False] = swapped(sample, other, shown)
    return asked


def _scores(
    samples: Sequence[Sample], cache: ScoreCache, model: "AnyModel", scoring: ScoringConfig
) -> Mapping[str, Mapping]:
    from gradsentry_lib.scoring.resident import score_with
    from gradsentry_lib.scoring.score import to_table

    wanted = {sample.sample_id: sample for sample in samples}
    known = set(cache.lookup(list(wanted))["sample_id"].to_pylist())
    missing = [sample for name, sample in wanted.items() if name not in known]
    if missing:
        cache.add(to_table(score_with(model, missing, scoring)))
    return {line["sample_id"]: line for line in cache.lookup(list(wanted)).to_pylist()}


def _table(canaries: Sequence[Canary], scores: Mapping[str, Mapping]) -> pa.Table:
    lines = [scores[canary.sample.sample_id] for canary in canaries]
    table = pa.Table.from_pylist([dict(line) for line in lines], schema=SCORE_SCHEMA)
    return table.add_column(0, "row", pa.array(range(len(lines)), pa.int64()))


def write_certificate(certificate: Certificate, files: DecisionFiles) -> str:
    """Writes the file; its SHA-256."""
    write_json(files.power, certificate.to_dict())
    return sha256_file(files.power)


def load_certificate(store: Store, decided: Decided) -> Certificate | None:
    """The certificate of a decision; None where it has none. Raises DamagedStore where it is not what was recorded."""
    with open_ledger(store.ledger, read_only=True) as ledger:
        sha256 = ledger.get(Decision, decided.number).settings.get("certificate")
    if not sha256:
        return None
    path = store.decision(decided.batch_key, decided.decision_key).power
    if not has_digest(path, sha256):
        raise DamagedStore(f"the certificate of this decision is gone or altered: {path}")
    return Certificate.from_dict(json.loads(path.read_text(encoding="utf-8")))
