"""Exact top-k search: memory holds all queries, and the documents are streamed in blocks.

A proposer multiplies a block in float32 and returns the candidates that may be among the best
(:mod:`llara_eval.search.candidates`). The error of such a product is bounded, so that no document of the
result is lost. The candidates are then scored exactly, as float64 inner products that are rounded once to
float32. Therefore the result depends neither on the proposer, nor on shards, blocks or threads.

Products of float16 numbers are multiples of 2⁻⁴⁸. If the lengths of two vectors multiply to at most 32, as
those of unit vectors do, every sum of such products is exact in float64, in any order, and a score depends on
the two vectors alone.

Shapes: Q queries, N documents, n documents of a shard or block, D width, P pairs.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
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
"""Candidates in memory (300 MB): 10,000 queries at depth 1,000; more queries take another pass."""

SCORES, COMPONENTS = 1 << 20, 1 << 20
"""The most scores and the most components of documents in one block: 4 MiB each."""

SMALLEST, LARGEST = 256, 8_192
"""The fewest and most documents of a block; a pass has at least as many queries as ``SMALLEST``."""

EXACT = 1 << 17
"""Components of documents that become float64 at a time: 1 MiB, which stays in the processor's cache."""

Rows = NDArray[Any]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Index:
    """The documents that are searched.

    Attributes:
        shards: The documents, in order; they are read more than once.
        size: N.
        decode: Turns rows of a shard into a tensor (n, D), of a dtype whose values float32 holds exactly.
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
        """Return the pairs that a mask (P,) or positions select."""
        return Pairs(self.query[chosen], self.row[chosen], self.score[chosen])


def as_tensor(rows: Rows) -> torch.Tensor:
    """Return an array as a tensor that shares its memory and must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(rows)


def index_of(documents: VectorStore) -> Index:
    """Return an index of the vectors of a complete store, as they are stored."""
    return Index(documents, sum(shard.rows for shard in documents.listing.shards), as_tensor)


def read_queries(store: VectorStore) -> Queries:
    """Read a store of queries into memory."""
    shards = list(store)
    ids = np.concatenate([shard.ids for shard in shards])
    return Queries(ids, np.concatenate([shard.vectors for shard in shards]))


def score(vectors: Rows, index: Index, query: Numbers, row: Numbers) -> Pairs:
    """Score pairs exactly, a few documents at a time.

    The pairs are rows ``query`` (P,), ascending, of ``vectors`` (Q, D) with rows ``row`` (P,) of the index.
    """
    order = np.argsort(row, kind="stable")
    used, bounds = np.unique(row[order], return_index=True)
    bounds = np.append(bounds, len(row))
    queries, query_numbers = torch.from_numpy(vectors).double(), np.arange(len(vectors) + 1)
    scores = np.empty(len(row), dtype=np.float32)
    step = max(1, EXACT // vectors.shape[1])
    start = 0
    for shard in index.shards:
        begin, end = np.searchsorted(used, (start, start + len(shard.ids)))
        for low in range(begin, end, step):
            high = min(low + step, end)
            documents = index.decode(shard.vectors[used[low:high] - start]).double()
            pairs = np.sort(order[bounds[low] : bounds[high]])  # the pairs of these documents, by query
            columns = np.searchsorted(used[low:high], row[pairs])
            query_bounds = np.searchsorted(query[pairs], query_numbers)
            scores[pairs] = _products(queries, documents, query_bounds, columns)
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
    """Return the mask (P,) of the first ``depth`` pairs of each query in the canonical order."""
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
    """Return pairs as hits, which have the identifiers of the documents."""
    used, doc = np.unique(pairs.row, return_inverse=True)
    doc_ids = np.empty(len(used), dtype=object)
    start = 0
    for shard in index.shards:
        begin, end = np.searchsorted(used, (start, start + len(shard.ids)))
        doc_ids[begin:end] = shard.ids[used[begin:end] - start]
        start += len(shard.ids)
    return Hits(queries.ids, doc_ids, pairs.query, doc, pairs.score)


def nearest(queries: Queries, index: Index, depth: int, proposer: str, progress: Progress) -> Pairs:
    """Find the documents with the largest inner products.

    The result is the first ``depth`` documents of each query in the canonical order, or all documents if
    there are fewer; it is unordered. The proposers ``torch`` and ``faiss`` give the same result.

    Raises:
        UsageError: No proposer has that name.
        MissingPartError: The proposer's library is not installed.
        DataError: A vector is not finite.
    """
    proposer_class, depth = proposer_named(proposer), min(depth, index.size)
    batch_size = max(SMALLEST, CANDIDATES // (2 * (depth + SMALLEST)))
    starts = range(0, len(queries.ids), batch_size)
    parts = []
    with progress.task(f"search ({proposer})", index.size * len(starts)) as advance, full_precision():
        for start in starts:
            batch = Queries(*(column[start : start + batch_size] for column in queries))
            pairs = score(batch.vectors, index, *_candidates(batch, index, depth, proposer_class, advance))
            pairs = pairs.take(first(pairs, batch, index, depth))
            parts.append(pairs._replace(query=pairs.query + start))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _candidates(
    queries: Queries, index: Index, depth: int, proposer: type[Proposer], advance: Advance
) -> tuple[Numbers, Numbers]:
    """Return every pair that may be among the best: rows of queries, ascending, and rows of documents."""
    vectors = torch.from_numpy(queries.vectors).float()
    count, width = vectors.shape
    query_lengths = _lengths(vectors, lambda row: f"query {queries.ids[row]!r}")
    size = max(min(SCORES // count, COMPONENTS // width, LARGEST), SMALLEST)
    propose = proposer(vectors, depth, size)
    reservoir = Reservoir(count, depth, size)
    row, longest = 0, 0.0
    for block in _blocks(index, size, width):
        longest = max(longest, _lengths(block, partial(_document, index, row)).max())
        reservoir.slack = 2 * rounding(width) * query_lengths * longest
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
    """For queries with more ties than room, keep the candidates that are first in the canonical order."""
    query, row = reservoir.pairs()
    crowded = reservoir.crowded[query]
    pairs = score(queries.vectors, index, query[crowded], row[crowded])
    chosen = np.ones(len(query), dtype=np.bool_)
    chosen[crowded] = first(pairs, queries, index, depth)
    reservoir.keep(chosen)


def _blocks(index: Index, size: int, width: int) -> Iterator[torch.Tensor]:
    """Yield blocks (n, D) of ``size`` documents in float32 on the device; all blocks share their memory."""
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


def _lengths(vectors: torch.Tensor, name_of: Callable[[int], str]) -> NDArray[np.float64]:
    """Return the lengths (n,) of vectors (n, D).

    Raises:
        DataError: A vector is not finite; ``name_of`` turns its row into a name for the message.
    """
    lengths: NDArray[np.float64] = torch.linalg.vector_norm(vectors, dim=1).double().cpu().numpy()
    finite = np.isfinite(lengths)
    if not finite.all():
        raise DataError(f"the vector of {name_of(int(np.argmin(finite)))} is not finite")
    return lengths


def _document(index: Index, first_row: int, row: int) -> str:
    ids = chain.from_iterable(shard.ids for shard in index.shards)
    return f"document {next(islice(ids, first_row + row, None))!r}"
