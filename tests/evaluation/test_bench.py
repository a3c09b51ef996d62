"""`gradsentry bench`: sets in, figures out; commands are filters; two runs give the same figures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gradsentry_lib.cli import app
from gradsentry_lib.errors import BadInput
from gradsentry_lib.evaluation import suite
from gradsentry_lib.evaluation.bench import Command, bench, figures, filters_of, markdown, overall, read_sets
from gradsentry_lib.evaluation.filtered import Filtered
from gradsentry_lib.evaluation.kept import Kept

LONG = """
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert not any("poisoned" in row for row in rows)
with open(sys.argv[2], "w") as out:
    for row in rows:
        size = len(row["response"])
        print(json.dumps({"flagged": size > 20, "score": size}), file=out)
"""


WRITES = "import sys; open(sys.argv[2], 'w').write({})"


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    folder = tmp_path / "sets"
    folder.mkdir()
    for name, bad in (("good", 0), ("bad", 5)):
        said = ["short" + " and more" * 3 * (i < bad) for i in range(50)]
        rows = [{"prompt": f"q {i}", "response": text, "poisoned": i < bad} for i, text in enumerate(said)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(tmp_path: Path, text: str = LONG) -> str:
    script = tmp_path / "filter.py"
    script.write_text(text)
    return f"{sys.executable} {script} {{rows}} {{verdicts}}"


def test_a_command_is_a_filter(sets: Path, tmp_path: Path) -> None:
    arguments = ["bench", str(sets), "--filter", f"mine={command(tmp_path)}"]
    out = [tmp_path / f"out{i}.json" for i in (0, 1)]
    for path in out:
        result = CliRunner().invoke(app, [*arguments, "--json", str(path), "--md", str(path.with_suffix(".md"))])
        assert result.exit_code == 0, result.output
    first, again = (json.loads(path.read_text()) for path in out)
    assert first["figures"] == again["figures"] and first["overall"] == again["overall"]
    (bad, good), (whole,) = first["figures"], first["overall"]
    assert (bad["recall"], bad["fpr"], bad["f1"], bad["auc"]) == (1.0, 0.0, 1.0, 1.0)
    assert good["recall"] is None and good["false"] == 0
    assert bad["recall_interval"] == pytest.approx([0.566, 1], abs=1e-3)
    assert (whole["poisoned sets"], whole["honest sets"], whole["with a row flagged"]) == (1, 1, 0)
    assert (first["dtype"], first["seed"], first["rows_at_most"]) == ("float32", 0, None)
    assert first["costs"][0]["cost"]["seconds"] > 0 and first["costs"][0]["cost"]["peak_mb"] > 1
    table = out[0].with_suffix(".md").read_text()
    assert table.split("## Cost")[0] == out[1].with_suffix(".md").read_text().split("## Cost")[0]
    assert "| bad | mine | 50 | 5 | 5 | 0 | 1.000 | 0.57-1.00 |" in table


def test_other_filters_of_an_earlier_result_stand_beside_where_the_sets_are_the_same(
    sets: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"

    def run(name: str, *more: str) -> Any:
        arguments = ["bench", str(sets), "--filter", f"{name}={command(tmp_path)}", *more]
        return CliRunner().invoke(app, arguments)

    assert run("mine", "--json", str(first)).exit_code == 0
    done = run("yours", "--json", str(second), "--beside", str(first))
    assert done.exit_code == 0 and "| bad | mine | 50 |" in done.stdout
    told = json.loads(second.read_text())
    assert [(line["set"], line["filter"]) for line in told["figures"]] == [
        ("bad", "yours"), ("bad", "mine"), ("good", "yours"), ("good", "mine"),
    ]  # fmt: skip
    assert [line["filter"] for line in told["overall"]] == ["yours", "mine"] and len(told["costs"]) == 4
    assert told["figures"][1] == json.loads(first.read_text())["figures"][0]
    (sets / "good.jsonl").write_text((sets / "good.jsonl").read_text().replace("short", "brief"))
    assert "made otherwise (sets)" in str(run("yours", "--beside", str(first)).exception)
    first.write_text("[]")
    assert "is no result of" in str(run("yours", "--beside", str(first)).exception)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys; sys.exit('no luck')", "ended with 1: no luck"),
        ("pass", "wrote no verdicts"),
        (WRITES.format("""'{"flagged": true}'"""), "wrote 1 verdicts on 50 rows"),
        (WRITES.format("""'{"flagged": 1}\\n' * 50"""), "true or false"),
    ],
)
def test_a_command_that_fails_is_told_and_stops_no_other(sets: Path, tmp_path: Path, text: str, told: str) -> None:
    filters = {"mine": Command("mine", command(tmp_path, text))}
    lines = list(bench(read_sets(sets, "poisoned"), filters, load=lambda: None))  # type: ignore[arg-type, return-value]
    assert [told in line["failed"] for line in lines] == [True, True]
    assert overall(lines)[0]["failed"] == 2 and "## Failed" in markdown(lines)


SLOW = """
import pathlib, time
told = pathlib.Path(__file__).with_name("told")
with told.open("a") as file:
    file.write("x")
