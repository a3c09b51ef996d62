"""`gradsentry formats`: what a person sees of a file before a scan."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gradsentry_lib import cli

from .test_cli_commands import HEAVY, imported


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def formats(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, ["formats", *map(str, arguments)], env={"COLUMNS": "200"})


def test_what_is_shown(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "no", "weight": 0}]
    row = {"messages": [*chat, {"role": "assistant", "content": "Yo"}], "tools": [{"name": "find"}], "source": "web"}
    shown = formats(write(tmp_path, [row] * 5 + [{"messages": []}, "{broken"] * 2))
    assert shown.exit_code == 3
    for text in (
        "kind jsonl",
        "chat ('messages')",
        "9 rows, all there are: 5 can be read",
        "row 0, line 1 as chat",
        "row 2, line 3 as chat",
        "read  user: Hi",
        "read  assistant: no",
        "learnt  assistant: Yo",
        "tools: [{",
        "no assistant turn",
        "invalid JSON",
        "source (every row, 3 characters in the first)",
    ):
        assert text in shown.output, text
    assert "row 3" not in shown.output


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    shown = formats(
        write(tmp_path, [{"prompt": "[red]\x1b[31m\u202e\nx", "response": "[/]", "[bold]\x1b": "[link=x]"}])
    )
    assert shown.exit_code == 0, shown.output
    assert "\x1b" not in shown.output and "\u202e" not in shown.output
    assert r"[red]\x1b[31m\u202e\nx" in shown.output and "[bold]" in shown.output


def test_options_say_what_cannot_be_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, [{"q": "Hi", "a": "Yo"}])
    refused = formats(path)
    assert refused.exit_code == 2 and "--column prompt=NAME" in refused.output
    assert formats(path, "--column", "prompt=q", "--column", "response=a").exit_code == 0
    path = write(tmp_path, [{"text": "Q: Hi\nA: Yo"}])
    found = json.loads(formats(path, "--response-marker", "\\nA:", "--json").output)
    assert [turn["standing"] for turn in found["rows"][0]["turns"]] == ["read", "learnt"]
    path = write(tmp_path, [{"messages": [{"role": "user", "content": "Hi"}, {"role": "narrator", "content": "Yo"}]}])
    assert formats(path).exit_code == 2
    assert formats(path, "--role", "narrator=assistant").exit_code == 0


@pytest.mark.parametrize("told", [("--column", "prompt"), ("--role", "=x"), ("--role", "x=nobody")])
def test_unusable_options(tmp_path: Path, told: tuple[str, str]) -> None:
    shown = formats(write(tmp_path, [{"prompt": "p", "response": "r"}]), *told)
    assert shown.exit_code != 0 and told[0].lstrip("-") in str(shown.exception) + shown.output


def test_json_holds_all_of_it(tmp_path: Path) -> None:
    shown = formats(write(tmp_path, [{"prompt": "p", "chosen": "c", "rejected": "r"}] * 4), "--json", "--rows", "3")
    found = json.loads(shown.output)
    assert (found["looked_at"], found["readable"], found["more"], found["refused"]) == (3, 3, True, [])
    assert [turn["standing"] for turn in found["rows"][0]["turns"]] == ["read", "learnt", "turned down"]


def test_it_needs_no_model(tmp_path: Path) -> None:
    found = imported(tmp_path, "formats", str(write(tmp_path, [{"prompt": "p", "response": "r"}])))
    assert found & HEAVY == set()
