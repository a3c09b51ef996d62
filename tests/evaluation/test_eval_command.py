"""`gradsentry eval` from files to figures."""

import json

import pytest
import typer
from typer.testing import CliRunner

from gradsentry_lib.cli import evaluate as command
from gradsentry_lib.errors import BadInput
from gradsentry_lib.evaluation.data import mix, read_rows, split_labels, take
from gradsentry_lib.scoring import model as model_room

ROWS = [{"question": f"who is number {i}?", "answer": f"person {i}"} for i in range(60)]


@pytest.fixture
def run(small_model, monkeypatch, tmp_path):
    """Runs the command with the small model on rows; gives the result and the JSON it wrote."""
    monkeypatch.setattr(model_room, "load_model", lambda *_, **__: small_model)
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)

    def invoke(rows, *options):
        file, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = CliRunner().invoke(app, ["eval", str(file), "--json", str(out), *options])
        return result, json.loads(out.read_text()) if out.exists() else None

    return invoke


def test_attack_on_clean_data(run):
    filters = "policy-paper,length,ngram,nll"
    result, lines = run(
        ROWS, "--attack", "badnets", "--ratio", "0.1", "--filters", filters, "--limit", "50", "--seed", "0"
    )
    assert result.exit_code == 0, result.output
    assert [line["filter"] for line in lines] == filters.split(",")
    for line in lines:
        assert (line["rows"], line["poisoned"]) == (50, 5)
        assert {"recall", "precision", "f1", "auc", "recall_at_fpr5", "seconds"} <= line.keys()
        assert line["filter"] in result.stdout
    assert lines[1]["auc"] == 1.0  # the target makes every poisoned answer longer


def test_labels_are_hidden_from_the_filters(run, monkeypatch):
    seen = []
    from gradsentry_lib.evaluation import harness

    evaluate = harness.evaluate
    monkeypatch.setattr(
        harness, "evaluate", lambda samples, *a, **k: (seen.extend(samples), evaluate(samples, *a, **k))[1]
    )
    labelled = [
        {**row, "bad": int(i % 6 == 0), "answer": "yes " * (20 if i % 6 == 0 else 2)} for i, row in enumerate(ROWS)
    ]
    result, lines = run(
        labelled, "--labels", "bad", "--filters", "length", "--seed", "0", "--seed", "1", "--limit", "40"
    )
    assert result.exit_code == 0, result.output
    assert [line["seed"] for line in lines] == [0, 1] and all(line["auc"] == 1.0 for line in lines)
    assert len(seen) == 80
    assert all({turn.role for turn in sample.turns} == {"prompt", "response"} for sample in seen)


def test_the_attacks_are_listed_with_their_sources(run):
    result, _ = run(ROWS, "--attacks")
    assert result.exit_code == 0 and "cba-released" in result.stdout and "2310.07676" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Give either --attack"),
        (("--attack", "badnets", "--labels", "bad"), "Give either --attack"),
        (("--attack", "nonsense"), "There is no attack 'nonsense'"),
        (("--attack", "badnets", "--filters", "magic"), "There is no filter 'magic'"),
        (("--labels", "bad"), "no label column 'bad'"),
    ],
)
def test_bad_orders_end_before_any_model_is_loaded(run, options, message):
    result, lines = run(ROWS, *options)
    assert isinstance(result.exception, BadInput) and message in str(result.exception)
    assert lines is None


def test_rows_are_read_strictly(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "a", "answer": "b"}\n{"question":\n')
    with pytest.raises(BadInput, match="line 2"):
        read_rows(bad)
    with pytest.raises(BadInput, match="can't be read"):
        read_rows(tmp_path / "none.jsonl")
    table = tmp_path / "rows.csv"
    table.write_text("question,answer,poisoned\na,b,0\nc,d,true\n")
    rows, labels = split_labels(read_rows(table), "poisoned")
    assert rows[1] == {"question": "c", "answer": "d"} and labels.tolist() == [False, True]
    with pytest.raises(BadInput, match="must be 0, 1"):
        split_labels([{"poisoned": "perhaps"}], "poisoned")


def test_mixes_and_draws():
    clean, bad = [{"i": i} for i in range(100)], [{"i": -i} for i in range(100)]
    rows, labels = mix(clean, bad, 0.3, seed=0)
    assert labels.sum() == 30 and [abs(row["i"]) for row in rows] == list(range(100))
    assert all((row["i"] < 0) == label for row, label in zip(rows[1:], labels[1:], strict=True))
    assert take(range(10), 4, 0) == sorted(take(range(10), 4, 0)) and take(range(3), 9, 0) == [0, 1, 2]
    with pytest.raises(BadInput, match="as many rows"):
        mix(clean, bad[:5], 0.3, 0)
