"""`gradsentry serve`: one model, kept loaded, scoring for all processes of this user (resident.py is their side).

One thread scores, a pass at a time, what waits: samples of several clients that ask for the same configuration go
through the model together. So many rows may wait and no more; who comes then is told to come again. A client that
hangs up is forgotten: its rows that have not begun are dropped, and a pass that nobody waits for any longer is ended.
The model goes when there was nothing to do for a while, and comes back with the next sample.
"""

import asyncio
import hmac
import json
import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gradsentry_lib.errors import GradSentryError, UnusableOption
from gradsentry_lib.files import write_json
from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import from_batch
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.identity import ModelIdentity
from gradsentry_lib.scoring.resident import place
from gradsentry_lib.scoring.resident_wire import COUNT, FAILED, FRAME, HEADER, PROGRESS, SCORES, from_bytes, to_bytes
from gradsentry_lib.scoring.score import Score, to_table

if TYPE_CHECKING:
    from gradsentry_lib.scoring.model import ScoringModel

log = logging.getLogger(__name__)

WAITING = 16_384  # rows that may wait
TOGETHER = 2_048  # rows that go through the model together
LARGEST = 256 << 20  # bytes of one request
IDLE = 900.0  # seconds without work after which the model's memory is given back
BEAT = 5.0  # seconds between two signs of life to a client that waits


class Full(Exception):
    """No more rows may wait."""


class Abandoned(Exception):
    """Nobody waits for this pass any longer."""


@dataclass(eq=False)
class Job:
    """Some samples of one client. `tell` takes frames, from the scoring thread."""

    samples: list[Sample]
    config: ScoringConfig
    tell: Callable[[bytes], None]
    cancelled: threading.Event = field(default_factory=threading.Event)


