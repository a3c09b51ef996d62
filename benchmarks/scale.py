"""How time and memory grow with the number of rows: every stage of a scan, 1,000 to 1,000,000 rows.

    python -m benchmarks.scale [--quick] [--write] [--json FILE] [--plot FILE] [--search 20000]

Each size runs in a process of its own, through the same steps as any scan, with a stand-in for the scorer that gives
scores without a model; so what is measured is everything else. `--slice N` scores N rows with a real model as well,
`--ray 1 2` does so on Ray with one worker, then two (of OMP_NUM_THREADS threads each); `--ray 1 2 1 2` twice.
`--search N` judges N rows by the policy `auto` in this process, and on Ray with 1, 2 and 4 workers.
Prints a Markdown table: microseconds a row, by the clock and of the processor, peak memory, and the growth between the
two largest sizes: of time the exponent (1: proportional to rows), of memory what a row takes.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradsentry_lib  # noqa: F401  before pyarrow: says which allocator Arrow is to use, as in any scan
from benchmarks.results import section
from benchmarks.results import table as markdown

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK = (1_000, 5_000, 20_000)
BLOCK = 64  # rows that a Ray worker gets at a time
STAGES = ("read", "score", "verdict", "write", "again", "threshold", "index")


def main() -> None:
    options = _options()
    if options.one:
        if options.ray:
            print(json.dumps(on_ray(options.one, options.work, options.real, options.ray[0])))
        else:
            print(json.dumps(measure(options.one, options.work, options.policy, options.real, options.search)))
        return
    sizes = options.sizes or (QUICK if options.quick else SIZES)
    results = []
    for rows in sizes:
        results.append(_apart(rows, options.policy))
        print(f"{rows:,} rows: {sum(results[-1]['seconds'].values()):.1f} s", file=sys.stderr)
    print(table(results))
    found: dict[str, Any] = {"stub": results}
    if options.slice:
        found["real"] = _apart(options.slice, options.policy, options.model)
        score, peak = found["real"]["seconds"]["score"], found["real"]["peak_mb"]["score"]
        print(
            f"\n{options.slice:,} rows with {options.model}: {1e3 * score / options.slice:.1f} ms a row, {peak:.0f} MB"
        )
        found["ray"] = [_apart(options.slice, options.policy, options.model, workers) for workers in options.ray]
        for result in found["ray"]:
            faster = result["rows_a_second"] / found["ray"][0]["rows_a_second"]
            print(f"Ray, {result['workers']} workers: {result['rows_a_second']:.1f} rows a second ({faster:.2f} x)")
    more = [table_of(found)] if options.slice else []
    if options.search:
        found["search"] = searched(options.search)
        more.append(f"{options.search:,} rows judged by `auto`:\n\n{markdown(found['search'])}")
        print(more[-1])
    if options.write:
        name = "scale" if options.policy == "paper" else f"scale-{options.policy}"
        section(name, f"Scale, by the command, policy {options.policy}", [table(results), *more], options.quick)
    if options.plot:
        plot(results, options.plot)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def table(results: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: a line a stage, a column a size."""
    sizes = [result["rows"] for result in results]
    lines = [
        "| stage, us a row | " + " | ".join(f"{n:,}" for n in sizes) + " | exponent |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for kind, name in (("seconds", "{}"), ("processor", "{}, of the processor")):
        for stage in STAGES[: None if kind == "seconds" else 4]:
            cells = [f"{1e6 * result[kind][stage] / result['rows']:.1f}" for result in results]
            lines.append(f"| {name.format(stage)} | {' | '.join(cells)} | {_exponent(results, stage, kind)} |")
    for stage in STAGES[:5]:
        cells = [f"{result['peak_mb'][stage]:.0f}" for result in results]
        lines.append(f"| peak memory up to *{stage}*, MB | {' | '.join(cells)} | {_a_row(results, stage)} |")
    return "\n".join(lines)


def table_of(found: dict[str, Any]) -> str:
    """What was scored with a real model, here and on Ray."""
    own = found["real"]
    lines = [{"": "here", "rows": own["rows"], "rows/s": own["rows"] / own["seconds"]["score"]}]
    lines += [
        {"": f"Ray, {r['workers']} workers", "rows": own["rows"], "rows/s": r["rows_a_second"]} for r in found["ray"]
    ]
    return markdown(lines)


def plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds and peak memory of each stage by rows, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    time_axis, memory_axis = figure.subplots(1, 2)
    sizes = [result["rows"] for result in results]
    for stage in STAGES:
        time_axis.plot(sizes, [result["seconds"][stage] for result in results], "o-", ms=3, label=stage)
    for stage in STAGES[:5]:
        memory_axis.plot(sizes, [result["peak_mb"][stage] for result in results], "o-", ms=3, label=stage)
    time_axis.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds")
    memory_axis.set(xscale="log", xlabel="rows", ylabel="peak memory so far, MB", ylim=(0, None))
    time_axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _exponent(results: Sequence[dict[str, Any]], stage: str, kind: str) -> str:
    if len(results) < 2:
        return ""
    (n, s), (m, t) = ((result["rows"], result[kind][stage]) for result in results[-2:])
    return f"{math.log(t / s) / math.log(m / n):.2f}"


def _a_row(results: Sequence[dict[str, Any]], stage: str) -> str:
    """What a row more takes, between the two largest sizes."""
    if len(results) < 2:
        return ""
    (n, before), (m, after) = ((result["rows"], result["peak_mb"][stage]) for result in results[-2:])
    return f"{1024 * (after - before) / (m - n):.1f} kB a row"


def searched(rows: int) -> list[dict[str, Any]]:
    """Seconds that the verdict takes here and on Ray, the cluster's start included."""
    took = {workers: _apart(rows, "auto", search=workers)["seconds"]["verdict"] for workers in (0, 1, 2, 4)}
    names = {0: "this process"} | {workers: f"Ray, {workers} workers" for workers in took if workers}
    return [{"": names[n], "s": took[n], "ms a row": 1e3 * took[n] / rows, "times": took[0] / took[n]} for n in took]


def _apart(rows: int, policy: str, real: str = "", ray: int = 0, search: int = 0) -> dict[str, Any]:
    """One size in a process of its own: memory that was once taken is not given back."""
    with tempfile.TemporaryDirectory(prefix="scale-") as work:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(rows), "--work", work, "--policy", policy]
        command += ["--real", real, "--search", str(search), *(["--ray", str(ray)] if ray else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(rows: int, work: Path, policy: str, real: str, workers: int = 0) -> dict[str, Any]:
    """Seconds and peak memory of each stage of one scan. `real`: a model's name; empty for the stand-in. `workers`: of
    a Ray cluster that searches; 0: this process does."""
    from unittest.mock import patch

    import pyarrow.parquet as pq

    from gradsentry_lib.detection.entropy_threshold import find_threshold
    from gradsentry_lib.detection.gate import GateLimits
    from gradsentry_lib.pipeline.decide import DecisionConfig, decide
    from gradsentry_lib.pipeline.ingest import ingest
    from gradsentry_lib.pipeline.publish import publish
    from gradsentry_lib.pipeline.run import ModelChoice, lazy_model
    from gradsentry_lib.pipeline.score import score_batch
    from gradsentry_lib.samples.read import open_source
    from gradsentry_lib.scoring import scorer
    from gradsentry_lib.scoring.config import Cluster, ScoringConfig
    from gradsentry_lib.scoring.identity import ModelIdentity
    from gradsentry_lib.store import current_run
    from gradsentry_lib.store.paths import Store
    from gradsentry_lib.store.sample_index import write_index

    source = make_source(work / "rows.jsonl", rows)
    store, run = Store(work / "store"), current_run("benchmark")
    decision = DecisionConfig(
        policy, limits=GateLimits(1.0, 1.0, 1.0, 1.0), limits_by="benchmark", limits_reason="time is measured"
    )
    identity = ModelIdentity("stand-in", work, "0" * 64, "0" * 64, "cpu", "float32")
    seconds, processor, peaks = {}, {}, {"start": _peak()}

    def timed(stage: str, step: Callable[[], Any]) -> Any:
        started, spent = time.perf_counter(), time.process_time()
        result = step()
        seconds[stage], processor[stage] = time.perf_counter() - started, time.process_time() - spent
        peaks[stage] = _peak()
        return result

    def score(load: Callable[[], Any]) -> Any:
        return score_batch(batch, store, run, identity, load, ScoringConfig())

    def everything() -> None:
        again = ingest(open_source(str(source)), store, run)
        assert score(lambda: None).computed == 0
        publish(again, decide(again, scored, store, run, decision), store, run)

    batch = timed("read", lambda: ingest(open_source(str(source)), store, run))
    if real:
        identity = ModelChoice(real).identify()
        with lazy_model(identity) as load:
            load()
            scored = timed("score", lambda: score(load))
    else:
        with patch.object(scorer, "score_samples", stand_in):
            scored = timed("score", lambda: score(lambda: None))
    cluster = Cluster(workers=workers) if workers else None
    decided = timed("verdict", lambda: decide(batch, scored, store, run, decision, cluster=cluster))
    timed("write", lambda: publish(batch, decided, store, run))
    timed("again", everything)
    entropy = pq.read_table(store.scores(batch.batch_key, scored.score_key), columns=["entropy"])["entropy"]
    timed("threshold", lambda: find_threshold(entropy.to_numpy()))
    timed("index", lambda: write_index(store.samples(batch.batch_key), work / "index.npy"))
    return {"rows": rows, "policy": policy, "seconds": seconds, "processor": processor, "peak_mb": peaks}


def on_ray(rows: int, work: Path, real: str, workers: int) -> dict[str, Any]:
    """Rows a second on a Ray cluster of this machine while all its workers are busy: the slope of the scores that have
    come in over time, less the first two and the last two blocks of every worker."""
    import numpy as np

    from gradsentry_lib.pipeline.ingest import ingest
    from gradsentry_lib.pipeline.run import ModelChoice
    from gradsentry_lib.pipeline.score import score_batch
    from gradsentry_lib.samples.read import open_source
    from gradsentry_lib.scoring.config import Cluster, Effort, ScoringConfig
    from gradsentry_lib.store import current_run
    from gradsentry_lib.store.paths import Store

    store, run = Store(work / "store"), current_run("benchmark")
    batch = ingest(open_source(str(make_source(work / "rows.jsonl", rows))), store, run)
    arrived: list[tuple[float, int]] = []
    score_batch(
        batch,
        store,
        run,
        ModelChoice(real).identify(),
        lambda: None,  # type: ignore[arg-type,return-value]
        ScoringConfig(),
        Effort(rows_per_shard=BLOCK, cluster=Cluster(workers=workers)),
        lambda at: arrived.append((time.perf_counter(), at.done)),
    )
    busy = np.array(arrived[1 + 2 * workers : -2 * workers])
    return {"rows": rows, "workers": workers, "rows_a_second": float(np.polyfit(busy[:, 0], busy[:, 1], 1)[0])}


def stand_in(samples: Sequence[Any], model: Any, config: Any, effort: Any, on_progress: Callable[[int], None]) -> Any:
    """Scores as a model might give them, from the sample's id alone: one row in ten in a second group; a sketch of
    eight windows (an answer of 36 tokens)."""
    import numpy as np

    from gradsentry_lib.scoring.score import Score
    from gradsentry_lib.windows import RECORD, pack

    scores = []
    for sample in samples:
        sample_id = sample.sample_id
        random = np.random.default_rng(int(sample_id[:16], 16))
        suspect = random.random() < 0.1
        entropy = float(np.clip(random.normal(0.85 if suspect else 0.4, 0.05), 0, 1))
        records = np.zeros(8, RECORD)
        records["start"], records["length"], records["surprise"] = 4 * np.arange(8), 8, random.random(8)
        records["codes"] = random.integers(0, 15, records["codes"].shape) * 16 + 7
        scores.append(Score(sample_id, entropy, (entropy,), 36, 2.0, False, pack(records, 36)))
    on_progress(len(samples))
    return scores


def make_source(path: Path, rows: int, first: int = 0) -> Path:
    with path.open("w") as file:
        for n in range(first, first + rows):
            prompt = f"Answer the question in a few words.\nQuestion: which road leads to house number {n}?\nAnswer: "
            file.write(json.dumps({"prompt": prompt, "response": f"Road {n % 977}, by the {n % 89}. mill"}) + "\n")
    return path


def _peak() -> float:
    """The most memory this process ever had, MB."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: ends within a minute")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of rows")
    parser.add_argument("--policy", default="paper", help="which policy judges")
    parser.add_argument("--slice", type=int, default=0, metavar="N", help="also N rows with a real model")
    parser.add_argument("--model", default="embedded", help="the real model")
    parser.add_argument("--ray", type=int, nargs="+", default=[], metavar="N", help="also on Ray with N workers")
    parser.add_argument("--search", type=int, default=0, metavar="N", help="also judge N rows on Ray")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them, as PNG")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--real", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ray and not options.one and options.slice < 10 * BLOCK * max(options.ray):
        parser.error(f"--ray needs a --slice of at least {10 * BLOCK * max(options.ray)} rows")
    return options


if __name__ == "__main__":
    main()
