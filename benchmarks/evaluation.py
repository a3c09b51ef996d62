"""The paper's tables and figures again, and those that it leaves out.

    python -m benchmarks.evaluation [--quick] [--data ../shared/data] [--only table2,figure4] [--rows 600]

Results go to docs/evaluation/*.json as each study ends, and a run that is stopped within one goes on where it stopped
when it is begun again; docs/evaluation.md (benchmarks/summary.py), its appendix and the plots are made from all results
that are there. `--report-only` makes them anew without running anything.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.bench import Bench, beside, timed
from benchmarks.report import write_report
from benchmarks.studies import adaptive, amounts, attacker, claim, identification, knowing, spectra, tuning
from benchmarks.summary import page
from gradsentry_lib import settings
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.files import read_json, write_json, write_text
from gradsentry_lib.scoring.model import load_model

STUDIES = (
    *identification.STUDIES,
    *amounts.STUDIES,
    *adaptive.STUDIES,
    *spectra.STUDIES,
    *tuning.STUDIES,
    *claim.STUDIES,
    *attacker.STUDIES,
    *knowing.STUDIES,
)
NAMES = [study.name for study in STUDIES]
QUICK = ("facts", "webqa")  # question sets of a quick run: CoQA's and NQ's contexts are long


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of evaluation data")
    parser.add_argument("--out", type=Path, help="where pages and results go (docs; with --quick .bench_eval)")
    parser.add_argument("--only", default="", help=f"studies, comma separated: {', '.join(NAMES)}")
    parser.add_argument("--rows", type=int, default=0, help="at most so many rows of a data set (600; quick: 60)")
    parser.add_argument("--seeds", default="", help="seeds, comma separated (0,1,2; quick: 0)")
    parser.add_argument(
        "--filters", default="", help="of the study peers only these, comma separated: the other lines there are kept"
    )
    parser.add_argument(
        "--sets",
        default="",
        help="only these question sets, comma separated (quick: facts, webqa): other sets' lines are kept",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no tuning later; a second run goes on")
    parser.add_argument("--model", default=settings.model(), help="scoring model")
    parser.add_argument("--device", default=settings.device())
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything runs")
    parser.add_argument("--report-only", action="store_true", help="only the report, from results that are there")
    options = parser.parse_args()
    options.out = options.out or Path(".bench_eval" if options.quick else "docs")  # small sizes replace no results
    return options


def main() -> int:
    options = arguments()
    console = Console(stderr=True)
    wanted = _names(options.only) or NAMES
    if options.filters and list(wanted) != ["peers"]:
        console.print("--filters is of the study peers: add --only peers.")
        return 2
    if unknown := set(wanted) - set(NAMES):
        console.print(f"There is no study {', '.join(sorted(unknown))}. Known: {', '.join(NAMES)}.")
        return 2
    try:
        if not options.report_only:
            _run(options, wanted, console)
    except GradSentryError as error:
        console.print(str(error), style="red", markup=False)
        return error.exit_code
    files = [options.out / "evaluation" / f"{name}.json" for name in NAMES]
    results = [read_json(file) for file in files if file.exists()]
    if not results:
        console.print("No results yet.")
        return 2
    console.print(f"Report: {write_report(results, STUDIES, options.out)}", markup=False)
    write_text(options.out / "evaluation.md", page(options.out / "evaluation"))
    return 0


def _run(options: argparse.Namespace, wanted: list[str], console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bench = Bench(
            model=load_model(options.model, device=options.device, dtype=options.dtype),
            data=options.data,
            cache=settings.home() / "evaluation",
            rows=options.rows or (60 if options.quick else 600),
            seeds=tuple(int(seed) for seed in (options.seeds or ("0" if options.quick else "0,1,2")).split(",")),
            quick=options.quick,
            filters=_names(options.filters),
            sets=_names(options.sets) or (QUICK if options.quick else ()),
            until=time.perf_counter() + 60 * options.minutes,
            progress=progress,
        )
        for study in STUDIES:
            if study.name in wanted:
                file = options.out / "evaluation" / f"{study.name}.json"
                result = timed(study, bench)
                if (options.filters or options.sets) and file.exists():
                    result = beside(read_json(file), result)
                write_json(file, json.loads(json.dumps(result)))
                bench.unfinished.drop()
                said = f"skipped: {result['skipped']}" if result["skipped"] else f"{result['seconds']:.0f} s"
                console.print(f"{study.title}: {said}", markup=False)


def _names(told: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in told.split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main())
