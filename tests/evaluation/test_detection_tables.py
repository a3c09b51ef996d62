"""The tables of docs/detection.md say what the results say."""

from dataclasses import replace
from pathlib import Path

from benchmarks import declared
from benchmarks.detection_cases import LABEL, case_of
from benchmarks.detection_more import REPLIES, more
from benchmarks.detection_tables import said, tables
from gradsentry_lib.files import read_json

LINE = {
    "half": "tune", "name": "a", "rows": 100, "poisoned": 10, "found": 9, "false": 1, "watched": 0,
    "watched_honest": 2, "missing": 0, "model": "embedded", "dtype": "bfloat16", "rules": 12,
}  # fmt: skip


def test_a_case_a_line_and_the_sums_above():
    honest = {**LINE, "name": "b", "poisoned": 0, "found": 0, "false": 0}
    told = tables([LINE, honest])
    assert list(told) == ["detection tune"]
    assert "| a | 100 | 10 | 9 / 1 | 0 / 2 |" in told["detection tune"]
    assert said([LINE, honest]) == "Rules 12; recall 0.900; 1 of 190 honest rows flagged, 4 watched."
    assert said([honest]) == "Rules 12; 0 of 100 honest rows flagged, 2 watched."
    assert said([{**LINE, "rules": 11, "missing": 3}, honest]).startswith("Rules 11 and 12; ")
    assert said([{**LINE, "missing": 3}]).endswith("3 answers of the model are missing.")


def test_draws_of_one_attack_share_a_cell_and_what_was_not_made_says_so():
    names = ("nq_style_9_of_90_draw_0", "nq_style_9_of_90_draw_1", "coqa_cba_9_of_90_draw_7")
    told = tables([{**LINE, "half": "styles", "name": name} for name in names])["detection styles"]
    assert "| set | style 9 of 90 | cba 9 of 90 |" in told
    assert "| nq | 9 / 1, 9 / 1 | not made |" in told and "| coqa | not made | 9 / 1 |" in told


def test_another_model_stands_beside_the_usual_one_on_the_same_cases():
    other = {**LINE, "model": "m", "found": 8, "false": 0}
    alone = {**other, "name": "c"}  # the usual one was not asked about it
    told = tables([LINE, other, alone])["detection elsewhere"]
    assert "| m, bfloat16 | 12 | 1 | 0.800 (0.900) | 0 (1) | a |" in told


def test_a_line_takes_the_place_of_its_last_one(tmp_path: Path):
    to = tmp_path / "detection.json"
    one = declared.Line("a", "tune", 10, 2, 1, 0, 0, 0, "", 0.1, 0)
    declared.write([one], "embedded", "bfloat16", to)
    declared.write([replace(one, found=2)], "embedded", "bfloat16", to)
    declared.write([one], "embedded", "float32", to)
    assert [(line["dtype"], line["found"]) for line in read_json(to)["lines"]] == [("bfloat16", 2), ("float32", 1)]


def test_labels_stand_beside_the_rows_never_in_them():
    case = case_of("x", "files", [{"prompt": "a", LABEL: 1}, {"prompt": "b"}])
    assert case.rows == [{"prompt": "a"}, {"prompt": "b"}] and case.labels == [True, False]


def test_without_the_evaluation_data_there_are_no_further_cases(tmp_path: Path):
    assert list(more(tmp_path)) == []
    assert all(len(pairs) == 12 for pairs in REPLIES.values())
