"""Rows with control tokens, and what is said of a batch of which not all was scored."""

import numpy as np
import pyarrow as pa
import pytest
from made import Made
from test_filtering_policy import score_table

from gradsentry_lib.detection.entropy_threshold import ThresholdConfig
from gradsentry_lib.detection.policies import judge
from gradsentry_lib.detection.verdict import Override
from gradsentry_lib.errors import BadInput
from gradsentry_lib.pipeline.decide import DecisionConfig

FIXED = ThresholdConfig(fixed=0.7)


def table(*tokens: str, failure: list[str] | None = None) -> pa.Table:
    return score_table([0.3] * len(tokens), failure).append_column("control_tokens", pa.array(tokens, pa.string()))


def test_they_are_flagged_with_their_names():
    judged = judge(table("", "'</s>' in the prompt"), "paper", threshold=FIXED)
    assert judged.verdicts["verdict"].to_pylist() == ["clean", "flagged"]
    assert judged.verdicts["reasons"].to_pylist() == [
        [],
        ["control tokens in the row's own text: '</s>' in the prompt"],
    ]
    assert judged.remarks[0].startswith("1 row holds control tokens in their own text")


def test_kept_ones_are_left_to_the_policy_and_said():
    judged = judge(table("", "'</s>' in the prompt", "x"), "paper", threshold=FIXED, control_tokens="keep")
    assert set(judged.verdicts["verdict"].to_pylist()) == {"clean"}
    assert judged.remarks == ("2 rows hold control tokens, kept as asked: scored as a trainer reads them.",)


def test_without_a_score_they_stay_unscored_with_both_reasons():
    judged = judge(table("x", failure=["too odd"]), "paper", threshold=FIXED)
    assert judged.verdicts["verdict"].to_pylist() == ["unscored"]
    assert judged.verdicts["reasons"].to_pylist() == [
        ["not scored: too odd", "control tokens in the row's own text: x"]
    ]


def test_a_persons_word_is_the_last():
    released = [Override("sample0", "release", "me", "they belong there")]
    judged = judge(table("x", "y"), "paper", threshold=FIXED, overrides=released)
    assert judged.verdicts["verdict"].to_pylist() == ["clean", "flagged"]
    assert judged.remarks[0].startswith("1 row holds")


def test_scores_of_a_version_that_did_not_look_are_judged_as_they_are():
    assert judge(score_table([0.3, 0.8]), "paper", threshold=FIXED).remarks == ()


def test_an_unknown_choice_is_bad_input():
    with pytest.raises(BadInput, match="choose one of quarantine, keep"):
        DecisionConfig(control_tokens="ignore")
    assert DecisionConfig().to_dict() != DecisionConfig(control_tokens="keep").to_dict()


def test_why_rows_have_no_score_is_counted_in_their_own_words():
    words = [
        *["the template refuses: roles must alternate"] * 3,
        *[f"too long ({n} tokens)" for n in (9, 10)],
        "a",
        "b",
    ]
    judged = judge(score_table([0.3] * 9, [*words, "", ""]), "paper", threshold=FIXED)
    assert judged.remarks == (
        "3 rows have no score: the template refuses: roles must alternate",
        "2 rows have no score: too long (9 tokens)",
        "1 row has no score: a",
        "1 row has no score for other reasons.",
    )


@pytest.mark.parametrize(
    ("unscored", "held", "said"),
    [
        (0, 0, "No evidence of poison."),
        (3, 0, "No evidence of poison in the 57 rows that have a score."),
        (0, 2, "No evidence of poison otherwise."),
        (60, 0, "No row could be scored: nothing is known of this batch."),
    ],
)
def test_no_evidence_is_claimed_only_of_what_was_scored(unscored: int, held: int, said: str):
    made = Made(np.random.default_rng(0))
    made.honest(60)
    scores = made.scores()
    columns = {
        "failure": ["refused"] * unscored + [""] * (60 - unscored),
        "sketch": pa.array([b""] * unscored + scores["sketch"].to_pylist()[unscored:], pa.binary()),
        "control_tokens": ["x"] * held + [""] * (60 - held),
    }
    scores = pa.table({**{name: scores[name] for name in scores.column_names}, **columns})
    remarks = judge(scores, "auto", samples=lambda: iter([made.samples()])).remarks
    assert said in remarks
    assert ("No evidence of poison." in remarks) == (said == "No evidence of poison.")
    assert not any("evidence" in remark for remark in remarks) or unscored < 60
