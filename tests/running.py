"""A server beside a test, in a thread of the test's own process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


@contextmanager
def running(config: uvicorn.Config, *sockets: socket.socket) -> Iterator[None]:
    """A server in a thread of its own, on these sockets where any are given."""
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=(list(sockets) or None,), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield
    server.should_exit = True
    thread.join(10)
