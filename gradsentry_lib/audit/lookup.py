"""Finding rows in the store's Parquet files: a sample by the beginning of its id, a text, the removed rows."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradsentry_lib.errors import DamagedStore, NotFound
from gradsentry_lib.store import sample_index as index
from gradsentry_lib.store.ledger import Ledger
from gradsentry_lib.store.records import Batch, Decision, Scan, ThresholdRecord
from gradsentry_lib.store.views import glob_literal

HEX = set("0123456789abcdef")
SHORTEST = 6  # digits of an id that are worth searching for


def is_sample_id(text: str) -> bool:
    """Whether this reads like a sample's id or the beginning of one."""
    return SHORTEST <= len(text) <= 64 and set(text) <= HEX


def find_sample(ledger: Ledger, prefix: str) -> tuple[str, list[str]]:
    """The full id that begins like this, and the batches that hold the sample. Raises BadInput."""
    prefix = prefix.strip().lower()
    if not is_sample_id(prefix):
        raise NotFound(f"{prefix!r} is no sample id: give at least {SHORTEST} of its 64 hex digits")
    hits: dict[int, list[str]] = {}
    for key in ledger.batch_keys():
        for head in index.find(_index(ledger, key), prefix).tolist():
            hits.setdefault(head, []).append(key)
    if not hits:
        raise NotFound(f"no batch in the ledger has a sample {prefix}")
    if len(hits) > 1:
        some = ", ".join(f"{head:016x}"[: len(prefix) + 6] for head in sorted(hits)[:5])
        raise NotFound(f"{len(hits)} samples begin with {prefix} ({some} ...): give more digits")
    (found_in,) = hits.values()
    full = ids_like(ledger.batch(found_in[0]).samples.file, prefix)
    if not full:
        raise NotFound(f"no batch in the ledger has a sample {prefix}")
    return full[0], found_in


def find_batch(ledger: Ledger, text: str) -> str:
    """A batch's key by itself or its unique beginning. Raises BadInput."""
    keys = ledger.batch_keys()
    matching = [text] if text in keys else [key for key in keys if key.startswith(text)]
    if not matching:
        raise NotFound(f"the ledger {ledger.path} has no batch {text!r}; it has {_some(keys)}")
    if len(matching) > 1:
        raise NotFound(f"{len(matching)} batches begin with {text!r}: {_some(matching)}")
    return matching[0]


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[-5:]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "") if keys else "none yet"


def batches_with(ledger: Ledger, sample_ids: list[str]) -> dict[str, list[str]]:
    """For full ids: the batches that hold each."""
    found: dict[str, list[str]] = {sample_id: [] for sample_id in sample_ids}
    for key in ledger.batch_keys():
        here = index.members(_index(ledger, key), sample_ids)
        for sample_id in np.array(sample_ids, dtype=object)[here]:
            found[sample_id].append(key)
    return found


def ids_like(samples: Path, prefix: str) -> list[str]:
    """The ids in a samples table that begin like this."""
    if not samples.exists():
        raise DamagedStore(f"{samples} is gone: scan the batch again to read its samples")
    with pq.ParquetFile(samples) as file:
        ids = file.read(["sample_id"])["sample_id"]
    return sorted(set(ids.filter(pc.starts_with(ids, prefix)).to_pylist()))


def sample_history(sample_id: str, decided: Sequence[tuple[Decision, Scan, ThresholdRecord]]) -> list[dict[str, Any]]:
    """One line a row and decision, oldest first. The decisions' verdict files must exist."""
    return [
        {
            "batch_key": decision.batch_key,
            "decision": decision.seq,
            "recorded_at": decision.recorded_at,
            "model": scan.model,
            "model_fingerprint": scan.model_fingerprint,
            "policy": decision.policy,
            "tau": threshold.tau,
            **row,
        }
        for decision, scan, threshold in sorted(decided, key=lambda facts: facts[0].seq)
        for row in _of_sample(decision.verdicts.file, sample_id, ["row", "entropy", "verdict", "reasons"])
    ]


