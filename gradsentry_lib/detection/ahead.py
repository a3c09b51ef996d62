"""Looks made ahead of their turn, side by side: numpy and scipy let other threads work while they count.

What a look finds depends on what it looks at and on the state of the search alone. Where an earlier one has changed
that state, those ahead of it are made again when it is their turn: so what is found is what one look after the other
finds, however many threads there are.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Generic, TypeVar

MOST = 8  # threads: each holds the sets that it draws, some 30 MB in a block of 2,000
BEHIND = 4  # looks begun or waiting for each further thread, that none is idle while the next in turn takes long

State = TypeVar("State")
Item = TypeVar("Item")
Found = TypeVar("Found")


class LookAhead(Generic[State, Item, Found]):
    """`look(state, item)` of every item, by number; `threads` at a time."""

    def __init__(self, look: Callable[[State, Item], Found], items: Sequence[Item], threads: int) -> None:
        self.look, self.items, self.threads = look, items, threads
        self.pool = ThreadPoolExecutor(threads, "look")
        self.limits = ExitStack()
        self.begun: dict[int, tuple[State, Future[Found]]] = {}

    def __enter__(self) -> "LookAhead[State, Item, Found]":
        if self.threads > 1:  # else each look's products are made by as many threads again, which wait for each other
            from threadpoolctl import threadpool_limits

            self.limits.enter_context(threadpool_limits(1, user_api="blas"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.limits.close()

    def at(self, number: int, state: State) -> Found:
        """What is found at an item; asked in order. A state is another one if it is not the same object."""
        most = 1 + BEHIND * (self.threads - 1)
        for ahead in range(number, min(number + most, len(self.items))):
            known = self.begun.get(ahead)
            if known is not None and known[0] is not state:
                known[1].cancel()
                known = None
            if known is None:
                self.begun[ahead] = state, self.pool.submit(self.look, state, self.items[ahead])
        return self.begun.pop(number)[1].result()


def usable_threads() -> int:
    """As many as the process may use: what OMP_NUM_THREADS says, as for all else that counts here, else its cores."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(told) if told.isdigit() and int(told) else cores, MOST)
