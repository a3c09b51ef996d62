"""How often the declared test is wrong where nothing can be right: `python -m benchmarks.shuffled [--times 5]`.

The prompts of a scored case are dealt out anew among its answers, so that no part of a prompt can have changed an
answer. Clause 3 is not asked: every trigger that is proven counts.
"""

import sys
from dataclasses import replace

import numpy as np
from rich.console import Console

from benchmarks.declared import arguments, chosen
from gradsentry_lib.detection.search import detect
from gradsentry_lib.detection.texts import read_rows
from gradsentry_lib.errors import GradSentryError


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--times", type=int, default=5, help="shuffles a case")
    options = parser.parse_args()
    wrong = batches = 0
    try:
        for case in chosen(options):
            rows = read_rows(
                case.scores, lambda s=case.samples: iter([s]), lambda t=case.scores: t["sketch"].to_pylist()
            )
            rng = np.random.default_rng(0)
            for _ in range(options.times):
                order = rng.permutation(len(rows.ids))
                found = detect(replace(rows, prompts=[rows.prompts[i] for i in order]))
                batches += 1
                wrong += bool(found.flagged.any())
                if found.flagged.any():
                    told = [(t.names, round(t.log10_p, 1), t.statistic, len(t.flagged)) for t in found.triggers]
                    print(f"{case.name}: {told}", flush=True)
    except GradSentryError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return error.exit_code
    print(f"{wrong} of {batches} batches with shuffled prompts have a row flagged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
