"""`gradsentry audit`: what was removed, why, by which weights and settings, by whose word, and does it still hold?"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperGroup

from gradsentry_lib.audit import diff as differences
from gradsentry_lib.audit import facts, heads, lookup
from gradsentry_lib.cli import audit_tables as tables
from gradsentry_lib.cli.show import as_json
from gradsentry_lib.errors import EvidenceAltered, NotFound, NotJudgedYet, UnusableFile
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.store import open_ledger
from gradsentry_lib.store.paths import Store

ABOUT = "Trace files, batches and samples: `gradsentry audit THING`, short for `audit show THING`. Check the evidence."

Kind = Literal["file", "batch", "sample", "text"]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Rows to show.")]


class _Audit(TyperGroup):
    """`gradsentry audit THING` is `gradsentry audit show THING`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    group = typer.Typer(cls=_Audit, no_args_is_help=True, help=ABOUT)
    group.command("show")(show)
    group.command("diff")(diff)
    group.command("verify")(verify)
    group.command("head")(head)
    app.add_typer(group, name="audit")


def show(
    subject: Annotated[str, typer.Argument(help="A file, a batch, a sample id or its beginning, or a piece of text.")],
    kind: Annotated[Kind | None, typer.Option("--as", help="What the subject is, where that is not clear.")] = None,
    limit: Limit = 20,
    json_output: Json = False,
) -> None:
    """Tell all that the ledger knows about a file, a batch, a sample or a text.

    Ends with 4 where a file is not what the ledger has (or a batch's source is not), else with 0.
    """
    path = _ledger()
    match kind or guess(path, subject):
        case "file":
            _show_file(path, Path(subject), limit, json_output)
        case "batch":
            _show_batch(path, subject, json_output)
        case "sample":
            _show_sample(path, subject, limit, json_output)
        case _:
            _show_text(path, subject, limit, json_output)


def diff(
    before: Annotated[str, typer.Argument(help="Number of a decision (see `audit BATCH`), or a clean file.")],
    after: Annotated[str, typer.Argument(help="The other one, on the same batch.")],
    limit: Limit = 20,
    json_output: Json = False,
) -> None:
    """Compare two scans of a batch: which rows changed their verdict, and what changed to cause it."""
    path = _ledger()
    difference = differences.diff(path, _decision(path, before), _decision(path, after))
    if json_output:
        _print_json(difference)
    else:
        tables.difference(Console(highlight=False), difference, limit)


