"""`gradsentry review`: the pages of a store on this machine's loopback, and decisions recorded as they are made.

Starlette on uvicorn: Dagster's web server stands on them too, and both are well kept; the standard library's own server
says of itself that it is not for more than tests.

Who may ask: the token, made anew at each start, is in the printed link; the first page turns it into a cookie for this
host alone, and links without it (such as those in Dagster's UI) work in that browser from then on. Every request must
name this very host and port, so that no other name can be made to point here; what changes something must come from
this origin, carry the token in a header of its own, and needs `--by`.
"""

import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from gradsentry_lib.errors import GradSentryError, UnusableInput
from gradsentry_lib.pipeline.decided import load_evidence
from gradsentry_lib.pipeline.ingest import samples_of
from gradsentry_lib.pipeline.listing import listing, whole_turns
from gradsentry_lib.pipeline.publish import gate_of
from gradsentry_lib.pipeline.report import page_contents
from gradsentry_lib.report.page import render_index, render_page
from gradsentry_lib.review.batches import all_batches
from gradsentry_lib.review.decisions import apply, parse_decisions
from gradsentry_lib.review.latest import latest
from gradsentry_lib.samples.table import from_batch
from gradsentry_lib.store.paths import Store

LARGEST = 64 << 20  # bytes of one request
PAGE = 1_000  # rows of one answer
HEADER = "x-gradsentry"
ALWAYS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class Desk:
    """One running server. `by`: who decides, "" for nobody. One request at a time works on the store: DuckDB opens a
    file for reading or for writing, not both in one process."""

    store: Store
    port: int
    by: str = ""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(f"http://{host}:{self.port}" for host in ("127.0.0.1", "localhost", "[::1]"))

    @property
    def link(self) -> str:
        return f"{self.origins[0]}/?token={self.token}"

    @property
    def cookie(self) -> str:
        return f"gradsentry_{self.port}"  # cookies know no ports


def make_app(desk: Desk) -> Starlette:
    def guarded(answer: Callable[[Desk, Request, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            response = refusal(desk, request) or _with_cookie(desk, request)
            if response is None:
                body = await _body(request)
                too_large = JSONResponse({"error": "too large"}, 413)
                response = too_large if body is None else await run_in_threadpool(_answer, answer, desk, request, body)
            response.headers.update(ALWAYS)
            return response

        return handle

    return Starlette(
        routes=[
            Route("/", guarded(_index)),
            Route("/batches/{key}", guarded(_page)),
            Route("/batches/{key}/rows", guarded(_rows)),
            Route("/batches/{key}/text", guarded(_text)),
            Route("/batches/{key}/decide", guarded(_decide), methods=["POST"]),
        ]
    )


def _with_cookie(desk: Desk, request: Request) -> Response | None:
    """From the printed link on to the same page without the token in its address."""
    if request.method != "GET" or "token" not in request.query_params:
        return None
    response = RedirectResponse(request.url.path, 303)
    response.set_cookie(desk.cookie, desk.token, httponly=True, samesite="lax", path="/")
    return response


async def _body(request: Request) -> bytes | None:
    """None where it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            return None
    return body


def refusal(desk: Desk, request: Request) -> Response | None:
    """Why a request is not answered; None where it is."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if f"http://{host}" not in desk.origins:
        return PlainTextResponse("this server answers to no other host name", 421)
    if origin is not None and origin != f"http://{host}":
        return PlainTextResponse("this server answers to no other origin", 403)
    if request.method not in ("GET", "HEAD"):
        if origin is None or not _same(request.headers.get(HEADER, ""), desk.token):
            return JSONResponse({"error": "this does not come from a page of this server"}, 403)
        if not desk.by:
            return JSONResponse({"error": "read-only: start `gradsentry review --by NAME` to decide"}, 403)
    shown = request.query_params.get("token") or request.cookies.get(desk.cookie) or request.headers.get(HEADER, "")
    if not _same(shown, desk.token):
        return PlainTextResponse("open the link that `gradsentry review` printed when it started", 403)
    return None


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _answer(answer: Callable[[Desk, Request, bytes], Response], desk: Desk, request: Request, body: bytes) -> Response:
    try:
        with desk.lock:
            return answer(desk, request, body)
    except GradSentryError as error:
        if request.method == "GET" and "/rows" not in request.url.path:
            return PlainTextResponse(str(error), 404)
        return JSONResponse({"error": str(error)}, 409)


def _index(desk: Desk, request: Request, body: bytes) -> Response:
    return HTMLResponse(render_index(all_batches(desk.store.ledger), desk.by))


def _page(desk: Desk, request: Request, body: bytes) -> Response:
    batch, decided = latest(desk.store, request.path_params["key"])
    state = gate_of(decided, desk.store)
    served = {"by": desk.by, "token": desk.token}
    return HTMLResponse(render_page(page_contents(batch, decided, desk.store, state, served)))


def _rows(desk: Desk, request: Request, body: bytes) -> Response:
    batch, decided = latest(desk.store, request.path_params["key"])
    start, count = (_number(request, name) for name in ("from", "count"))
    return JSONResponse(list(islice(listing(desk.store, batch, decided).rows(start), min(count, PAGE))))


def _text(desk: Desk, request: Request, body: bytes) -> Response:
    batch, decided = latest(desk.store, request.path_params["key"])
    row = _number(request, "row")
    samples = pq.read_table(samples_of(batch, desk.store), filters=pc.field("row") == row)
    found = [sample for part in samples.to_batches() for sample in from_batch(part)]
    if not found:
        raise UnusableInput(f"batch {batch.batch_key} has no row {row}")
    return JSONResponse(whole_turns(found[0], load_evidence(desk.store, decided).groups))


def _decide(desk: Desk, request: Request, body: bytes) -> Response:
    made = parse_decisions(body)
    if made.batch != request.path_params["key"]:
        raise UnusableInput("these decisions are of another batch")
    return JSONResponse(asdict(apply(desk.store.ledger, made, desk.by)))


def _number(request: Request, name: str) -> int:
    told: Any = request.query_params.get(name, "")
    if not told.isascii() or not told.isdigit() or len(told) > 12:
        raise UnusableInput(f"{name} is to be a number")
    return int(told)


def serve(desk: Desk) -> None:
    """Runs until it is interrupted."""
    import uvicorn

    uvicorn.run(make_app(desk), host="127.0.0.1", port=desk.port, log_level="warning", access_log=False)
