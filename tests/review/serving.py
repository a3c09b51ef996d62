"""A running review server, in a thread of the test's own process."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from gradsentry_lib.cli.review import _free
from gradsentry_lib.review.server import Desk, make_app
from gradsentry_lib.store.paths import Store
from tests.running import running


@contextmanager
def served(store: Store, by: str = "", port: int = 0) -> Iterator[Desk]:
    desk = Desk(store, _free(port), by)
    with running(uvicorn.Config(make_app(desk), host="127.0.0.1", port=desk.port, log_level="error")):
        yield desk
