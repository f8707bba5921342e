"""Exact top-k search: all queries are held in memory, the documents are streamed in blocks.

A proposer multiplies a block in float32 and names what may be among the best
(:mod:`llara_eval.search.candidates`). The error of such a product is bounded, so that nothing that belongs is
lost; the candidates are then scored exactly, as float64 inner products rounded once to float32. The result
therefore depends neither on the proposer, nor on shards, blocks or threads.

Products of float16 numbers are multiples of 2⁻⁴⁸. Where the lengths of two vectors multiply to 32 at most, as
those of unit vectors do, every sum of them is exact in float64, in any order; so a score depends on nothing
but the two vectors.

Shapes: Q queries, N documents, n documents of a shard or block, D width, P pairs.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.protocols import Advance, Progress
from llara_eval.core.types import Hits, Ids
from llara_eval.encoding.devices import default_device
from llara_eval.search.candidates import Proposer, Reservoir, full_precision, proposer_named, rounding
from llara_eval.vectors.vector_store import Vectors, VectorStore

CANDIDATES = 3 << 23
"""Candidates held at a time (300 MB): 10,000 queries of depth 1,000; more queries take another pass."""

SCORES, COMPONENTS = 1 << 20, 1 << 20
"""The most scores, and components of documents, of one block: 4 MiB each."""

SMALLEST, LARGEST = 256, 8_192
"""Documents of a block, at least and at most; and queries of a pass, at least."""

EXACT = 1 << 17
"""Components of documents turned into float64 at a time (1 MiB), which stay in the cache as queries pass."""

Rows = NDArray[Any]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Index:
    """The documents that are searched.

    Attributes:
        shards: The documents, in order; they are read more than once.
        size: N.
        decode: Turns rows of a shard into a tensor (n, D), of a type whose values float32 holds exactly.
    """

    shards: Iterable[Vectors]
    size: int
    decode: Callable[[Rows], torch.Tensor]


class Queries(NamedTuple):
    """The vectors of queries.

    Attributes:
        ids: (Q,) identifiers.
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
        """Return the pairs that a mask (P,) or positions choose."""
        return Pairs(self.query[chosen], self.row[chosen], self.score[chosen])


def as_tensor(rows: Rows) -> torch.Tensor:
    """Return an array as a tensor on the same memory, which must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(rows)


def stored(documents: VectorStore) -> Index:
    """Return the documents of a complete store as an index of their own vectors."""
    return Index(documents, sum(shard.rows for shard in documents.listing.shards), as_tensor)


def gather(store: VectorStore) -> Queries:
    """Read a store of queries into memory."""
    shards = list(store)
    ids = np.concatenate([shard.ids for shard in shards])
    return Queries(ids, np.concatenate([shard.vectors for shard in shards]))


def score(vectors: Rows, index: Index, query: Numbers, row: Numbers) -> Pairs:
    """Score pairs exactly, a few documents at a time.

    Args:
        vectors: (Q, D) vectors of queries.
        index: The documents.
        query: (P,) rows of queries, ascending.
        row: (P,) rows of documents.
    """
    order = np.argsort(row, kind="stable")
    used, bounds = np.unique(row[order], return_index=True)
    bounds = np.append(bounds, len(row))
    queries, each = torch.from_numpy(vectors).double(), np.arange(len(vectors) + 1)
    scores = np.empty(len(row), dtype=np.float32)
    step = max(1, EXACT // vectors.shape[1])
    start = 0
    for shard in index.shards:
        begin, end = np.searchsorted(used, (start, start + len(shard.ids)))
        for low in range(begin, end, step):
            high = min(low + step, end)
            documents = index.decode(shard.vectors[used[low:high] - start]).double()
            here = np.sort(order[bounds[low] : bounds[high]])  # pairs of these documents, query after query
            columns = np.searchsorted(used[low:high], row[here])
            scores[here] = _products(queries, documents, np.searchsorted(query[here], each), columns)
        start += len(shard.ids)
    return Pairs(query, row, scores)


def _products(
    left: torch.Tensor, right: torch.Tensor, bounds: Numbers, columns: Numbers
) -> NDArray[np.float64]:
    """Return products of row i of ``left`` with rows ``columns[bounds[i]:bounds[i + 1]]`` of ``right``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        pattern = torch.sparse_csr_tensor(
            torch.from_numpy(bounds),
            torch.from_numpy(columns),
            torch.zeros(len(columns), dtype=torch.float64),
            (len(left), len(right)),
            check_invariants=False,
        )
    products: NDArray[np.float64] = (
        torch.sparse.sampled_addmm(pattern, left, right.T, beta=0).values().numpy()
    )
    return products


