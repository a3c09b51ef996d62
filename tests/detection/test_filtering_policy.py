"""From scores to verdicts: policy `paper`, unscored rows, overrides, reasons."""

import numpy as np
import pyarrow as pa
import pytest

from gradsentry_lib.detection.entropy_threshold import ThresholdConfig, find_threshold
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.verdict import VERDICT_SCHEMA, Override, count_verdicts, reason_lists
from gradsentry_lib.errors import BadInput

FIXED = ThresholdConfig(fixed=0.7)


def score_table(entropy, failure=None, ids=None) -> pa.Table:
    n = len(entropy)
    return pa.table(
        {
            "row": pa.array(range(n), pa.int64()),
            "sample_id": pa.array(ids or [f"sample{i}" for i in range(n)], pa.string()),
            "entropy": pa.array(entropy, pa.float64()),
            "turn_entropies": pa.array([[e] for e in entropy], pa.list_(pa.float64())),
            "supervised_tokens": pa.array([12] * n, pa.int32()),
            "nll": pa.array([1.5] * n, pa.float64()),
            "truncated": pa.array([False] * n),
            "sketch": pa.array([b""] * n, pa.binary()),
            "failure": pa.array(failure or [""] * n, pa.string()),
        }
    )


def said(judgement) -> list[tuple[str, list[str]]]:
    rows = judgement.verdicts.select(["verdict", "reasons"]).to_pylist()
    return [(row["verdict"], row["reasons"]) for row in rows]


def test_paper_flags_strictly_above_the_threshold():
    judged = judge(score_table([0.2, 0.7, 0.7000000001, 0.812]), "paper", threshold=FIXED)
    assert said(judged) == [
        ("clean", []),
        ("clean", []),
        ("flagged", ["entropy 0.7000000001 above threshold 0.7"]),
        ("flagged", ["entropy 0.812 above threshold 0.700"]),
    ]
    assert judged.threshold.method == "fixed"


def test_the_found_threshold_is_the_one_used():
    rng = np.random.default_rng(0)
    entropy = np.concatenate([rng.normal(0.4, 0.05, 270), rng.normal(0.8, 0.03, 30)])
    judged = judge(score_table(entropy), "paper")
    assert judged.threshold == find_threshold(entropy)
    assert np.array_equal(judged.verdicts["verdict"].to_numpy() == "flagged", entropy > judged.threshold.tau)
    assert judged.verdicts.schema.equals(VERDICT_SCHEMA)
    assert judged.verdicts["row"].to_pylist() == list(range(300))


def test_unscored_rows_are_never_clean_and_never_move_the_threshold():
    entropy = [0.3, np.nan, np.inf, 0.9, None, -np.inf]
    failure = ["", "", "", "no supervised tokens", "", ""]
    judged = judge(score_table([0.3] * 30 + entropy, [""] * 30 + failure), "paper")
    assert said(judged)[30:] == [
        ("clean", []),
        ("unscored", ["not scored: entropy is not a number"]),
        ("unscored", ["not scored: entropy is infinite"]),
        ("unscored", ["not scored: no supervised tokens"]),
        ("unscored", ["not scored: entropy is not a number"]),
        ("unscored", ["not scored: entropy is infinite"]),
    ]
    assert np.isnan(judged.verdicts["entropy"].to_numpy()[31:]).all()
    assert (judged.threshold.n, judged.threshold.ignored) == (31, 5)


def test_overrides_have_the_last_word_and_keep_the_evidence():
    overrides = [
        Override("sample0", "flag", "bo", "wrong answer"),
        Override("sample1", "release", "ann", "checked by hand"),
        Override("sample2", "release", "ann", "known licence text"),
        Override("sample3", "release", "ann", "first word"),
        Override("sample3", "flag", "bo", "last word"),
        Override("elsewhere", "flag", "bo", "another batch"),
    ]
    judged = judge(score_table([0.2, 0.9, np.nan, 0.9, 0.9]), "paper", threshold=FIXED, overrides=overrides)
    above = "entropy 0.900 above threshold 0.700"
    assert said(judged) == [
        ("flagged", ["flagged by bo: wrong answer"]),
        ("clean", ["released by ann: checked by hand", above]),
        ("clean", ["released by ann: known licence text", "not scored: entropy is not a number"]),
        ("flagged", ["flagged by bo: last word", above]),
        ("flagged", [above]),
    ]


def test_an_override_holds_for_every_row_with_that_text():
    table = score_table([0.9, 0.9, 0.9], ids=["same", "other", "same"])
    judged = judge(table, "paper", threshold=FIXED, overrides=[Override("same", "release", "ann", "fine")])
    assert judged.verdicts["verdict"].to_pylist() == ["clean", "flagged", "clean"]


def test_an_empty_batch_is_judged():
    judged = judge(score_table([]), "paper")
    assert judged.verdicts.num_rows == 0 and judged.verdicts.schema.equals(VERDICT_SCHEMA)
    assert judged.threshold.method == "fallback"


def test_a_score_table_in_chunks_gives_the_same_verdicts():
    table = score_table(np.linspace(0, 1, 100))
    parts = pa.concat_tables([table.slice(0, 7), table.slice(7, 60), table.slice(67)])
    assert judge(parts, "paper").verdicts.equals(judge(table, "paper").verdicts)


def test_an_unknown_policy_is_refused_by_name():
    with pytest.raises(BadInput, match=r"unknown policy 'papper': choose one of .*paper"):
        judge(score_table([0.5]), "papper")


def test_counts_leave_out_what_is_no_verdict():
    counts = count_verdicts(pa.table({"verdict": ["clean", "flagged", "flagged", "unscored", "odd"]}))
    assert (counts.clean, counts.flagged, counts.unscored) == (1, 2, 1)
    assert (counts.quarantined, counts.readable) == (3, 4)


def test_reasons_stand_in_the_order_of_the_notes():
    lists = reason_lists(4, [(np.array([3, 1]), ["a3", "a1"]), (np.array([1]), ["b1"]), (np.empty(0, int), [])])
    assert lists.to_pylist() == [[], ["a1", "b1"], [], ["a3"]]
