"""Blocks of rows searched for triggers on a Ray cluster: the verdicts of one process, from many.

    blocks -> actors, one block each -> what was found, in the blocks' order
                  |        ^
              questions  answers      the model is asked where the search was started, which has it loaded

A block is searched the same way wherever it is; one whose actor dies is searched again by another, and what was found
in it before counts for nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Queue
from threading import Thread
from typing import Any

from gradsentry_lib.detection.blocks import SEARCH, Block
from gradsentry_lib.detection.config import DetectionConfig
from gradsentry_lib.detection.reason import Question, Swapped
from gradsentry_lib.detection.search import Detection
from gradsentry_lib.errors import UnusableCluster
from gradsentry_lib.scoring.config import Cluster
from gradsentry_lib.scoring.ray_engine import MOST_LOST, cause, joined, plan


@contextmanager
def searching(cluster: Cluster | None) -> Iterator[None]:
    """Has several blocks of rows searched there for as long as this lasts; None: in this process."""
    if cluster is None:
        yield
        return
    before = SEARCH.set(partial(search_on_cluster, cluster))
    try:
        yield
    finally:
        SEARCH.reset(before)


def search_on_cluster(
    cluster: Cluster, blocks: Iterable[Block], config: DetectionConfig, swapped: Swapped | None
) -> Iterator[Detection]:
    """See `blocks.Search`. Raises UnusableCluster where there is none, or where its actors end before their work."""
    with joined(cluster.address) as ray:
        pool = plan(ray.cluster_resources(), "cpu", cluster.workers)
        made = ray.remote(num_cpus=pool.cpus)(Searcher)
        actors = [made.remote() for _ in range(pool.workers)]
        idle, todo, lost = list(actors), iter(enumerate(blocks)), 0
        left: list[tuple[int, Block]] = []  # by actors that died
        waiting: dict[Any, tuple[Any, int, Block]] = {}
        ready: dict[int, Detection] = {}
        shown = 0
        try:
            while True:
                while idle and (one := left.pop() if left else next(todo, None)) is not None:
                    actor = idle.pop()
                    waiting[actor.begin.remote(one[1], config, swapped is not None)] = (actor, *one)
                if not waiting:
                    return
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                actor, number, block = waiting.pop(done)
                try:
                    what, said = ray.get(done)
                except ray.exceptions.RayActorError as error:
                    lost += 1
                    if lost > MOST_LOST:
                        raise UnusableCluster(f"searching on Ray failed: {cause(error)}") from error
                    left.append((number, block))
                    idle.append(made.remote())
                    actors.append(idle[-1])
                    continue
                except ray.exceptions.RayError as error:
                    raise UnusableCluster(f"searching on Ray failed: {cause(error)}") from error
                if what == "asks" and swapped is not None:
                    waiting[actor.answer.remote(swapped(said))] = (actor, number, block)
                elif what == "failed":
                    raise said
                else:
                    ready[number], lost = said, 0
                    idle.append(actor)
                while shown in ready:
                    yield ready.pop(shown)
                    shown += 1
        finally:
            for actor in actors:
                ray.kill(actor)


class Searcher:
    """An actor. Each call gives what comes next of its block: a question, what was found, or what went wrong."""

    def __init__(self) -> None:
        self.told: Queue[tuple[str, Any]] = Queue()
        self.said: Queue[Any] = Queue()

    def begin(self, block: Block, config: DetectionConfig, asks: bool) -> tuple[str, Any]:
        Thread(target=self._search, args=(block, config, self._ask if asks else None), daemon=True).start()
        return self.told.get()

    def answer(self, said: Any) -> tuple[str, Any]:
        self.said.put(said)
        return self.told.get()

    def _ask(self, questions: Sequence[Question]) -> Any:
        self.told.put(("asks", list(questions)))
        return self.said.get()

    def _search(self, block: Block, config: DetectionConfig, swapped: Swapped | None) -> None:
        try:
            self.told.put(("found", block.search(config, swapped)))
        except Exception as error:  # of any kind: it is raised where the search was started
            self.told.put(("failed", error))