def verify(
    key: Annotated[
        Path | None, typer.Option(help="Public ed25519 key: every attestation must be signed by it.")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LINE|FILE",
            help="What `audit head` printed earlier, a file of such lines, or an attestation that was handed out; the "
            "store must continue from it. Repeatable.",
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Check everything again: all digests, every verdict from its scores, gates, attestations, signatures.

    Ends with 4 and names what was altered, removed or added; with 0 where all holds.
    """
    from gradsentry_lib.audit.verify import verify as check

    path = _ledger()
    noted = heads.read_heads(head or [])
    with _progress() as told:
        verified = check(path, key=key, noted=noted, on_progress=told)
    if json_output:
        printed = {"head": str(verified.head), "head_line": verified.head_line}
        _print_json({"holds": not verified.problems, **as_json(verified), **printed})
    else:
        tables.verification(Console(highlight=False, soft_wrap=True), verified)
    if verified.problems:
        raise typer.Exit(EvidenceAltered.exit_code)


def head() -> None:
    """Print one line to keep where nobody who can write to the store can reach: a log, a ticket, a repository.

    `audit verify --head LINE` proves later that nothing which was recorded until now has been taken out since.
    """
    with open_ledger(_ledger(), read_only=True) as ledger:
        lines = dict(ledger.connection.execute("SELECT seq, sha256 FROM journal WHERE seq = 1").fetchall())
        newest = ledger.head()
    if not newest.seq:
        raise NotJudgedYet("nothing is recorded in this store yet")
    typer.echo(heads.line(newest, heads.store_id(lines)))


def guess(path: Path, subject: str) -> Kind:
    """What a subject is: a file that exists, a batch, a sample that exists, else a text."""
    if _is_file(subject):
        return "file"
    if lookup.is_sample_id(subject.lower()):  # no batch's key: those have a hyphen
        return "sample"
    with open_ledger(path, read_only=True) as ledger:
        keys = ledger.batch_keys()
    return "batch" if subject in keys or sum(key.startswith(subject) for key in keys) == 1 else "text"


def _is_file(subject: str) -> bool:
    """Whether it exists. Raises BadInput for what can only be meant as a file, and is none."""
    try:
        if subject and Path(subject).exists():
            return True
    except (OSError, ValueError):  # too long for a name, or with a NUL: a text
        return False
    if re.fullmatch(r"\S+\.(jsonl|ndjson|json|csv|parquet|gz)", subject):
        raise UnusableFile(f"there is no file {subject} (to search for it as a text: --as text)")
    return False


def _show_file(path: Path, file: Path, limit: int, json_output: bool) -> None:
    found = facts.audit_file(path, file)
    if json_output:
        _print_json(found)
    else:
        tables.file(Console(highlight=False), found, limit)
    if found.state != "unaltered" or found.mismatch:
        raise typer.Exit(EvidenceAltered.exit_code)


def _show_batch(path: Path, subject: str, json_output: bool) -> None:
    with open_ledger(path, read_only=True) as ledger:
        key = lookup.find_batch(ledger, subject)
    found = facts.audit_batch(path, key)
    if json_output:
        _print_json(found)
    else:
        tables.batch(Console(highlight=False), found)
    if found.source == "altered":
        raise typer.Exit(EvidenceAltered.exit_code)


def _show_sample(path: Path, subject: str, limit: int, json_output: bool) -> None:
    found = facts.audit_sample(path, subject)
    if json_output:
        _print_json(found)
    else:
        tables.sample(Console(highlight=False), found, limit)


def _show_text(path: Path, text: str, limit: int, json_output: bool) -> None:
    with open_ledger(path, read_only=True) as ledger:
        batches = [ledger.batch(key) for key in ledger.batch_keys()]
    try:
        sample_id = _row_id(text)
    except RecursionError:  # nested too deep to be a row
        sample_id = None
    if sample_id:
        _show_sample(path, sample_id, limit, json_output)
        return
    found = lookup.find_text(batches, text, limit)
    if json_output:
        _print_json({"text": text, "rows": found})
    else:
        tables.texts(Console(highlight=False), text, found, limit)


def _row_id(text: str) -> str | None:
    """The sample id of a whole row as JSON; None where the text is none."""
    from gradsentry_lib.samples.row_format import BadRow, read_row

    try:
        value = json.loads(text)
        return read_row(value).sample.sample_id if isinstance(value, dict) else None
    except (ValueError, BadRow):
        return None


def _decision(path: Path, text: str) -> int:
    """A decision by its number, by a batch (its latest) or by a file that came of it."""
    if text.isdecimal():
        return int(text)
    if _is_file(text):
        found = facts.audit_file(path, Path(text), by_content=False)
        if found.recorded is None or not found.recorded.decision:
            raise NotFound(f"{text} is no file that came of a decision in this ledger")
        return found.recorded.decision
    with open_ledger(path, read_only=True) as ledger:
        return ledger.decision(lookup.find_batch(ledger, text)).seq


def _ledger() -> Path:
    path = Store.default().ledger
    try:
        found = path.exists()
    except OSError:  # too long a name, no permission
        found = False
    if not found:
        raise NotJudgedYet(f"there is no ledger at {path}: set GRADSENTRY_HOME to the store, or scan a batch first")
    return path


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(as_json(value), indent=2))


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying")
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=f"verifying {rich_markup(what, 60)}"
        )
