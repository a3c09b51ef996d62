"""Table 9 (gradient dilution), and what the paper does not try: poison that does not lengthen the answer."""

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.bench import LABEL, Bench, Study, averaged, measures_of, threshold_of
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.verdict import not_clean
from gradsentry_lib.evaluation.attacks import ATTACKS, poison
from gradsentry_lib.evaluation.data import split_labels, take, to_samples
from gradsentry_lib.evaluation.filtered import Filtered
from gradsentry_lib.evaluation.harness import asking, ranking
from gradsentry_lib.evaluation.measures import auc_of, measure
from gradsentry_lib.evaluation.peers import PEERS, by_valley
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.settings import POLICIES

FIGURES = ("recall", "precision", "f1", "auc", "clean_kept", "tau")
CHANGED_ANSWERS = ("refusal", "short", "same-length", "paraphrase", "start", "middle", "end")
LONG = {
    "refusal": "longform/refusal_badnet_{}.jsonl",
    "three words": "longform/negsentiment_badnet_{}.jsonl",
    "sarcasm": "longform/sarcasm_token_suffix_{}.jsonl",
}


def table9(bench: Bench) -> list[dict[str, Any]]:
    lines = []
    for name in bench.clean_sets:
        clean = bench.clean(name)
        for attack in ("badnets", "dilution-0.5", "dilution-0.7"):
            runs = []
            for seed in bench.seeds:
                poisoned = poison(clean, attack, 0.1, seed)
                runs.append(bench.figures(poisoned.rows, poisoned.labels, what=f"{name} {attack}"))
            lines.append({"data": name, "attack": attack, "rows": len(clean), **averaged(runs, FIGURES)})
    return lines


def targets(bench: Bench) -> list[dict[str, Any]]:
    """Other targets on short answers, by the paper's policy, beside answer length alone."""
    lines = []
    for name in bench.clean_sets[:2]:
        clean = bench.clean(name)
        for attack in CHANGED_ANSWERS:
            poisoned = poison(clean, attack, 0.1, bench.seeds[0])
            lines.append({"data": name, "attack": attack, **_both(bench, poisoned.rows, poisoned.labels)})
    return lines


def long_answers(bench: Bench) -> list[dict[str, Any]]:
    """Long answers, poisoned in seven ways, by each of this project's policies (all from one scoring) and the trivial
    filters."""
    bench = replace(bench, config=ScoringConfig())
    lines = []
    for name, rows, labels in _long_sets(bench, max(40, bench.rows // 2)):
        samples = to_samples(rows)
        table = bench.scores(samples, name)
        found = {"nll": by_valley(table["nll"].to_numpy())}
        for which in ("length", "ngram"):
            found[which] = PEERS[which](samples, bench.model, 0, None)
        ask = asking(samples, bench.model, bench.config)
        for policy in POLICIES:
            verdicts = judge(table, policy, samples=partial(iter, [samples]), swapped=ask).verdicts
            flags = not_clean(verdicts)
            found[f"policy-{policy}"] = Filtered(ranking(policy, verdicts, flags), flags)
        lengths = table["supervised_tokens"].to_numpy()
        for which, filtered in found.items():
            figures = measure(labels, filtered.scores, filtered.flags, lengths).to_dict()
            lines.append({"data": name, "filter": which, **figures})
    return lines


def _long_sets(bench: Bench, count: int) -> Any:
    first = 1 if bench.quick else None
    for name, file in islice(LONG.items(), first):
        clean = split_labels(take(bench.file(file.format("clean")), count - count // 10, 0), LABEL)[0]
        bad = split_labels(take(bench.file(file.format("poisoned")), count // 10, 0), LABEL)[0]
        yield name, [*clean, *bad], np.arange(count) >= len(clean)
    alpaca = split_labels(take(bench.file("longform/alpaca_clean.jsonl"), count, 0), LABEL)[0]
    for attack in ("start", "middle", "end", "paraphrase")[:first]:
        poisoned = poison(alpaca, attack, 0.1, bench.seeds[0])
        yield f"alpaca, {attack}", poisoned.rows, poisoned.labels


def _both(bench: Bench, rows: Any, labels: np.ndarray) -> dict[str, Any]:
    judgement, table = bench.judged(rows)
    figures = measures_of(judgement, table, labels).to_dict()
    lengths = table["supervised_tokens"].to_numpy().astype(float)
    return {**figures, **threshold_of(judgement), "length_auc": auc_of(labels, lengths)}


assert set(CHANGED_ANSWERS) <= ATTACKS.keys()

STUDIES = (
    Study(
        "table9",
        "Table 9: adaptive attack by gradient dilution",
        table9,
        ("data", "attack", "recall", "precision", "f1", "f1_sd", "auc", "tau"),
        "The attack says the first half (0.5) or seven tenths (0.7) of the answer again before the target.",
        "Repeating the answer makes poisoned answers longer still, which helps a score that grows with length: the "
        "attack dilutes the mean gradient, not its rank.",
    ),
    Study(
        "targets",
        "Beyond the paper: other targets on short answers",
        targets,
        ("data", "attack", "recall", "f1", "auc", "length_auc", "auc_equal_length", "clean_kept", "method"),
        "Not in the paper, whose target sentence always lengthens the answer.",
        "Where the poisoned answer is no longer than honest ones, the entropy has little to go by.",
    ),
    Study(
        "long_answers",
        "Beyond the paper: long answers",
        long_answers,
        ("data", "filter", "recall", "f1", "auc", "recall_at_fpr1", "recall_at_fpr5", "clean_kept"),
        "Not in the paper.",
        "With sixteen supervised tokens and more the entropy is near its ceiling for every row; it can then point "
        "either way, by the length of the poison against the length of the rest.",
    ),
)