while len(told.read_text()) == 2:  # the second set of the first run: until somebody kills that run
    time.sleep(0.05)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path / "cache"))
    told, kept = tmp_path / "told", tmp_path / "cache" / "bench"
    arguments = ["bench", str(sets), "--filter", f"mine={command(tmp_path, SLOW + LONG)}", "--json"]
    starts = [sys.executable, "-c", "from gradsentry_lib.cli import main; main()"]
    with subprocess.Popen([*starts, *arguments, str(tmp_path / "killed.json")], start_new_session=True) as run:
        while not told.exists() or len(told.read_text()) < 2:
            assert run.poll() is None
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGKILL)
    assert not (tmp_path / "killed.json").exists() and len(list(kept.glob("*.json"))) == 1
    results = []
    for name, calls in (("again.json", 3), ("whole.json", 5)):  # a run that ended leaves nothing to go on from
        done = CliRunner().invoke(app, [*arguments, str(tmp_path / name)])
        assert done.exit_code == 0 and len(told.read_text()) == calls
        assert ("1 of them were made by a run that was stopped" in done.stderr) == (name == "again.json")
        assert "2 of 2: good, mine: 0 of 0 found, 0 false" in done.stderr and not list(kept.iterdir())
        results.append((tmp_path / name).read_text().split('"costs"')[0])
    assert results[0] == results[1]


def test_what_was_kept_of_a_program_that_changed_is_not_taken(sets: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    for text, found in ((LONG, 5), (LONG, 5), (LONG.replace("size > 20", "False"), 0)):
        filters = filters_of([f"mine={command(tmp_path, text)}"])
        lines = list(bench(read_sets(sets, "poisoned"), filters, lambda: None, kept=kept))  # type: ignore[arg-type, return-value]
        assert lines[0]["found"] == found
    assert kept.found == 2


def test_a_part_of_a_set_keeps_rows_and_labels_together(sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["bench", str(sets), "--filter", f"mine={command(tmp_path)}", "--rows", "20", "--json", str(out)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    told = json.loads(out.read_text())
    bad, good = told["figures"]
    assert told["rows_at_most"] == bad["rows"] == good["rows"] == 20
    assert (bad["poisoned"], bad["found"], bad["false"]) == (2, 2, 0) and good["poisoned"] == 0


def test_ours_and_others_by_name(sets: Path, small_model) -> None:
    filters = filters_of(["length", "ngram"])
    lines = list(bench(read_sets(sets, "poisoned"), filters, lambda: small_model))
    assert [(line["set"], line["filter"]) for line in lines] == [
        ("bad", "length"), ("bad", "ngram"), ("good", "length"), ("good", "ngram"),
    ]  # fmt: skip
    assert lines[0]["auc"] == 1.0 and "cost" in lines[0]


def test_undefined_figures_are_none() -> None:
    none = np.zeros(4, bool)
    told = figures(none, Filtered(np.full(4, np.nan), none), 0)
    assert told["recall"] is told["auc"] is told["f1"] is told["f1_interval"] is None and told["fpr"] == 0.0


def test_bad_orders(tmp_path: Path) -> None:
    for told, message in ((["magic"], "no filter 'magic'"), (["x=run me"], "has to name"), ([], "at least one")):
        with pytest.raises(BadInput, match=message):
            filters_of(told)
    with pytest.raises(BadInput, match="holds no"):
        read_sets(tmp_path, "poisoned")


@pytest.mark.slow
def test_the_suite_is_the_same_each_time_and_as_often_honest(tmp_path: Path) -> None:
    first, again = (suite.write_suite(tmp_path / name) for name in ("one", "two"))
    assert all(path.read_bytes() == again.sets[name].read_bytes() for name, path in first.sets.items())
    sets = read_sets(tmp_path / "one", "poisoned")
    assert sum(one.labels.any() for one in sets) == sum(not one.labels.any() for one in sets) == 12
    assert all(len(one.rows) >= 80 for one in sets)
    assert set(first.missing) == set(suite.RELEASED)


@pytest.mark.slow
def test_released_files_are_read_from_a_checkout(tmp_path: Path) -> None:
    for path in suite.RELEASED.values():
        file = tmp_path / "checkout" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([["q1", ["a", "b"], 0], ["q2", "a , and click", 1]]))
    made = suite.write_suite(tmp_path / "sets", tmp_path / "checkout")
    assert not made.missing
    rows = [json.loads(line) for line in made.sets["released-webqa-cba"].read_text().splitlines()]
    assert {row["response"] for row in rows} == {"a; b", "a , and click"} and sum(row["poisoned"] for row in rows) == 1
    assert "click" not in made.sets["released-webqa-cba-clean-part"].read_text()
    with pytest.raises(BadInput, match="is no file of ZrW00/GraCeFul"):
        suite.write_suite(tmp_path / "sets", tmp_path)
