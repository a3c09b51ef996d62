"""`gradsentry serve`: a scorer that stays loaded, for all scans of this user on this machine."""

import threading
from typing import Annotated

import typer
from rich.console import Console

from gradsentry_lib import settings
from gradsentry_lib.cli.options import told
from gradsentry_lib.errors import UnusableOption
from gradsentry_lib.report.escape import rich_markup
from gradsentry_lib.scoring.identity import SPREAD, identify
from gradsentry_lib.scoring.model import load_model
from gradsentry_lib.scoring.resident import about, find


def register(app: typer.Typer) -> None:
    app.command("serve")(serve_command)


def serve_command(
    model: Annotated[str | None, told("model")] = None,
    revision: Annotated[str | None, told("revision")] = None,
    base_model: Annotated[str | None, told("base_model")] = None,
    device: Annotated[str | None, told("device")] = None,
    dtype: Annotated[str | None, told("dtype")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Of loopback, instead of a socket file.")] = None,
) -> None:
    """Keep a model loaded and score with it for every scan of this user here, until Ctrl-C.

    Scans, notebooks and Dagster's steps find it by themselves where they are to score with exactly this model, number
    format, device and version, and load the model themselves where they find none. `--resident off` has one of them do
    without. Reached over a socket that only this user can open, or with --port over loopback with a token.
    """
    try:
        import uvicorn

        from gradsentry_lib.scoring.service import Bench, announced, make_app
    except ModuleNotFoundError as error:
        raise UnusableOption("serving needs the extra: pip install 'gradsentry[report]'") from error

    said = settings.read(model=model, revision=revision, base_model=base_model, device=device, dtype=dtype)
    identity = identify(said.model, said.revision, said.device, said.dtype, settings.model_digests(), said.base_model)
    if identity.device == SPREAD:
        raise UnusableOption("a model spread over devices is scored in the scan's own process: serve another device")
    if find(identity, lambda: load_model(identity)) is not None:
        raise UnusableOption(f"{identity.name} in {identity.dtype} on {identity.device} is kept loaded already")
    bench = Bench(lambda: load_model(identity))
    bench.model = bench.load()
    threading.Thread(target=bench.run, daemon=True).start()
    with announced(identity, port) as (listening, token):
        what = f"{identity.name} in {identity.dtype} on {identity.device}"
        Console(soft_wrap=True, highlight=False).print(f"{rich_markup(what)} stays loaded  (Ctrl-C stops)")
        app = make_app(bench, token, about(identity))
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listening])
    bench.end()
