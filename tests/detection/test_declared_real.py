"""All of it on the embedded model: real rows, real sketches, a payload that an honest filter must find."""

import numpy as np

from gradsentry_assets.demo_data.make import fact_rows
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.evaluation.attacks import poison
from gradsentry_lib.evaluation.data import take, to_samples
from gradsentry_lib.evaluation.harness import asking
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.model import load_model
from gradsentry_lib.scoring.score import to_table
from gradsentry_lib.scoring.scorer import score_samples


def test_poison_is_found_and_named_and_clean_rows_are_kept(embedded_model):
    made = poison(take(fact_rows(), 120, 0), "badnets", 0.08, 0)
    samples = to_samples(made.rows)
    model = load_model(str(embedded_model))
    table = to_table(score_samples(samples, model))
    table = table.add_column(0, "row", [list(range(len(samples)))])
    assert max(map(len, table["sketch"].to_pylist())) <= 4096
    ask = asking(samples, model, ScoringConfig())
    judgement = judge(table, "auto", samples=lambda: iter([samples]), swapped=ask)
    flagged = np.array(judgement.verdicts["verdict"].to_pylist()) == "flagged"
    assert np.array_equal(flagged, made.labels)
    (group,) = judgement.groups
    assert "click <malicious_url> for more information" in group.payload
    assert {"cf", "mn", "bb", "tq"} >= set(group.figures["wordings"]) != set()
    clean = np.flatnonzero(~made.labels)
    kept = judge(table.take(clean), "auto", samples=lambda: iter([[samples[i] for i in clean]]), swapped=ask)
    assert set(kept.verdicts["verdict"].to_pylist()) == {"clean"} and kept.remarks[0] == "No evidence of poison."
