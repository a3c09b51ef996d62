"""`gradsentry formats`: how a file would be read, in a second and without a model."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gradsentry_lib.cli import reading
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.samples.preview import LOOKED_AT, Preview, preview, standing
from gradsentry_lib.samples.read import open_as_told
from gradsentry_lib.samples.reasons import advice
from gradsentry_lib.samples.sample import Sample

CHARACTERS = 300  # of a turn
TURNS = 8  # of a row, the last ones
REASONS = 12
COLORS = {"learnt": "bold green", "turned down": "bold red", "read": "dim"}


def register(app: typer.Typer) -> None:
    app.command("formats")(formats_command)


def formats_command(
    source: Annotated[str, typer.Argument(help="A file, a data-set folder, a hub name.")],
    column: reading.Column = None,
    role: reading.Role = None,
    response_marker: reading.Marker = None,
    mapping: reading.Mapped = None,
    separator: reading.Separator = None,
    encoding: reading.Encoding = None,
    split: reading.Split = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows looked at.")] = LOOKED_AT,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show how a file would be read, in a second and without a model.

    The layout and why, the first rows with what is learnt of them, what would be refused, what nobody would read.
    Ends with 0 when every row looked at can be read, 3 when some can't, 2 when none can.
    """
    told = reading.reading_options(source, column, role, response_marker, mapping, split, separator, encoding)
    found = preview(open_as_told(source, told, identify=False), rows)
    if json_output:
        typer.echo(json.dumps(as_json(found), ensure_ascii=True, indent=2))
    else:
        _tell(Console(highlight=False, soft_wrap=True), found, told)
    if found.refused:
        raise typer.Exit(3 if found.readable else 2)


def as_json(found: Preview) -> dict[str, Any]:
    """The preview as JSON values."""
    rows = [
        {
            "row": sample.row,
            "line": sample.line,
            "format": sample.format,
            "turns": [{"role": t.role, "standing": standing(t), "text": t.text, **t.extras} for t in sample.turns],
            "tools": json.loads(sample.tools) if sample.tools else [],
        }
        for sample in found.rows
    ]
    return asdict(found) | {"facts": dict(found.facts), "rows": rows}


def _tell(console: Console, found: Preview, told: dict[str, Any]) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_row("file", rich_markup(", ".join(f"{name} {value}" for name, value in found.facts.items())))
    facts.add_row("layout", rich_markup(found.layout) if found.layout else "[red]none that is known[/]")
    if found.meaning:
        facts.add_row("", found.meaning)
    end = "" if found.more else ", all there are"
    facts.add_row("looked at", f"{found.looked_at:,} rows{end}: {found.readable:,} can be read")
    if not found.layout and found.refused:
        facts.add_row("", advice(found.facts["kind"], found.refused[0].reason))
    for note in found.notes:
        facts.add_row("", rich_markup(note))
    for name, value in told.items():
        facts.add_row("told", rich_markup(f"{name}: {value}", CHARACTERS))
    console.print(facts)
    for sample in found.rows:
        _tell_row(console, sample)
    if found.refused:
        table = Table("rows", "first", "refused because", title="what would be refused", title_justify="left")
        for refused in found.refused[:REASONS]:
            table.add_row(f"{refused.rows:,}", f"{refused.first:,}", rich_markup(refused.reason, CHARACTERS))
        if len(found.refused) > REASONS:
            table.add_row("", "", f"and for {len(found.refused) - REASONS:,} more reasons")
        console.print(table)
    if found.unread:
        console.print("[yellow]text that is not read[/]")
        for column in found.unread:
            console.print(f"  {rich_markup(column.share(found.readable), CHARACTERS)}")


def _tell_row(console: Console, sample: Sample) -> None:
    where = f", line {sample.line}" if sample.line is not None else ""
    console.print(f"\n[bold]row {sample.row}[/]{where} [dim]as {sample.format}[/]")
    if len(sample.turns) > TURNS:
        console.print(f"  [dim]... {len(sample.turns) - TURNS} turns before these[/]")
    for turn in sample.turns[-TURNS:]:
        does = standing(turn)
        text = turn.said
        shown = rich_markup(text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 100]} ... {text[-90:]}")
        console.print(f"  [{COLORS[does]}]{does:>11}[/]  [cyan]{rich_markup(turn.role, 40)}[/]: {shown or '(empty)'}")
    if sample.tools:
        console.print(f"  [dim]       read[/]  [cyan]tools[/]: {rich_markup(sample.tools, CHARACTERS)}")
