"""For a flagged row the clean row that asks the most alike thing: what an answer looks like here when nothing is wrong.

Cosine of word counts, rare words weighted up, against some of the batch's clean rows. A picture for a person, no
evidence: nothing is decided by it.
"""

from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from gradsentry_lib.detection.prompts import tokenize

BUCKETS = 1 << 18  # words are counted by their hash
WORDS = 300  # of a prompt that are read
BLOCK = 256  # flagged rows compared at a time


def nearest(prompts: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """(N,) for each of N prompts the position of the most alike of M others; -1 where none shares a word."""
    from scipy import sparse

    if not prompts or not among:
        return np.full(len(prompts), -1)
    counted = [Counter(crc32(word.encode("utf-8", "replace")) % BUCKETS for word in tokenize(p[: 20 * WORDS])[:WORDS])
               for p in (*prompts, *among)]  # fmt: skip
    indices = np.concatenate([np.fromiter(row, np.int64, len(row)) for row in counted])
    values = np.concatenate([np.fromiter(row.values(), np.float32, len(row)) for row in counted])
    bounds = np.cumsum([0, *map(len, counted)])
    matrix = sparse.csr_matrix((values, indices, bounds), shape=(len(counted), BUCKETS))
    seen = np.bincount(indices, minlength=BUCKETS)
    matrix = matrix @ sparse.diags(np.log(len(counted) / np.maximum(seen, 1) + 1e-3).astype(np.float32))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    matrix = sparse.diags(1 / np.maximum(norms, 1e-9)) @ matrix
    own, others = matrix[: len(prompts)], matrix[len(prompts) :].T.tocsr()
    found = np.full(len(prompts), -1)
    for start in range(0, len(prompts), BLOCK):
        alike = (own[start : start + BLOCK] @ others).toarray()
        best = alike.argmax(1)
        found[start : start + BLOCK] = np.where(alike.max(1) > 0, best, -1)
    return found
