"""Scores of the labelled cases, made once: `python -m benchmarks.scored --shared FOLDER [--only ...] [--half ...]`.

A case becomes two files in the cache folder (`--cache`, outside the repository): NAME.jsonl, its rows without labels,
and NAME.parquet, the score table with the label beside. Rows that several cases share are scored once.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.detection_cases import HALVES, MORE, Case, cases
from benchmarks.detection_more import more
from gradsentry_lib.errors import BadInput
from gradsentry_lib.evaluation.data import to_samples
from gradsentry_lib.files import atomic_path
from gradsentry_lib.samples.sample import Sample

MAX_TOKENS = 768
SHARED = Path(os.environ.get("GRADSENTRY_SHARED", "../shared"))
CACHE = Path(os.environ.get("GRADSENTRY_SCORED", "../scored"))


@dataclass(frozen=True)
class Scored:
    """A case read back: N samples, their score table with sketches, labels (N,) bool."""

    name: str
    half: str
    samples: list[Sample]
    scores: pa.Table
    labels: np.ndarray


def load(folder: Path = CACHE) -> list[Scored]:
    """Every case in the cache, in the order in which they are listed. Raises BadInput where there is none."""
    found = [(path, pq.read_table(path)) for path in folder.glob("*.parquet")]
    if not found:
        raise BadInput(f"{folder} holds no scored cases: make them with python -m benchmarks.scored")
    found.sort(key=lambda each: int(each[1].schema.metadata[b"number"]))
    return [
        Scored(
            path.stem,
            table.schema.metadata[b"half"].decode(),
            to_samples([json.loads(line) for line in path.with_suffix(".jsonl").open(encoding="utf-8")]),
            table.drop_columns(["label"]),
            table["label"].to_numpy(zero_copy_only=False).astype(bool),
        )
        for path, table in found
    ]


def score(number: int, case: Case, folder: Path, model: str, dtype: str) -> str:
    """Scores one case into the folder; what it did, in a sentence."""
    from gradsentry_lib.scoring.config import ScoringConfig
    from gradsentry_lib.scoring.model import load_model
    from gradsentry_lib.scoring.score import to_table
    from gradsentry_lib.scoring.scorer import score_samples

    begin = time.perf_counter()
    samples = to_samples(case.rows)
    known = _known(folder, samples)
    missing = list({s.sample_id: s for s in samples if s.sample_id not in known}.values())
    if missing:
        loaded = load_model(model, dtype=dtype)
        made = to_table(score_samples(missing, loaded, ScoringConfig(max_tokens=MAX_TOKENS)))
        known |= {row["sample_id"]: row for row in made.to_pylist()}
    rows = [known[s.sample_id] | {"row": i} for i, s in enumerate(samples)]
    table = pa.Table.from_pylist(rows).append_column("label", pa.array(case.labels))
    table = table.replace_schema_metadata({"number": str(number), "half": case.half})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in case.rows)
    with atomic_path(folder / f"{case.name}.jsonl") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_path(folder / f"{case.name}.parquet") as temporary:
        pq.write_table(table, temporary)
    seconds = time.perf_counter() - begin
    return f"{case.name}: {len(rows)} rows, {sum(case.labels)} poisoned, {len(missing)} scored in {seconds:.0f} s"


def _known(folder: Path, samples: list[Sample]) -> dict[str, dict]:
    wanted = {s.sample_id for s in samples}
    known: dict[str, dict] = {}
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path).drop_columns(["row", "label"])
        known |= {row["sample_id"]: row for row in table.to_pylist() if row["sample_id"] in wanted}
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder that holds data/ and field/")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where scores are kept")
    parser.add_argument("--only", nargs="*", default=[], help="names of cases; all where none is given")
    parser.add_argument(
        "--half", nargs="*", default=HALVES, choices=[*HALVES, *MORE], help="which cases (the two halves)"
    )
    parser.add_argument("--list", action="store_true", help="names the cases and scores nothing")
    parser.add_argument("--model", default="", help="scoring model, the embedded one by default")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    model = options.model
    beside = more(options.shared) if set(options.half) - set(HALVES) else ()
    for number, case in enumerate(chain(cases(options.shared), beside)):
        if case.half not in options.half or (options.only and case.name not in options.only):
            continue
        if options.list:
            print(case.name)
        elif not (options.cache / f"{case.name}.parquet").exists():
            if not model:
                from gradsentry_lib.scoring.embedded import embedded_model

                model = str(embedded_model())
            print(score(number, case, options.cache, model, options.dtype), flush=True)


if __name__ == "__main__":
    main()
