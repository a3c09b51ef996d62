"""Keys and values of shared prefixes, computed once and reused: exact, or not done at all.

The rows come out in sections. Within a section the prefixes needed are alive at once, so a section ends where their
memory would pass a fixed size; a prefix above several sections is computed again in each, which costs little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsentry_lib.scoring.encoding import Encoded
from gradsentry_lib.scoring.forward import passes, run_body
from gradsentry_lib.scoring.kv_cache import EMPTY, KVCache
from gradsentry_lib.scoring.prefix import Node, prefix_tree

PAST_BYTES = 1 << 30  # keys and values alive at a time


@dataclass(frozen=True)
class Job:
    """What is left to compute of row `index`.

    `ids`: the tokens after `past` whose states predict something, so all but the row's last. `spans`: its supervised
    spans, counted from the first of them. `targets`: the supervised tokens.
    """

    index: int
    ids: np.ndarray
    spans: tuple[tuple[int, int], ...]
    targets: np.ndarray
    past: KVCache


def sections(body: Any, rows: Sequence[Encoded], budget: int, longest_past: int) -> Iterator[list[Job]]:
    """The rows as jobs, each once, grouped so that the caches of one group fit in memory together.

    `budget`: tokens a pass. `longest_past`: see `past_limit`; 0 switches reuse off.
    """
    if not rows:
        return
    # Pasts of unequal length are padded to the longest, so positions inside the cache may reach twice a row's length.
    if 2 * max(len(row.ids) for row in rows) > longest_past:
        yield [_job(i, row, 0, EMPTY) for i, row in enumerate(rows)]
        return
    for nodes in _bounded(_preorder(prefix_tree(rows)), _bytes_a_token(body)):
        caches: dict[int, KVCache] = {}
        _compute(body, rows, nodes, caches, budget)
        jobs = [_job(i, rows[i], node.end, caches.get(id(node), EMPTY)) for node in nodes for i in node.rows]
        if jobs:
            yield jobs


def _job(index: int, row: Encoded, start: int, past: KVCache) -> Job:
    """The job of a row whose first `start` tokens are in `past`."""
    spans = tuple((begin - start, end - start) for begin, end in row.spans)
    targets = np.concatenate([row.ids[begin:end] for begin, end in row.spans])
    return Job(index, row.ids[start : row.spans[-1][1] - 1], spans, targets, past)


def _preorder(root: Node) -> Iterator[Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children)


def _bounded(nodes: Iterator[Node], bytes_a_token: int) -> Iterator[list[Node]]:
    """Cuts a walk of the tree where the caches of one section would pass PAST_BYTES."""
    section: list[Node] = []
    size = 0
    for node in nodes:
        if section and size + node.end * bytes_a_token > PAST_BYTES:
            yield section
            section, size = [], 0
        section.append(node)
        size += node.end * bytes_a_token
    if section:
        yield section


def _compute(
    body: Any, rows: Sequence[Encoded], nodes: Sequence[Node], caches: dict[int, KVCache], budget: int
) -> None:
    """Fills `caches` for the nodes and for ancestors that stand in earlier sections, level by level."""
    needed: dict[int, Node] = {}
    for node in nodes:
        at: Node | None = node
        while at is not None and at.end and id(at) not in needed:
            needed[id(at)] = at
            at = at.parent
    ready = [node for node in needed.values() if not (node.parent and node.parent.end)]
    while ready:
        for members in passes(body, [node.end - node.start for node in ready], budget):
            batch = [ready[i] for i in members]
            before = [caches.get(id(node.parent), EMPTY) for node in batch]
            _, made = run_body(body, [rows[n.row].ids[n.start : n.end] for n in batch], before, keep=True)
            caches.update(zip(map(id, batch), made, strict=True))
        done = {id(node) for node in ready}
        ready = [node for node in needed.values() if node.parent and id(node.parent) in done]


def _bytes_a_token(body: Any) -> int:
    config = body.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * next(body.parameters()).element_size()
