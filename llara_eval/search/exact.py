"""Exact scores of chosen pairs: float64 inner products, rounded once to float32.

Products of float16 are multiples of 2⁻⁴⁸. Where the lengths of two vectors multiply to 32 at most, as those
of unit vectors do, every sum of them is exact in float64, in any order; so a score depends on nothing but
the two vectors.

Shapes: Q queries, N documents, n documents of a shard, D width, P pairs.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.core.types import Hits, Ids
from llara_eval.vectors.vector_store import Vectors, VectorStore

EXACT = 1 << 17
"""Components of documents turned into float64 at a time (1 MiB), which stay in the cache as queries pass."""

Rows = NDArray[Any]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Index:
    """What is searched.

    Attributes:
        shards: The documents, in order; gone through more than once.
        size: N.
        decode: Makes rows of a shard a tensor (n, D), of any type whose values float32 holds exactly.
    """

    shards: Iterable[Vectors]
    size: int
    decode: Callable[[Rows], torch.Tensor]


class Queries(NamedTuple):
    """What is asked.

    Attributes:
        ids: (Q,).
        vectors: (Q, D) float16 or float32.
    """

    ids: Ids
    vectors: Rows


class Pairs(NamedTuple):
    """Pairs of a query and a document.

    Attributes:
        query: (P,) rows of queries, ascending.
        row: (P,) rows of documents.
        score: (P,) float32.
    """

    query: Numbers
    row: Numbers
    score: NDArray[np.float32]

    def take(self, chosen: NDArray[np.bool_] | Numbers) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(self.query[chosen], self.row[chosen], self.score[chosen])


def as_tensor(rows: Rows) -> torch.Tensor:
    """Return an array as a tensor on the same memory, which is not to be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(rows)


def stored(documents: VectorStore) -> Index:
    """Return the documents of a store, to be searched as they are."""
    return Index(documents, sum(piece.rows for piece in documents.listing.pieces), as_tensor)


def gather(store: VectorStore) -> Queries:
    """Read a store of queries into memory."""
    shards = list(store)
    ids = np.concatenate([shard.ids for shard in shards])
    return Queries(ids, np.concatenate([shard.vectors for shard in shards]))


def score(asked: Rows, index: Index, query: Numbers, row: Numbers) -> Pairs:
    """Score pairs, a few documents at a time.

    Args:
        asked: (Q, D) queries.
        index: The documents.
        query: (P,) rows of queries, ascending.
        row: (P,) rows of documents.
    """
    order = np.argsort(row, kind="stable")
    used, bounds = np.unique(row[order], return_index=True)
    bounds = np.append(bounds, len(row))
    queries, each = torch.from_numpy(asked).double(), np.arange(len(asked) + 1)
    scores = np.empty(len(row), dtype=np.float32)
    step = max(1, EXACT // asked.shape[1])
    start = 0
    for shard in index.shards:
        begin, end = np.searchsorted(used, (start, start + len(shard.ids)))
        for low in range(begin, end, step):
            high = min(low + step, end)
            documents = index.decode(shard.vectors[used[low:high] - start]).double()
            mine = np.sort(order[bounds[low] : bounds[high]])  # query after query
            columns = np.searchsorted(used[low:high], row[mine])
            scores[mine] = _products(queries, documents, np.searchsorted(query[mine], each), columns)
        start += len(shard.ids)
    return Pairs(query, row, scores)


def _products(
    left: torch.Tensor, right: torch.Tensor, bounds: Numbers, columns: Numbers
) -> NDArray[np.float64]:
    """Return products of row i of ``left`` with rows ``columns[bounds[i]:bounds[i + 1]]`` of ``right``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        wanted = torch.sparse_csr_tensor(
            torch.from_numpy(bounds),
            torch.from_numpy(columns),
            torch.zeros(len(columns), dtype=torch.float64),
            (len(left), len(right)),
            check_invariants=False,
        )
    products: NDArray[np.float64] = torch.sparse.sampled_addmm(wanted, left, right.T, beta=0).values().numpy()
    return products


def first(pairs: Pairs, queries: Queries, index: Index, depth: int) -> NDArray[np.bool_]:
    """Return which pairs (P,) are the first ``depth`` of their query in the canonical order."""
    chosen = np.ones(len(pairs.query), dtype=np.bool_)
    ties = []
    for mine in np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(pairs.query)) + 1):
        if len(mine) > depth:
            scores = pairs.score[mine]
            last = np.partition(scores, -depth)[-depth]
            chosen[mine] = scores >= last
            if excess := chosen[mine].sum() - depth:
                ties.append((mine[scores == last], excess))
    if ties:
        tied = as_hits(pairs.take(np.concatenate([mine for mine, _ in ties])), queries, index)
        ids = iter(tied.doc_ids[tied.doc])
        for mine, excess in ties:
            by_id = sorted(zip(islice(ids, len(mine)), mine.tolist(), strict=True))
            chosen[[pair for _, pair in by_id[:excess]]] = False
    return chosen


def as_hits(pairs: Pairs, queries: Queries, index: Index) -> Hits:
    """Bring pairs together with the identifiers of their documents."""
    used, doc = np.unique(pairs.row, return_inverse=True)
    doc_ids = np.empty(len(used), dtype=object)
    start = 0
    for shard in index.shards:
        begin, end = np.searchsorted(used, (start, start + len(shard.ids)))
        doc_ids[begin:end] = shard.ids[used[begin:end] - start]
        start += len(shard.ids)
    return Hits(queries.ids, doc_ids, pairs.query, doc, pairs.score)
