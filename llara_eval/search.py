"""Exact top-k over a vector store: all queries resident, the corpus streamed once.

A backend proposes candidates in float32, some more than asked for; one function then scores every
candidate in float64 and rounds once, so that the ranking does not depend on the backend, on how
the store is cut, or on the number of threads.

Shapes: Q queries, N documents, n documents of a shard, D width, C candidates a query.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.errors import MissingPartError, UsageError
from llara_eval.protocols import SILENT, Progress
from llara_eval.types import Hits, Ids
from llara_eval.vectors import VectorStore

MARGIN = 100
"""Candidates beyond the wanted depth: rounding can move a document by a few ranks, not by this many."""

Proposer = Callable[
    [NDArray[np.float32], NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]
]


def search(
    queries: VectorStore,
    documents: VectorStore,
    depth: int,
    *,
    backend: str = "torch",
    progress: Progress = SILENT,
) -> Hits:
    """Find the documents with the largest inner product.

    Args:
        queries: A complete store of Q vectors.
        documents: A complete store of N vectors.
        depth: Documents wanted for each query.
        backend: ``torch`` or ``faiss`` (flat); both give the same hits.
        progress: Where to show how far the work is.

    Returns:
        Hits with min(N, depth + MARGIN) rows a query, in no particular order.

    Raises:
        UsageError: The backend is unknown.
        MissingPartError: The backend is not installed.
    """
    propose = _backend(backend)
    wanted = depth + MARGIN
    query_ids = np.concatenate([shard.ids for shard in queries])
    asked = np.concatenate([shard.vectors for shard in queries]).astype(np.float32)
    best = np.empty((len(asked), 0), dtype=np.float32)
    rows = np.empty((len(asked), 0), dtype=np.int64)
    offset = 0
    with progress.task(f"search ({backend})", len(documents.listing.pieces)) as advance:
        for shard in documents:
            scores, found = propose(asked, shard.vectors.astype(np.float32), min(wanted, len(shard.ids)))
            best = np.concatenate([best, scores], axis=1)
            rows = np.concatenate([rows, found + offset], axis=1)
            if best.shape[1] > wanted:
                top = np.argpartition(-best, wanted - 1, axis=1)[:, :wanted]
                best, rows = np.take_along_axis(best, top, 1), np.take_along_axis(rows, top, 1)
            offset += len(shard.ids)
            advance(1)
    return _score(query_ids, asked, documents, rows)


def _score(
    query_ids: Ids, queries: NDArray[np.float32], documents: VectorStore, rows: NDArray[np.int64]
) -> Hits:
    """Score candidates in float64 and round to float32.

    Args:
        query_ids: (Q,).
        queries: (Q, D).
        documents: The documents.
        rows: (Q, C) row numbers over the whole store.
    """
    used, doc = np.unique(rows, return_inverse=True)
    doc = doc.reshape(rows.shape)
    scores = np.empty(rows.shape, dtype=np.float32)
    doc_ids = np.empty(len(used), dtype=object)
    exact = queries.astype(np.float64)
    first = 0
    for shard in documents:
        begin, end = np.searchsorted(used, (first, first + len(shard.ids)))
        local = used[begin:end] - first
        doc_ids[begin:end] = shard.ids[local]
        vectors = shard.vectors[local].astype(np.float64)
        for row, query in enumerate(exact):
            mine = np.flatnonzero((doc[row] >= begin) & (doc[row] < end))
            scores[row, mine] = vectors[doc[row, mine] - begin] @ query
        first += len(shard.ids)
    query_rows = np.repeat(np.arange(len(queries)), rows.shape[1])
    return Hits(query_ids, doc_ids, query_rows, doc.ravel(), scores.ravel())


def _torch_top(
    queries: NDArray[np.float32], documents: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the scores and rows, (Q, count) each, of the best documents of a shard."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    product = torch.from_numpy(queries).to(device) @ torch.from_numpy(documents).to(device).T
    top = torch.topk(product, count, dim=1, sorted=False)
    return top.values.cpu().numpy(), top.indices.cpu().numpy()


def _faiss_top(
    queries: NDArray[np.float32], documents: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the scores and rows, (Q, count) each, of the best documents of a shard."""
    import faiss

    index = faiss.IndexFlatIP(documents.shape[1])
    index.add(documents)
    scores, found = index.search(queries, count)
    return scores, found


BACKENDS: Mapping[str, Proposer] = MappingProxyType({"torch": _torch_top, "faiss": _faiss_top})
"""The ways to propose candidates."""


def _backend(name: str) -> Proposer:
    if name not in BACKENDS:
        raise UsageError(f"search backend {name!r} is not one of {', '.join(BACKENDS)}")
    if name == "faiss":
        try:
            import faiss  # noqa: F401
        except ImportError as error:
            raise MissingPartError("the faiss backend needs: pip install faiss-cpu") from error
    return BACKENDS[name]
