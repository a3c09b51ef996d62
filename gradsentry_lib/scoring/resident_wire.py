"""What a process and the scorer that stays loaded (resident.py, service.py) say to each other: HTTP over a socket.

Samples and configuration go there as an Arrow stream. Back come frames, a kind and a length before so many bytes: the
number of rows that were finished since the last one (none: it is still there), then the scores as Arrow, or what went
wrong.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

import pyarrow as pa

from gradsentry_lib.samples.sample import Sample
from gradsentry_lib.samples.table import to_table as samples_table
from gradsentry_lib.scoring.config import ScoringConfig
from gradsentry_lib.scoring.score import Score, from_table

HEADER = "x-gradsentry"
FRAME = struct.Struct("<cI")  # kind, bytes that follow
PROGRESS, SCORES, FAILED = b"p", b"s", b"e"
COUNT = struct.Struct("<I")
PATIENCE = 600.0  # seconds that a full queue is waited for


class Gone(Exception):
    """The scorer can't be asked, or no longer."""


@contextmanager
def answer(address: str, token: str, method: str, path: str, body: bytes, *, timeout: float) -> Iterator[HTTPResponse]:
    """An answer of status 200, closed at the end, so that the scorer sees that nobody waits any longer. A full queue is
    waited for. `timeout`: seconds without a byte. Raises Gone."""
    deadline, pause = time.monotonic() + PATIENCE, 0.5
    try:
        while True:
            connection = _Connection(address, timeout)
            try:
                connection.request(method, path, body, {HEADER: token})
                given = connection.getresponse()
                if given.status == 200:
                    yield given
                    return
                said = f"{given.status}: {given.read(300).decode('utf-8', 'replace')}"
            finally:
                connection.close()
            if given.status != 503 or time.monotonic() > deadline:
                raise Gone(said)
            time.sleep(pause)
            pause = min(2 * pause, 10.0)
    except (OSError, HTTPException, ValueError) as error:
        raise Gone(f"{type(error).__name__}: {error}") from error


def read_about(given: HTTPResponse) -> dict[str, Any]:
    return json.loads(given.read())


def read_scores(given: HTTPResponse, rows: int, report: Callable[[int], None]) -> list[Score]:
    """The scores of so many samples; `report` is told of progress. Raises Gone."""
    for kind, content in _frames(given):
        if kind == FAILED:
            raise Gone(content.decode("utf-8", "replace"))
        if kind == SCORES:
            scores = from_table(from_bytes(content))
            if len(scores) != rows:
                raise Gone(f"{len(scores)} scores for {rows} samples")
            return scores
        report(COUNT.unpack(content)[0])
    raise Gone("it stopped in the middle of an answer")


def _frames(given: HTTPResponse) -> Iterator[tuple[bytes, bytes]]:
    while len(head := given.read(FRAME.size)) == FRAME.size:
        kind, length = FRAME.unpack(head)
        content = given.read(length)
        if len(content) < length:
            return
        yield kind, content


def request_of(samples: Sequence[Sample], config: ScoringConfig) -> bytes:
    told = {name: value for name, value in config.to_dict().items() if name != "algorithm"}
    return to_bytes(samples_table(list(samples)).replace_schema_metadata({"config": json.dumps(told)}))


def to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(content: bytes) -> pa.Table:
    """Raises ValueError."""
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()


class _Connection(HTTPConnection):
    """To a socket of the file system, or a port of this machine."""

    def __init__(self, address: str, timeout: float) -> None:
        kind, _, where = address.partition(":")
        super().__init__("127.0.0.1", int(where) if kind == "port" else None, timeout=timeout)
        self.path = where if kind == "unix" else ""

    def connect(self) -> None:
        if not self.path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)