class Bench:
    """The queue, and the thread that works on it in `run`. `load` gives the model; `score` is `score_samples`."""

    def __init__(
        self,
        load: "Callable[[], ScoringModel]",
        score: Callable[..., list[Score]] | None = None,
        idle: float = IDLE,
    ) -> None:
        self.load, self.score, self.idle = load, score, idle
        self.model: ScoringModel | None = None
        self.passes = 0
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ended = False

    def put(self, job: Job) -> None:
        """Raises Full."""
        with self._changed:
            if self._jobs and sum(len(each.samples) for each in self._jobs) + len(job.samples) > WAITING:
                raise Full
            self._jobs.append(job)
            self._changed.notify()

    def run(self) -> None:
        """Works until `end`."""
        while (jobs := self._next()) is not None:
            if jobs:
                self._score(jobs)
            elif self.model is not None:
                self._release()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _next(self) -> list[Job] | None:
        """The jobs of the next pass; none where there was nothing to do for long, None at the end."""
        with self._changed:
            if not self._jobs and not self._ended:
                self._changed.wait(self.idle)
            if self._ended:
                return None
            waiting = [job for job in self._jobs if not job.cancelled.is_set()]
            taken: list[Job] = []
            for job in waiting:
                rows = sum(len(each.samples) for each in taken) + len(job.samples)
                if not taken or (job.config == taken[0].config and rows <= TOGETHER):
                    taken.append(job)
            self._jobs = deque(job for job in waiting if job not in taken)
            return taken

    def _score(self, jobs: list[Job]) -> None:
        from gradsentry_lib.scoring.scorer import score_samples

        score = self.score or score_samples
        samples = [sample for job in jobs for sample in job.samples]
        done = 0

        def report(rows: int) -> None:
            nonlocal done
            if all(job.cancelled.is_set() for job in jobs):
                raise Abandoned
            before, done = done, done + rows
            for job in jobs:
                own = len(job.samples)
                job.tell(frame(PROGRESS, COUNT.pack(own * done // len(samples) - own * before // len(samples))))

        try:
            if self.model is None:
                self.model = self.load()
            scores = score(samples, self.model, jobs[0].config, None, report)
        except Abandoned:
            return
        except Exception as error:  # of whatever kind: the client scores by itself and sees its own
            log.warning("A pass over %d rows failed: %s", len(samples), error)
            for job in jobs:
                job.tell(frame(FAILED, str(error).encode("utf-8", "replace")[:2000]))
            return
        self.passes += 1
        start = 0
        for job in jobs:
            job.tell(frame(SCORES, _as_bytes(scores[start : start + len(job.samples)])))
            start += len(job.samples)

    def _release(self) -> None:
        from gradsentry_lib.scoring.model import release

        log.info("Nothing to do: the model's memory is given back.")
        self.model = None
        release()


def frame(kind: bytes, content: bytes) -> bytes:
    return FRAME.pack(kind, len(content)) + content


def _as_bytes(scores: list[Score]) -> bytes:
    return to_bytes(to_table(scores))


@contextmanager
def announced(identity: ModelIdentity, port: int | None = None) -> Iterator[tuple[socket.socket, str]]:
    """Where a scorer listens, and the token that it answers to; in the file that others find it by, for as long.

    A socket file in a folder that this user alone may enter, or that port of loopback (0: any). Raises UnusableOption.
    """
    path, token = place(identity), secrets.token_urlsafe(24)
    with _listening(port) as (address, listening):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        write_json(path, {"address": address, "token": token, "pid": os.getpid()}, mode=0o600)
        try:
            yield listening, token
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _listening(port: int | None) -> Iterator[tuple[str, socket.socket]]:
    if port is not None or not hasattr(socket, "AF_UNIX"):
        with socket.socket() as listening:
            try:
                listening.bind(("127.0.0.1", port or 0))
            except OSError as error:
                raise UnusableOption(f"port {port} can't be had ({error.strerror}): name another") from error
            yield f"port:{listening.getsockname()[1]}", listening
        return
    folder = Path(tempfile.mkdtemp(prefix="gradsentry-"))  # short, as the path of a socket must be
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(folder / "socket"))
            yield f"unix:{folder / 'socket'}", listening
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_app(bench: Bench, token: str, about: dict[str, Any]) -> Starlette:
    """`about`: resident.py."""

    async def tell(request: Request) -> Response:
        return _refusal(request, token) or JSONResponse(about)

    async def score(request: Request) -> Response:
        if refused := _refusal(request, token):
            return refused
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                return PlainTextResponse("too large", 413)
        loop, told = asyncio.get_running_loop(), asyncio.Queue[bytes]()
        try:
            samples, config = _read(bytes(body))
        except (GradSentryError, ValueError, KeyError, TypeError) as error:
            return PlainTextResponse(str(error), 400)
        job = Job(samples, config, lambda content: _from_thread(loop, told, content))
        try:
            bench.put(job)
        except Full:
            return PlainTextResponse("too many rows wait", 503)
        return StreamingResponse(_frames(job, told), media_type="application/octet-stream")

    return Starlette(routes=[Route("/about", tell), Route("/score", score, methods=["POST"])])


def _from_thread(loop: asyncio.AbstractEventLoop, told: "asyncio.Queue[bytes]", content: bytes) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(told.put_nowait, content)


async def _frames(job: Job, told: "asyncio.Queue[bytes]") -> AsyncIterator[bytes]:
    """What is told of a job, until its end; ended by the server where the client hangs up."""
    try:
        while True:
            try:
                content = await asyncio.wait_for(told.get(), BEAT)
            except TimeoutError:
                content = frame(PROGRESS, COUNT.pack(0))
            yield content
            if content[:1] != PROGRESS:
                return
    finally:
        job.cancelled.set()


def _read(body: bytes) -> tuple[list[Sample], ScoringConfig]:
    """Raises ValueError, KeyError, TypeError or BadInput for what resident.py did not write."""
    table = from_bytes(body)
    config = ScoringConfig(**json.loads((table.schema.metadata or {})[b"config"]))
    return [sample for part in table.to_batches() for sample in from_batch(part)], config


def _refusal(request: Request, token: str) -> Response | None:
    if hmac.compare_digest(request.headers.get(HEADER, "").encode(), token.encode()):
        return None
    return PlainTextResponse("this scorer answers to whoever may read its file in the cache", 403)