def first(pairs: Pairs, queries: Queries, index: Index, depth: int) -> NDArray[np.bool_]:
    """Return a mask (P,) of the pairs that are the first ``depth`` of their query in the canonical order."""
    chosen = np.ones(len(pairs.query), dtype=np.bool_)
    ties = []
    for group in np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(pairs.query)) + 1):
        if len(group) > depth:
            scores = pairs.score[group]
            last = np.partition(scores, -depth)[-depth]
            chosen[group] = scores >= last
            if excess := chosen[group].sum() - depth:
                ties.append((group[scores == last], excess))
    if ties:
        tied = as_hits(pairs.take(np.concatenate([group for group, _ in ties])), queries, index)
        ids = iter(tied.doc_ids[tied.doc])
        for group, excess in ties:
            by_id = sorted(zip(islice(ids, len(group)), group.tolist(), strict=True))
            chosen[[pair for _, pair in by_id[:excess]]] = False
    return chosen


def as_hits(pairs: Pairs, queries: Queries, index: Index) -> Hits:
    """Return pairs as hits, with the identifiers of their documents."""
    used, doc = np.unique(pairs.row, return_inverse=True)
    doc_ids = np.empty(len(used), dtype=object)
    start = 0
    for shard in index.shards:
        begin, end = np.searchsorted(used, (start, start + len(shard.ids)))
        doc_ids[begin:end] = shard.ids[used[begin:end] - start]
        start += len(shard.ids)
    return Hits(queries.ids, doc_ids, pairs.query, doc, pairs.score)


def nearest(queries: Queries, index: Index, depth: int, proposer: str, progress: Progress) -> Pairs:
    """Find the documents with the largest inner product.

    Args:
        queries: The queries.
        index: The documents.
        depth: Documents wanted for each query.
        proposer: Who proposes candidates, ``torch`` or ``faiss``; both give the same pairs.
        progress: Where to show how far the work is.

    Returns:
        The first ``depth`` documents of each query in the canonical order, or all there are; unordered.

    Raises:
        UsageError: No proposer has that name.
        MissingPartError: The library of the proposer is not installed.
        DataError: A vector is not finite.
    """
    propose, depth = proposer_named(proposer), min(depth, index.size)
    at_once = max(SMALLEST, CANDIDATES // (2 * (depth + SMALLEST)))
    passes = range(0, len(queries.ids), at_once)
    parts = []
    with progress.task(f"search ({proposer})", index.size * len(passes)) as advance, full_precision():
        for start in passes:
            some = Queries(queries.ids[start : start + at_once], queries.vectors[start : start + at_once])
            pairs = score(some.vectors, index, *_candidates(some, index, depth, propose, advance))
            pairs = pairs.take(first(pairs, some, index, depth))
            parts.append(pairs._replace(query=pairs.query + start))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _candidates(
    queries: Queries, index: Index, depth: int, proposer: type[Proposer], advance: Advance
) -> tuple[Numbers, Numbers]:
    """Return every pair that may be among the best: rows of queries, ascending, and rows of documents."""
    vectors = torch.from_numpy(queries.vectors).float()
    count, width = vectors.shape
    lengths = _lengths(vectors)
    if (bad := _not_finite(lengths)) is not None:
        raise DataError(f"the vector of query {queries.ids[bad]!r} is not finite")
    size = max(min(SCORES // count, COMPONENTS // width, LARGEST), SMALLEST)
    propose = proposer(vectors, depth, size)
    reservoir = Reservoir(count, depth, size)
    row, longest = 0, 0.0
    for block in _blocks(index, size, width):
        norms = _lengths(block)
        if (bad := _not_finite(norms)) is not None:
            raise DataError(f"the vector of document {_id(index, row + bad)!r} is not finite")
        longest = max(longest, norms.max())
        reservoir.slack = 2 * rounding(width) * lengths * longest
        reservoir.add(*propose(block, reservoir.floor), row, len(block))
        if reservoir.crowded.any():
            reservoir.compress()
        if reservoir.crowded.any():
            _settle_ties(reservoir, queries, index, depth)
        row += len(block)
        advance(len(block))
    reservoir.compress()
    return reservoir.pairs()


def _settle_ties(reservoir: Reservoir, queries: Queries, index: Index, depth: int) -> None:
    """Keep the candidates that come first in the canonical order where a query has more ties than room."""
    query, row = reservoir.pairs()
    crowded = reservoir.crowded[query]
    pairs = score(queries.vectors, index, query[crowded], row[crowded])
    chosen = np.ones(len(query), dtype=np.bool_)
    chosen[crowded] = first(pairs, queries, index, depth)
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
    """Return the first row whose length is not finite; None if there is none."""
    finite = np.isfinite(lengths)
    return None if finite.all() else int(np.argmin(finite))


def _id(index: Index, row: int) -> str:
    """Return the identifier of a document."""
    for shard in index.shards:
        if row < len(shard.ids):
            return str(shard.ids[row])
        row -= len(shard.ids)
    raise IndexError(row)
