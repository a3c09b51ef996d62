"""`gradsentry doctor`: what is installed, where things are kept, and which short cuts the scorer may take here."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gradsentry_lib import __version__, settings
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.scoring import tested
from gradsentry_lib.scoring.identity import auto_device_and_dtype, identify


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor_command)


def doctor_command(
    test: Annotated[bool, typer.Option("--test", help="Test the model's short cuts now, also those known.")] = False,
    model: Annotated[
        str | None, typer.Option(help="With --test: model folder, hub name, or `embedded`. [GRADSENTRY_MODEL]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="With --test: as for `scan`. [GRADSENTRY_DEVICE]")] = None,
    dtype: Annotated[str, typer.Option(help="With --test: as for `scan`.")] = "auto",
) -> None:
    """Show versions, devices, caches, and what the scorer's self-tests found on this machine.

    A short cut (rows laid end to end, shared prefixes, the model written out) is taken only where it was found to give
    the same states on this model, these versions and this kind of processor. What is kept of that is listed here; what
    is not known, of another combination, or not to be believed is tested before the next scan.
    """
    console = Console()
    if test:
        _test(model or settings.model(), device or settings.device(), dtype)
    console.print(_facts())
    kept = list(tested.all_kept())
    if not kept:
        console.print("no self-test was kept yet: the first scan makes them")
        return
    table = Table("model", "dtype", "processor", "rows end to end", "shared prefixes", "written out", "counts")
    for path, told in kept:
        table.add_row(*(["?"] * 6 + [f"no: {path.name[:12]} is not believed"] if told is None else _line(told)))
    console.print(table)


def _test(model: str, device: str, dtype: str) -> None:
    from gradsentry_lib.scoring.model import load_model

    identity = identify(model, device=device, dtype=dtype, memo=settings.model_digests())
    tested.forget(identity)
    load_model(identity)


def _facts() -> Table:
    place, number = auto_device_and_dtype()
    facts = {
        "GradSentry": __version__,
        **{name: version for name, version in tested.software().items() if name != "scoring"},
        "device": f"{place} in {number} ({tested.processor(place)['name']})",
        "store": _where(settings.home()),
        "cache": _where(settings.cache()),
        "self-tests": _where(settings.tested()),
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(name, rich_markup(value, 300))
    return table


def _where(folder: Path) -> str:
    return str(folder) if folder.is_dir() else f"{folder} (not there yet)"


def _line(told: Mapping[str, Any]) -> list[str]:
    found, on = told["found"], told["combination"]
    limit = found["past_limit"]
    cells = (
        str(told.get("name", "?")),
        str(on.get("dtype", "?")),
        str(on.get("processor", {}).get("name", "?")),
        "same" if found["packed"] else "refused: padded",
        "refused" if not limit else "same" if limit >= tested.UNLIMITED else f"same up to {limit:,} tokens",
        "same to the bit" if found["written_out"] else "refused: transformers' own",
        "; ".join(_unlike(on)) or "yes",
    )
    return [rich_markup(cell, 80) for cell in cells]


def _unlike(on: Mapping[str, Any]) -> Iterator[str]:
    """Why a result does not count for what runs here now."""
    here = tested.software()
    other = [name for name, version in here.items() if on.get("software", {}).get(name) != version]
    if other:
        yield "no: other " + ", ".join("scorer" if name == "scoring" else name for name in other)
    device = str(on.get("processor", {}).get("kind", ""))
    if device == "cpu" and on.get("processor") != tested.processor(device):
        yield "no: other processor"
    if on.get("switches") != tested.switches():
        yield "no: other variables"
