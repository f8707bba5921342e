"""Exact top-k: all queries resident, the documents streamed in blocks.

A backend multiplies a block in float32 and proposes what may belong to the best. How far such a product can
be off is known, so that nothing that belongs is lost; what is proposed is then scored exactly. So the result
does not depend on the backend, on how the store is cut, on the size of a block, or on the number of threads.

Shapes: Q queries, n documents of a block, D width.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.protocols import SILENT, Advance, Progress
from llara_eval.core.types import Hits
from llara_eval.encoding.devices import default_device
from llara_eval.search.candidates import Proposer, backend_named, full_precision, rounding
from llara_eval.search.exact import Index, Numbers, Pairs, Queries, as_hits, first, gather, score, stored
from llara_eval.search.reservoir import Reservoir
from llara_eval.vectors.vector_store import VectorStore

CANDIDATES = 3 << 23
"""Candidates held at a time (300 MB): 10,000 queries of depth 1,000; more queries take another pass."""

SCORES, COMPONENTS = 1 << 20, 1 << 20
"""The most scores, and components of documents, of one block: 4 MiB each."""

SMALLEST, LARGEST = 256, 8_192
"""Documents of a block, at least and at most; and queries of a pass, at least."""


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
        queries: A complete store of query vectors.
        documents: A complete store of document vectors.
        depth: Documents wanted for each query.
        backend: ``torch`` or ``faiss`` (flat); both give the same hits.
        progress: Where to show how far the work is.

    Returns:
        The first ``depth`` of each query in the canonical order, or all there are; unordered.

    Raises:
        UsageError: The backend is unknown.
        MissingPartError: The backend is not installed.
        DataError: A vector is not finite.
    """
    asked, index = gather(queries), stored(documents)
    return as_hits(nearest(asked, index, depth, backend, progress), asked, index)


def nearest(asked: Queries, index: Index, depth: int, backend: str, progress: Progress) -> Pairs:
    """Find what :func:`search` does in any index; queries are float16 or float32."""
    proposer, depth = backend_named(backend), min(depth, index.size)
    at_once = max(SMALLEST, CANDIDATES // (2 * (depth + SMALLEST)))
    passes = range(0, len(asked.ids), at_once)
    found = []
    with progress.task(f"search ({backend})", index.size * len(passes)) as advance, full_precision():
        for start in passes:
            some = Queries(asked.ids[start : start + at_once], asked.vectors[start : start + at_once])
            pairs = score(some.vectors, index, *_candidates(some, index, depth, proposer, advance))
            pairs = pairs.take(first(pairs, some, index, depth))
            found.append(pairs._replace(query=pairs.query + start))
    return Pairs(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _candidates(
    asked: Queries, index: Index, depth: int, backend: type[Proposer], advance: Advance
) -> tuple[Numbers, Numbers]:
    """Return every pair that may be among the best: rows of queries, ascending, and of documents."""
    queries = torch.from_numpy(asked.vectors).float()
    lengths = _lengths(queries)
    if (bad := _not_finite(lengths)) is not None:
        raise DataError(f"the vector of query {asked.ids[bad]!r} is not finite")
    size = max(min(SCORES // len(queries), COMPONENTS // queries.shape[1], LARGEST), SMALLEST)
    propose = backend(queries, depth, size)
    reservoir = Reservoir(len(queries), depth, size)
    row, longest = 0, 0.0
    for block in _blocks(index, size, queries.shape[1]):
        norms = _lengths(block)
        if (bad := _not_finite(norms)) is not None:
            raise DataError(f"the vector of document {_id(index, row + bad)!r} is not finite")
        longest = max(longest, norms.max())
        reservoir.slack = 2 * rounding(queries.shape[1]) * lengths * longest
        reservoir.add(*propose(block, reservoir.floor), row, len(block))
        if reservoir.crowded.any():
            reservoir.compress()
        if reservoir.crowded.any():
            _settle_ties(reservoir, asked, index, depth)
        row += len(block)
        advance(len(block))
    reservoir.compress()
    return reservoir.pairs()


def _settle_ties(reservoir: Reservoir, asked: Queries, index: Index, depth: int) -> None:
    """Where a query has more ties than room, keep those that come first in the canonical order."""
    query, row = reservoir.pairs()
    mine = reservoir.crowded[query]
    pairs = score(asked.vectors, index, query[mine], row[mine])
    chosen = np.ones(len(query), dtype=np.bool_)
    chosen[mine] = first(pairs, asked, index, depth)
    reservoir.keep(chosen)


def _blocks(index: Index, size: int, width: int) -> Iterator[torch.Tensor]:
    """Yield documents as (n, D) float32 on the device, ``size`` at a time, in memory that is used again."""
    block = torch.empty(size, width, device=default_device())
    filled = 0
    for shard in index.shards:
        start = 0
        while start < len(shard.ids):
            rows = index.decode(shard.vectors[start : start + size - filled])
            if block.is_cuda:
                rows = rows.pin_memory().to(block.device, non_blocking=True)
            block[filled : filled + len(rows)].copy_(rows)
            start, filled = start + len(rows), filled + len(rows)
            if filled == size:
                yield block
                filled = 0
    if filled:
        yield block[:filled]


def _lengths(vectors: torch.Tensor) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = torch.linalg.vector_norm(vectors, dim=1).double().cpu().numpy()
    return lengths


def _not_finite(lengths: NDArray[np.float64]) -> int | None:
    """Return the first row whose length is not finite."""
    finite = np.isfinite(lengths)
    return None if finite.all() else int(np.argmin(finite))


def _id(index: Index, row: int) -> str:
    """Return the identifier of a document."""
    for shard in index.shards:
        if row < len(shard.ids):
            return str(shard.ids[row])
        row -= len(shard.ids)
    raise IndexError(row)
