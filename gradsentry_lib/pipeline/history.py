"""Earlier batches in the store: rows of them may belong to a group that a batch makes by itself."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow.parquet as pq

from gradsentry_lib.detection.earlier import Earlier
from gradsentry_lib.detection.texts import read_texts
from gradsentry_lib.errors import DamagedStore
from gradsentry_lib.files import has_digest
from gradsentry_lib.pipeline.ingest import Ingested
from gradsentry_lib.pipeline.score import read_sketches
from gradsentry_lib.samples.table import read_samples
from gradsentry_lib.store import Ledger, Scan
from gradsentry_lib.store.paths import Store

ROWS = 4_000  # rows of earlier batches that are looked at, the newest batches first
SAME_DELIVERY = 0.5  # share of an earlier batch's answers that are this batch's, too, above which it is this one again

Reference = Mapping[str, str]  # batch_key, score_key, scores_sha256


def earlier_batches(ledger: Ledger, batch: Ingested, score_key: str) -> list[Reference]:
    """What a decision on this batch looks back at: other sources, scored in the same way, newest first.

    Kept with the decision, so that it can be derived again whatever arrives later.
    """
    seen = {batch.source_sha256}  # the same file read with other options is no other batch
    found: list[Reference] = []
    rows = 0
    for scan in reversed(ledger.find(Scan, score_key=score_key)):
        if scan.source_sha256 in seen:
            continue
        seen.add(scan.source_sha256)
        rows += scan.scored + scan.unscored
        if rows > ROWS:
            break
        found.append({"batch_key": scan.batch_key, "score_key": score_key, "scores_sha256": scan.scores.sha256})
    return found


def other_deliveries(store: Store, batch: Ingested, told: Sequence[Reference]) -> list[Reference]:
    """Those of the earlier batches that are not this one delivered again.

    Rows that come again are the same rows however their prompts are worded, and no evidence for one another: without
    this, an honest batch would look like one answer planted under many prompts. A batch comes again if most of its
    different answers are answers of this one; a payload spread thinly over many batches is a few of each.
    """
    theirs = [set(_answers(store, reference["batch_key"])) for reference in told]
    every: set[int] = set().union(*theirs)
    own = every.intersection(_answers(store, batch.batch_key)) if told else every
    return [
        reference
        for reference, answers in zip(told, theirs, strict=True)
        if len(answers & own) <= SAME_DELIVERY * len(answers)
    ]


def _answers(store: Store, batch_key: str) -> Iterator[int]:
    """The answers of a batch, as hashes, in order."""
    samples = read_samples(store.samples(batch_key))
    return (hash(" ".join(text.answer.split())) for text in read_texts(samples))


def load_earlier(store: Store, told: Sequence[Reference]) -> list[Earlier]:
    """What the policies take, from the files of those batches. Raises BadInput where one is not what it was."""
    earlier = []
    for reference in told:
        path = store.scores(reference["batch_key"], reference["score_key"])
        if not has_digest(path, reference["scores_sha256"]):
            raise DamagedStore(f"the scores of the earlier batch {reference['batch_key']} are gone or altered: {path}")
        rows = pq.read_table(path, columns=["row"])["row"].to_numpy()
        samples = partial(read_samples, store.samples(reference["batch_key"]))
        earlier.append(Earlier(reference["batch_key"], rows, partial(read_sketches, path), samples))
    return earlier
