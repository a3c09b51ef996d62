"""Is a certificate true? `python -m benchmarks.power [--data FILE] [--rows 300] [--times 20]`.

A batch gets its certificate. Then attacks of the same kinds are planted for good, in place of rows, one a time, as
often as asked for every size: scored anew, judged with the whole batch, the model asked as in any scan. As many
should be found as the certificate says (`--times 0`: nothing is planted). Beside it: the seconds of scan and
certificate, which is to cost a tenth from 2,000 rows on; smaller batches are asked for one (`--power on`).

Writes docs/evaluation/power.json.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

import gradsentry_lib as gs
from gradsentry_assets.demo_data.make import fact_rows
from gradsentry_lib.detection.config import RULES
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.reason import Said, answered
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.errors import GradSentryError
from gradsentry_lib.evaluation.data import read_rows, split_labels, take, to_samples
from gradsentry_lib.evaluation.harness import asking
from gradsentry_lib.evaluation.rows import Row
from gradsentry_lib.files import read_json, write_json
from gradsentry_lib.pipeline import decide as deciding
from gradsentry_lib.pipeline.power import LARGE
from gradsentry_lib.power.canaries import KINDS, Canary, plant
from gradsentry_lib.power.certificate import SIZES, Certificate, wilson
from gradsentry_lib.power.mixtures import FOUND
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.model import ScoringModel, load_model
from gradsentry_lib.scoring.score import to_table
from gradsentry_lib.scoring.scorer import score_samples

RESULT = Path("docs/evaluation/power.json")


CLOCKS = {"seconds": time.process_time, "wall": time.perf_counter}


def certificate_of(rows: Sequence[Row]) -> tuple[Certificate, dict[str, float]]:
    """The certificate of a scan; seconds of the scan without it, and of it: the processor's, and by the clock."""
    spent: dict[str, float] = {}
    certify = deciding.certify

    def timed(*given: Any, **more: Any) -> Certificate | None:
        start = {name: clock() for name, clock in CLOCKS.items()}
        made = certify(*given, **more)
        spent.update({f"certificate_{name}": clock() - start[name] for name, clock in CLOCKS.items()})
        return made

    deciding.certify = timed  # the only way to time a step of a scan from without
    power = "auto" if len(rows) >= LARGE else "on"
    try:
        with tempfile.TemporaryDirectory() as home:
            start = {name: clock() for name, clock in CLOCKS.items()}
            result = gs.scan([dict(row) for row in rows], power=power, store=home, progress=False)
            for name, clock in CLOCKS.items():
                spent[f"scan_{name}"] = clock() - start[name] - spent[f"certificate_{name}"]
            certificate = result.power
    finally:
        deciding.certify = certify
    assert certificate is not None
    return certificate, {name: round(seconds, 1) for name, seconds in spent.items()}


class Planted:
    """A batch, scored, into which attacks are planted one after the other."""

    def __init__(self, samples: Sequence[Sample], model: ScoringModel) -> None:
        self.samples, self.model = list(samples), model
        self.said: Said = {}

    @cached_property
    def scores(self) -> pa.Table:
        return to_table(score_samples(self.samples, self.model, ScoringConfig()))

    def finds(self, canaries: Sequence[Canary]) -> bool:
        """Whether a scan of the batch with these in place of the rows that they are copies of finds them."""
        samples = list(self.samples)
        for canary in canaries:
            samples[canary.base] = canary.sample
        new = to_table(score_samples([canary.sample for canary in canaries], self.model, ScoringConfig()))
        where = np.arange(len(samples))
        where[[canary.base for canary in canaries]] = len(samples) + np.arange(len(canaries))
        scores = pa.concat_tables([self.scores, new]).take(pa.array(where))
        scores = scores.add_column(0, "row", pa.array(range(len(samples)), pa.int64()))
        ask = asking(samples, self.model, ScoringConfig())
        swapped = partial(answered, ask, said=self.said)
        verdicts = judge(scores, "auto", samples=lambda: iter([samples]), swapped=swapped).verdicts
        return bool(not_clean(verdicts)[[canary.base for canary in canaries]].mean() >= FOUND)


def drawn(samples: Sequence[Sample], kind: str, size: int, seed: int) -> list[Canary]:
    """An attack of that kind on rows that are drawn anew."""
    rng = random.Random(f"{kind} {size} {seed}")
    some = rng.sample(range(len(samples)), min(len(samples), 150))
    made = [canary for canary in plant([samples[i] for i in some]) if canary.kind == kind][:size]
    return [Canary(canary.kind, some[canary.base], canary.sample) for canary in made]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="clean or labelled rows; the project's facts if left out")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--times", type=int, default=20, help="attacks planted for every size")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    options = parser.parse_args()
    console = Console(stderr=True)
    try:
        rows = fact_rows() if options.data is None else read_rows(options.data)
        if "poisoned" in rows[0]:
            told, labels = split_labels(rows, "poisoned")
            rows = [row for row, bad in zip(told, labels, strict=True) if not bad]
        rows = take(rows, options.rows, 0)
        certificate, spent = certificate_of(rows)
        console.print("\n".join(certificate.sentences()), markup=False)
        samples = to_samples(rows)
        batch = Planted(samples, load_model("embedded"))
        lines = []
        for size in options.sizes:
            said = certificate.cell(size)
            found = []
            for number in range(options.times):
                kind = KINDS[number % len(KINDS)]
                found.append((kind, batch.finds(drawn(samples, kind, size, number))))
                console.print(f"{size} rows, {kind}: {'found' if found[-1][1] else 'not found'}", markup=False)
            hits = sum(one for _, one in found)
            lines.append(
                {
                    "data": options.data.stem if options.data else "facts",
                    "rows": len(rows),
                    "attack rows": size,
                    "certified": said.share,
                    "certified_low": said.interval[0],
                    "certified_high": said.interval[1],
                    "planted": len(found),
                    "found": hits,
                    "found_low": wilson(hits, len(found))[0],
                    "found_high": wilson(hits, len(found))[1],
                    "by kind": {kind: sum(one for k, one in found if k == kind) for kind in KINDS},
                    "alarms": f"{certificate.alarms} of {certificate.shuffled}",
                    **spent,
                    "rules": RULES,
                }
            )
    except GradSentryError as error:
        console.print(str(error), style="red", markup=False)
        return error.exit_code
    known = read_json(RESULT)["lines"] if RESULT.exists() else []
    key = itemgetter("data", "rows", "attack rows")
    kept = [line for line in known if key(line) not in set(map(key, lines))]
    write_json(RESULT, {"lines": [*kept, *lines]})
    print(json.dumps(lines, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
