"""Every figure in README.md and docs/evaluation.md is what its results file says."""

from benchmarks import evaluation, summary
from benchmarks.report import write_report
from gradsentry_lib.files import read_json


def test_the_texts_follow_from_the_results():
    """`make bench-eval`, or `python -m benchmarks.summary` alone, writes them."""
    for path, text in summary.made().items():
        assert path.read_text(encoding="utf-8") == text, path.name


def test_the_page_is_short_and_its_appendix_has_every_table(tmp_path):
    folder = summary.ROOT / "docs" / "evaluation"
    assert len((folder.parent / "evaluation.md").read_text().splitlines()) < 130
    found = [read_json(folder / f"{name}.json") for name in evaluation.NAMES if (folder / f"{name}.json").exists()]
    unplotted = [study for study in evaluation.STUDIES if study.plot is None]
    written = write_report([one for one in found if one["study"] in {s.name for s in unplotted}], unplotted, tmp_path)
    appendix = (folder / "appendix.md").read_text()
    for section in written.read_text().split("\n## ")[2:]:
        assert section.strip() in appendix


def test_marks_are_filled_and_nothing_else_is_touched():
    text = "a\n<!-- figures: x -->\nold 1\n<!-- /figures -->\nb\n"
    assert summary.filled(text, "x", "new 2") == "a\n<!-- figures: x -->\nnew 2\n<!-- /figures -->\nb\n"
    assert summary.filled(text, "y", "new 2") == text