def sample_turns(sample_id: str, batches: Sequence[Batch]) -> tuple[Mapping[str, str], ...]:
    """The text of a sample, from the first batch that still has it."""
    present = [batch.samples.file for batch in batches if batch.samples.file.exists()]
    for row in _of_sample(present[0], sample_id, ["turns"]) if present else []:
        return tuple(row["turns"])
    return ()


def _of_sample(path: Path, sample_id: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a sample, by its full id. A filter of `read_table`, or `equal`, would say the same and import pandas
    and a query engine first, for half a second."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, ["sample_id"])["sample_id"]
            found = pc.indices_nonzero(pc.starts_with(ids, sample_id))
            if len(found):
                yield from file.read_row_group(group, columns).take(found).to_pylist()


def removed_rows(batch: Batch, decision: Decision) -> list[dict[str, Any]]:
    """The rows that a decision kept out, in source order, with their text where the samples are still there. Raises
    BadInput for damaged files."""
    try:
        return _removed_rows(batch, decision) if decision.verdicts.file.exists() else []
    except (OSError, pa.ArrowException) as error:
        raise DamagedStore(damaged(batch.batch_key, error)) from error


def damaged(batch_key: str, error: Exception) -> str:
    """What to say of a batch whose Parquet files can't be read."""
    return (
        f"the verdicts or samples of batch {batch_key} are damaged ({str(error).splitlines()[0]}): `gradsentry audit "
        "verify` names what is, a scan of the batch makes it again"
    )


def _removed_rows(batch: Batch, decision: Decision) -> list[dict[str, Any]]:
    columns = ["row", "sample_id", "verdict", "reasons", "entropy"]
    rows = pq.read_table(decision.verdicts.file, columns=columns, filters=[("verdict", "!=", "clean")]).to_pylist()
    texts: dict[int, dict[str, Any]] = {}
    if rows and batch.samples.file.exists():
        wanted = pa.array([row["row"] for row in rows], pa.int64())
        table = pq.read_table(batch.samples.file, columns=["row", "line", "turns"])
        texts = {line["row"]: line for line in table.filter(pc.is_in(table["row"], wanted)).to_pylist()}
    return [{"line": None, "turns": (), **texts.get(row["row"], {}), **row} for row in rows]


def find_text(batches: Sequence[Batch], text: str, limit: int) -> list[dict[str, Any]]:
    """Rows, at most `limit`, with this text (letter case counts) in one of their turns."""
    statement = """
    SELECT row, sample_id, turns FROM read_parquet(?)
    WHERE len(list_filter(turns, lambda turn: contains(turn.text, ?))) > 0 ORDER BY row LIMIT ?
    """
    found: list[dict[str, Any]] = []
    if not _is_text(text):
        return found
    with duckdb.connect() as connection:  # in memory: the ledger is not held meanwhile
        for batch in batches:
            if len(found) == limit or not batch.samples.file.exists():
                continue
            asked = [glob_literal(batch.samples.file), text, limit - len(found)]
            try:
                rows = connection.execute(statement, asked).fetchall()
            except duckdb.Error as error:
                raise DamagedStore(damaged(batch.batch_key, error)) from error
            for row, sample_id, turns in rows:
                found.append({"batch_key": batch.batch_key, "row": row, "sample_id": sample_id, "turns": turns})
    return found


def _is_text(text: str) -> bool:
    """Whether it can be written at all: an argument with a stray byte holds half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _index(ledger: Ledger, batch_key: str) -> Any:
    """A batch's index, made anew where it is gone."""
    path = ledger.paths.sample_ids(batch_key)
    try:
        if path.exists():
            return index.read_index(path)
        return index.make_index(ledger.batch(batch_key).samples.file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedStore(f"{path} can't be read ({error}): remove it, and scan the batch again") from error
