"""What reading and writing the shards of one set in several processes would save: in this one, and as Ray tasks.

    python -m benchmarks.shards [--rows 200000] [--shards 8] [--workers 2] [--quick] [--write]

Read: rows parsed, checked, hashed and written as a table of samples. Write: the clean rows of every shard (all but one
in ten), byte for byte in the source's own format. On Ray a task has one shard; the cluster's start is told apart. Not
counted is what one set needs besides: layout, row numbers, rejected rows and notes in one order, one digest of it all.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gradsentry_lib  # noqa: F401  before pyarrow: says which allocator Arrow is to use, as in any scan
from benchmarks.results import section, table, timed
from benchmarks.scale import make_source
from gradsentry_lib.samples.read import open_source
from gradsentry_lib.samples.table import write_samples
from gradsentry_lib.samples.write import write_clean


def main() -> None:
    told = arguments()
    with tempfile.TemporaryDirectory(prefix="shards-") as place:
        lines = measure(Path(place), told.rows, told.shards, told.workers)
    print(table(lines))
    if told.write:
        what = f"{told.rows:,} rows in {told.shards} shards of JSON Lines; Ray: {told.workers} workers of one CPU here."
        section("shards", "Shards read and written in several processes", [what, table(lines)], told.quick)


def measure(place: Path, rows: int, shards: int, workers: int) -> list[dict[str, Any]]:
    import ray

    source = place / "source"
    source.mkdir()
    parts = [make_source(source / f"part-{n:05d}.jsonl", rows // shards, n * rows // shards) for n in range(shards)]
    out = place / "out"
    out.mkdir()
    here = {
        "read": timed(lambda: read(source, out / "here"), time.perf_counter),
        "write": timed(lambda: write(source, out / "clean-here"), time.perf_counter),
    }

    def start() -> None:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
        ray.get([ray.remote(warm).remote() for _ in range(workers)])

    started = timed(start, time.perf_counter)
    try:
        tasks: dict[str, Callable[[Path, Path], int]] = {"read": read, "write": write}
        apart = {
            name: timed(
                lambda name=name, work=work: ray.get(
                    [ray.remote(work).remote(part, out / f"{name}-{part.name}") for part in parts]
                ),
                time.perf_counter,
            )
            for name, work in tasks.items()
        }
    finally:
        ray.shutdown()
    return [
        {
            "step": name, "here s": here[name], "on Ray s": apart[name], "cluster's start s": started,
            "here us a row": 1e6 * here[name] / rows, "saved us a row": 1e6 * (here[name] - apart[name]) / rows,
        }
        for name in here
    ]  # fmt: skip


def read(source: Path, out: Path) -> int:
    return write_samples(open_source(str(source)), Path(f"{out}.parquet"), Path(f"{out}.rejected")).readable


def write(source: Path, out: Path) -> int:
    opened = open_source(str(source))
    return write_clean(opened, np.arange(0, 1 << 24, 10), out)


def warm() -> None:
    """A worker has imported what it needs."""


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--shards", type=int, default=8)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--quick", action="store_true", help="few rows")
    options.add_argument("--write", action="store_true", help="write RESULTS.md")
    told = options.parse_args()
    if told.quick:
        told.rows = 20_000
    return told


if __name__ == "__main__":
    main()
